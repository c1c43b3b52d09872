//! One cluster of 3+2 that selects its machines in a namespace with many more.

use std::time::Duration;

use serde_json::json;

use super::{deadline, number};
use crate::Failure;
use crate::report::{self, Goal, Report};
use crate::site::{Scene, Site};
use crate::usage::{Usage, memory};

const NAMESPACE: &str = "free";
const CLUSTER: &str = "cluster";
/// Passes over the settled cluster.
const PASSES: usize = 50;
const PAUSE: Duration = Duration::from_millis(150);
/// MB that NICO may take beside 10,000 Machines.
const MEMORY: f64 = 60.0;

/// The same work beside each of these numbers of free Machines.
pub(crate) async fn measure(
    scene: &Scene,
    numbers: &[usize],
    report: &mut Report,
) -> Result<(), Failure> {
    report::title("one cluster of 3+2 that selects among free Machines");
    let mut fewest: Option<Vec<(f64, f64)>> = None;
    for machines in numbers {
        let site = Site::start(scene).await?;
        site.namespace(NAMESPACE).await?;
        let names = (0..*machines).map(|n| (NAMESPACE.to_owned(), format!("machine-{n:05}")));
        site.machines(names.collect()).await?;
        let nico = site.nico(None, &[]).await?;
        let pool =
            |count| json!({"machineSelector": {"matchLabels": {"role": "any"}}, "count": count});
        let spec = json!({"gitRepo": "https://git.example.com/flakes.git", "controlPlane": pool(3), "dataPlane": pool(2),
            "rollout": {"nodeChecks": false}});
        let ready = |seen: &crate::clusters::Seen| seen.ready == 1;

        let meter = site.meter(Some(&nico)).await?;
        site.apply(vec![(NAMESPACE.to_owned(), CLUSTER.to_owned(), spec)])
            .await?;
        site.clusters
            .wait("the cluster is Ready", deadline(5), ready)
            .await?;
        let bring_up = site.usage(&meter, Some(&nico)).await?;
        tokio::time::sleep(Duration::from_secs(6)).await;

        let meter = site.meter(Some(&nico)).await?;
        site.passes(NAMESPACE, CLUSTER, PASSES, PAUSE).await?;
        let passes = site.usage(&meter, Some(&nico)).await?;

        let meter = site.meter(Some(&nico)).await?;
        site.change(NAMESPACE, CLUSTER).await?;
        site.clusters
            .wait("the change is seen", deadline(5), |seen| seen.ready == 0)
            .await?;
        site.clusters
            .wait("the roll has ended", deadline(5), ready)
            .await?;
        let roll = site.usage(&meter, Some(&nico)).await?;

        let parts = [
            ("a bring-up", &bring_up, 1),
            ("a pass at rest", &passes, PASSES),
            ("a roll", &roll, 1),
        ];
        let costs = parts.map(|(_, used, of): (_, &Usage, _)| {
            (used.requests / number(of), used.nico * 1000.0 / number(of))
        });
        for (n, (what, used, of)) in parts.iter().enumerate() {
            let goals = fewest.as_ref().map_or((Goal::None, Goal::None), |it| {
                (Goal::About(it[n].0), Goal::About(it[n].1))
            });
            report.figure(
                &format!("{machines} Machines: requests of {what}"),
                costs[n].0,
                "",
                &goals.0,
            );
            report.figure(
                &format!("{machines} Machines: CPU of {what}"),
                costs[n].1,
                "ms",
                &goals.1,
            );
            report::kinds(used, number(*of));
        }
        let (now, most) = memory(&nico);
        let goal = if *machines <= 10_000 {
            Goal::Most(MEMORY)
        } else {
            Goal::None
        };
        report.figure(
            &format!("{machines} Machines: memory of NICO"),
            now,
            "MB",
            &goal,
        );
        report.figure(
            &format!("{machines} Machines: memory of NICO, at the most"),
            most,
            "MB",
            &Goal::None,
        );
        fewest.get_or_insert(costs.to_vec());
    }
    Ok(())
}
