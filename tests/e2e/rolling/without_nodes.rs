//! A control plane without kubelets: no member has a Node, and each is judged by its own API server's `/readyz`.

use std::collections::BTreeSet;

use rig::crds::Generation;
use rig::judge::rollout::Rules;
use serde_json::json;

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{nico, over_both};
use crate::rolling::{BAD, NEW, OLD, THREE, bring_up, repository};

over_both![
    on demand: a_control_plane_without_nodes_rolls_one_at_a_time_and_a_sick_one_stops_it
];

async fn a_control_plane_without_nodes_rolls_one_at_a_time_and_a_sick_one_stops_it(
    generation: Generation,
) {
    let case = Case::alone_of(generation, &nico().args(&RESYNC), |_| ()).await;
    let flake = case.world.flake().clone();
    flake.no_kubelets_on_the_control_plane();
    let (case, _hosts) = bring_up(case, &THREE, &["w-01"], json!({})).await;
    assert_eq!(case.nodes("prod").await, ["w-01"]);
    let good = case.roll(repository(NEW)).await;
    case.ends_with(good, &["w-01", "cp-01", "cp-02", "cp-03"])
        .await;

    flake.revision_kills(BAD, Some("cp-02"));
    let bad = case.roll(repository(BAD)).await;
    let few = "2 of 3 control plane machines are healthy (not cp-02)";
    case.says("RollingOut", "QuorumAtRisk", few).await;
    case.nothing_but(bad, &["w-01", "cp-01", "cp-02"]).await;
    let fix = case.roll(repository(OLD)).await;
    case.ends_with(fix, &["cp-02", "w-01", "cp-01", "cp-03"])
        .await;
    assert_eq!(case.nodes("prod").await, ["w-01"]);
    let rules = Rules {
        rolls: vec![good, bad, fix],
        passed_over: BTreeSet::from(["cp-02".to_owned()]),
        ..Rules::default()
    };
    case.finish_rolled(&rules).await;
}
