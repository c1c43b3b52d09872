//! Clusters of 3+2 that are all applied at once: by the bare client, then by NICO, which is then started again, left alone, and lets
//! go of all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rig::process::Nico;

use super::{deadline, five, names, number, three_and_two};
use crate::Failure;
use crate::bare::{Bare, Recording};
use crate::clusters::Seen;
use crate::report::{self, Goal, Report};
use crate::site::{Scene, Site};
use crate::usage::{Usage, memory};

/// The resync of NICO after its restart, and how many of them it is watched.
const RESYNC: (&str, Duration) = ("10s", Duration::from_secs(10));
const RESYNCS: u32 = 2;
/// How long NIO takes for a machine, where it does not apply at once. A real one mostly takes longer.
const APPLY: Duration = Duration::from_secs(30);
/// How long everything may take to become quiet.
const QUIET: Duration = Duration::from_secs(8);

/// The bring-up of each of these numbers of clusters.
pub(crate) async fn measure(
    scene: &Scene,
    numbers: &[usize],
    report: &mut Report,
) -> Result<(), Failure> {
    let recording = Arc::new(Recording::make(scene).await?);
    report::title("clusters of 3+2, all applied at once");
    report.figure(
        "writes of NICO for one cluster, which the bare client repeats",
        number(recording.len()),
        "",
        &Goal::None,
    );
    let mut fewest = None;
    for clusters in numbers {
        let bare = bare(scene, *clusters, &recording, Duration::ZERO).await?;
        let used = with_nico(scene, *clusters, &bare, report).await?;
        let each = (
            used.requests / number(*clusters),
            used.nico * 1000.0 / number(*clusters),
        );
        let (requests, cpu) = fewest.map_or((Goal::None, Goal::None), |it: (f64, f64)| {
            (Goal::About(it.0), Goal::About(it.1))
        });
        report.figure(
            &format!("{clusters} clusters: requests a cluster"),
            each.0,
            "",
            &requests,
        );
        report.figure(
            &format!("{clusters} clusters: CPU of NICO a cluster"),
            each.1,
            "ms",
            &cpu,
        );
        report::kinds(&used, number(*clusters));
        fewest = fewest.or(Some(each));
    }
    for clusters in numbers {
        let bare = bare(scene, *clusters, &recording, APPLY).await?;
        let site = Site::beside_nio_that_takes(scene, APPLY).await?;
        let BroughtUp { used, .. } = BroughtUp::by_nico(&site, &names(*clusters, false)).await?;
        report.figure(
            &format!(
                "{clusters} clusters, an apply of {} s: wall time, NICO to bare",
                APPLY.as_secs()
            ),
            used.wall.as_secs_f64() / bare.wall.as_secs_f64(),
            "",
            &Goal::Most(1.10),
        );
    }
    Ok(())
}

async fn prepare(site: &Site<'_>, clusters: &[(String, String)]) -> Result<(), Failure> {
    for (namespace, _) in clusters {
        site.namespace(namespace).await?;
    }
    let machines = clusters
        .iter()
        .flat_map(|(namespace, name)| five(namespace, name));
    site.machines(machines.collect()).await
}

fn specs(clusters: &[(String, String)]) -> Vec<(String, String, serde_json::Value)> {
    let spec = |(namespace, name): &(String, String)| {
        (namespace.clone(), name.clone(), three_and_two(name))
    };
    clusters.iter().map(spec).collect()
}

async fn bare(
    scene: &Scene,
    clusters: usize,
    recording: &Arc<Recording>,
    apply: Duration,
) -> Result<Usage, Failure> {
    let site = Site::beside_nio_that_takes(scene, apply).await?;
    let names = names(clusters, false);
    prepare(&site, &names).await?;
    let _bare = Bare::start(&site.account, Arc::clone(recording));
    let meter = site.meter(None).await?;
    site.apply(specs(&names)).await?;
    let all = |seen: &Seen| seen.ready == clusters;
    site.clusters
        .wait(
            "the bare client's clusters are Ready",
            deadline(5 * clusters),
            all,
        )
        .await?;
    site.usage(&meter, None).await
}

/// Clusters that NICO has brought up.
struct BroughtUp {
    nico: Nico,
    used: Usage,
    /// Until the last of them got its first status.
    last: Duration,
}

impl BroughtUp {
    async fn by_nico(site: &Site<'_>, clusters: &[(String, String)]) -> Result<Self, Failure> {
        prepare(site, clusters).await?;
        let nico = site.nico(None, &[]).await?;
        let meter = site.meter(Some(&nico)).await?;
        let began = Instant::now();
        site.apply(specs(clusters)).await?;
        let all = |seen: &Seen| seen.ready == clusters.len();
        let deadline = deadline(5 * clusters.len());
        let seen = site
            .clusters
            .wait("NICO's clusters are Ready", deadline, all)
            .await?;
        let last = seen.last_look.map(|at| at.saturating_duration_since(began));
        Ok(Self {
            used: site.usage(&meter, Some(&nico)).await?,
            nico,
            last: last.unwrap_or_default(),
        })
    }
}

async fn with_nico(
    scene: &Scene,
    clusters: usize,
    bare: &Usage,
    report: &mut Report,
) -> Result<Usage, Failure> {
    let site = Site::start(scene).await?;
    let names = names(clusters, false);
    let BroughtUp { nico, used, last } = BroughtUp::by_nico(&site, &names).await?;
    let mut figure = |name: &str, value: f64, unit: &str, goal: Goal| {
        report.figure(&format!("{clusters} clusters: {name}"), value, unit, &goal);
    };
    figure(
        "wall time of NICO",
        used.wall.as_secs_f64(),
        "s",
        Goal::None,
    );
    figure(
        "wall time, NICO to the bare client",
        used.wall.as_secs_f64() / bare.wall.as_secs_f64(),
        "",
        Goal::Most(1.10),
    );
    figure(
        "CPU of the API server, with NICO",
        used.api_server,
        "s",
        Goal::None,
    );
    figure(
        "CPU of the API server, NICO to the bare client",
        used.api_server / bare.api_server,
        "",
        Goal::Most(1.3),
    );
    figure(
        "requests of NICO to those of the bare client",
        used.requests / bare.requests,
        "",
        Goal::None,
    );
    figure(
        "until each had a status",
        last.as_secs_f64(),
        "s",
        Goal::None,
    );
    figure(
        "memory of NICO, at the most",
        memory(&nico).1,
        "MB",
        Goal::None,
    );

    nico.terminate().await;
    nico.wait_exit(Duration::from_secs(15)).await;
    let meter = site.meter(None).await?;
    let nico = site.nico(None, &["--resync", RESYNC.0]).await?;
    tokio::time::sleep(QUIET).await;
    let restart = site.usage(&meter, Some(&nico)).await?;
    let each = number(clusters);
    figure(
        "restart: requests a cluster",
        restart.requests / each,
        "",
        Goal::None,
    );
    figure(
        "restart: CPU of NICO a cluster",
        restart.nico * 1000.0 / each,
        "ms",
        Goal::None,
    );
    figure("restart: writes", restart.writes(), "", Goal::Most(0.0));
    figure(
        "restart: memory of NICO, at the most",
        memory(&nico).1,
        "MB",
        Goal::None,
    );

    let meter = site.meter(Some(&nico)).await?;
    tokio::time::sleep(RESYNC.1 * RESYNCS).await;
    let rest = site.usage(&meter, Some(&nico)).await?;
    let looks = each * f64::from(RESYNCS);
    figure("at rest: writes", rest.writes(), "", Goal::Most(0.0));
    figure(
        "at rest: requests a cluster and resync",
        rest.requests / looks,
        "",
        Goal::None,
    );
    figure(
        "at rest: CPU of NICO a cluster and resync",
        rest.nico * 1000.0 / looks,
        "ms",
        Goal::None,
    );

    let meter = site.meter(Some(&nico)).await?;
    site.delete(names).await?;
    site.clusters
        .wait("all clusters are gone", deadline(5 * clusters), |seen| {
            seen.alive == 0
        })
        .await?;
    let deletion = site.usage(&meter, Some(&nico)).await?;
    figure(
        "all deleted: wall time",
        deletion.wall.as_secs_f64(),
        "s",
        Goal::None,
    );
    figure(
        "all deleted: requests a cluster",
        deletion.requests / each,
        "",
        Goal::None,
    );
    figure(
        "all deleted: CPU of NICO a cluster",
        deletion.nico * 1000.0 / each,
        "ms",
        Goal::None,
    );
    figure(
        "all deleted: memory of NICO, at the most",
        memory(&nico).1,
        "MB",
        Goal::None,
    );
    Ok(used)
}
