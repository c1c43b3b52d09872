//! One cluster of many machines: its bring-up, passes at rest, and a minute of a roll.

use std::time::Duration;

use serde_json::json;

use super::{deadline, listed, machines_of, number};
use crate::Failure;
use crate::report::{self, Goal, Report};
use crate::site::{Scene, Site};
use crate::usage::{forget_peak, memory};

const NAMESPACE: &str = "large";
const CLUSTER: &str = "cluster";
/// Passes over the settled cluster.
const PASSES: usize = 10;
const PAUSE: Duration = Duration::from_secs(1);
/// How long the roll is watched.
const ROLL: Duration = Duration::from_secs(60);
/// MB above the base, and ms of a pass, that NICO may take.
const MEMORY: f64 = 134.2;
const PASS: f64 = 100.0;

/// One cluster of so many machines.
pub(crate) async fn measure(
    scene: &Scene,
    control_plane: usize,
    workers: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    report::title(&format!("one cluster of {control_plane} + {workers}"));
    let site = Site::start(scene).await?;
    let nico = site.nico(None, &[]).await?;
    let base = memory(&nico).0;
    site.namespace(NAMESPACE).await?;
    let (first, second) = machines_of(CLUSTER, control_plane, workers);
    let names = first
        .into_iter()
        .chain(second)
        .map(|name| (NAMESPACE.to_owned(), name));
    site.machines(names.collect()).await?;
    let machines = control_plane + workers;
    report.figure("memory of NICO at its start", base, "MB", &Goal::None);

    let meter = site.meter(Some(&nico)).await?;
    let mut spec = listed(CLUSTER, control_plane, workers);
    spec["rollout"] = json!({"maxUnavailable": 20, "nodeChecks": false});
    site.apply(vec![(NAMESPACE.to_owned(), CLUSTER.to_owned(), spec)])
        .await?;
    let ready = site
        .clusters
        .wait("the cluster is Ready", deadline(machines), |seen| {
            seen.ready == 1
        })
        .await;
    let bring_up = site.usage(&meter, Some(&nico)).await?;
    report.figure(
        "bring-up: wall time",
        bring_up.wall.as_secs_f64(),
        "s",
        &Goal::None,
    );
    report.figure(
        "bring-up: CPU of NICO a machine",
        bring_up.nico * 1000.0 / number(machines),
        "ms",
        &Goal::None,
    );
    report.figure(
        "bring-up: requests a machine",
        bring_up.requests / number(machines),
        "",
        &Goal::None,
    );
    report::kinds(&bring_up, number(machines));
    report.figure(
        "bring-up: memory above the base, at the most",
        memory(&nico).1 - base,
        "MB",
        &Goal::Most(MEMORY),
    );
    if let Err(failure) = ready {
        report::note(&failure.to_string());
        return Ok(());
    }
    tokio::time::sleep(Duration::from_secs(10)).await;

    forget_peak(&nico);
    let meter = site.meter(Some(&nico)).await?;
    site.passes(NAMESPACE, CLUSTER, PASSES, PAUSE).await?;
    let passes = site.usage(&meter, Some(&nico)).await?;
    report.figure(
        "CPU of a pass at rest",
        passes.nico * 1000.0 / number(PASSES),
        "ms",
        &Goal::Most(PASS),
    );
    report.figure(
        "requests of a pass at rest",
        passes.requests / number(PASSES),
        "",
        &Goal::None,
    );
    report.figure(
        "at rest: memory above the base, at the most",
        memory(&nico).1 - base,
        "MB",
        &Goal::Most(MEMORY),
    );

    forget_peak(&nico);
    let meter = site.meter(Some(&nico)).await?;
    site.change(NAMESPACE, CLUSTER).await?;
    let _ended = tokio::time::timeout(ROLL, async {
        site.clusters.wait("", ROLL, |seen| seen.ready == 0).await?;
        site.clusters.wait("", ROLL, |seen| seen.ready == 1).await
    })
    .await;
    let roll = site.usage(&meter, Some(&nico)).await?;
    let found = rig::crds::configurations(&site.client, NAMESPACE)
        .list(&kube::api::ListParams::default())
        .await?;
    let written = found
        .iter()
        .filter(|it| it.data["spec"]["gitRepo"] == "https://git.example.com/other.git")
        .count();
    report.figure(
        "roll: machines written within a minute",
        number(written),
        "",
        &Goal::None,
    );
    report.figure(
        "roll: CPU of NICO a written machine",
        roll.nico * 1000.0 / number(written.max(1)),
        "ms",
        &Goal::None,
    );
    report.figure(
        "roll: requests a written machine",
        roll.requests / number(written.max(1)),
        "",
        &Goal::None,
    );
    report::kinds(&roll, number(written.max(1)));
    report.figure(
        "roll: memory above the base, at the most",
        memory(&nico).1 - base,
        "MB",
        &Goal::Most(MEMORY),
    );
    Ok(())
}
