//! The same clusters of 3+2 in a namespace each, and all in one.

use super::{deadline, five, names, number, three_and_two};
use crate::Failure;
use crate::report::{self, Goal, Report};
use crate::site::{Scene, Site};
use crate::usage::memory;

/// The bring-up of so many clusters both ways.
pub(crate) async fn measure(
    scene: &Scene,
    clusters: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    report::title(&format!(
        "{clusters} clusters of 3+2 in a namespace each, and in one"
    ));
    let mut apart: Option<[f64; 4]> = None;
    for one in [false, true] {
        let site = Site::start(scene).await?;
        let names = names(clusters, one);
        let mut made: Vec<&str> = names
            .iter()
            .map(|(namespace, _)| namespace.as_str())
            .collect();
        made.dedup();
        for namespace in made {
            site.namespace(namespace).await?;
        }
        let machines = names
            .iter()
            .flat_map(|(namespace, name)| five(namespace, name));
        site.machines(machines.collect()).await?;
        let nico = site.nico(None, &[]).await?;
        let meter = site.meter(Some(&nico)).await?;
        let specs = names
            .iter()
            .map(|(namespace, name)| (namespace.clone(), name.clone(), three_and_two(name)));
        site.apply(specs.collect()).await?;
        let all = |seen: &crate::clusters::Seen| seen.ready == clusters;
        site.clusters
            .wait("the clusters are Ready", deadline(5 * clusters), all)
            .await?;
        let used = site.usage(&meter, Some(&nico)).await?;
        let figures = [
            used.requests / number(clusters),
            used.nico,
            used.api_server,
            memory(&nico).1,
        ];
        let what = if one { "in one" } else { "in a namespace each" };
        report.figure(
            &format!("{what}: wall time"),
            used.wall.as_secs_f64(),
            "s",
            &Goal::None,
        );
        let titles = [
            ("requests a cluster", ""),
            ("CPU of NICO", "s"),
            ("CPU of the API server", "s"),
            ("memory of NICO, at the most", "MB"),
        ];
        for (n, (title, unit)) in titles.into_iter().enumerate() {
            let goal = apart.map_or(Goal::None, |apart| Goal::Most(apart[n] * 1.1));
            report.figure(&format!("{what}: {title}"), figures[n], unit, &goal);
        }
        report::kinds(&used, number(clusters));
        apart.get_or_insert(figures);
    }
    Ok(())
}
