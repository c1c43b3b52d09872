//! Machines that fail in mid-roll, or are out of reach before or during it: it stands still where it must, and leads out again.

use std::collections::BTreeSet;

use rig::judge::rollout::Rules;
use rig::wait::wait_for;
use rig::world::condition;

use rig::crds::Generation;

use crate::common::shown::row;
use crate::common::{DEADLINE, over_both};
use crate::rolling::{BAD, IN_TURN, NEW, OLD, hurried, ready, repository};

over_both![
    a_machine_that_fails_stops_the_roll_and_the_fix_goes_to_it_first,
    a_control_plane_machine_out_of_reach_before_the_roll_is_updated_when_it_returns;
    on demand: a_node_that_stays_not_ready_stops_the_roll_and_what_mends_it_goes_there_first
];

/// The next change of the spec goes to it first.
async fn a_machine_that_fails_stops_the_roll_and_the_fix_goes_to_it_first(generation: Generation) {
    let case = ready(generation).await;
    let fails = |fails: bool| case.world.nio().set("w-02", |knobs| knobs.fails = fails);
    fails(true);
    let bad = case.roll(hurried(BAD)).await;
    let status = case.stuck_at("w-02").await;
    assert_eq!(row(&status, "w-02")["state"], "Failed", "{status}");
    assert_eq!(status["controlPlane"]["updated"], 0, "{status}");
    case.nothing_but(bad, &["w-01", "w-02"]).await;
    let held = case.marker("w-02").await;
    let fix = case.roll(repository(NEW)).await;
    case.wait_marker_changed("w-02", &held).await;
    case.nothing_but(fix, &["w-02"]).await;
    fails(false);
    let status = case
        .ends_with(fix, &["w-02", "w-01", "cp-01", "cp-02", "cp-03"])
        .await;
    assert_eq!(condition(&status, "Stalled")["status"], "False", "{status}");
    let rules = Rules::of(vec![bad, fix]);
    case.finish_rolled(&rules).await;
}

/// One that is off takes the quorum's margin: no other of the control plane is changed. One that runs and that NIO alone does
/// not reach is passed over, and updated when it returns.
async fn a_control_plane_machine_out_of_reach_before_the_roll_is_updated_when_it_returns(
    generation: Generation,
) {
    let case = ready(generation).await;
    case.world.flake().dead("cp-01", true);
    case.unreachable("cp-01", true);
    let undiscoverable = || async {
        let status = case.machine_status("cp-01").await;
        (status["discoverable"] != true).then_some(())
    };
    wait_for("NIO does not reach it", DEADLINE, undiscoverable).await;
    let before = case.roll(repository(NEW)).await;
    let few = "2 of 3 control plane machines are healthy";
    let status = case.says("RollingOut", "MachineUndiscoverable", few).await;
    assert_eq!(row(&status, "cp-01")["state"], "Unavailable", "{status}");
    case.nothing_but(before, &["w-01", "w-02"]).await;
    // It runs again, as its own cluster tells, and NIO still does not reach it.
    case.world.flake().dead("cp-01", false);
    let others = ["w-01", "w-02", "cp-02", "cp-03"];
    let done = || async { (case.written(before) == others).then_some(()) };
    wait_for("the others are written", DEADLINE, done).await;
    case.confirmed("cp-03").await;
    let status = case
        .says("RollingOut", "MachineUndiscoverable", "when it returns")
        .await;
    assert_eq!(condition(&status, "Ready")["status"], "False", "{status}");
    case.nothing_but(before, &others).await;
    case.unreachable("cp-01", false);
    case.ends_with(before, &["w-01", "w-02", "cp-02", "cp-03", "cp-01"])
        .await;
    let rules = Rules::of(vec![before]);
    case.finish_rolled(&rules).await;
}

/// NIO's success is not enough; the next one starts only when the Node of the last one is Ready.
async fn a_node_that_stays_not_ready_stops_the_roll_and_what_mends_it_goes_there_first(
    generation: Generation,
) {
    let case = ready(generation).await;
    let flake = case.world.flake();
    flake.node_not_ready("w-01", true).await;
    let worker = case.roll(repository(NEW)).await;
    case.says("RollingOut", "NodeNotReady", "Node w-01 of Machine w-01")
        .await;
    case.nothing_but(worker, &["w-01"]).await;
    flake.node_not_ready("w-01", false).await;
    case.ends_with(worker, &IN_TURN).await;

    flake.revision_kills(BAD, Some("cp-01"));
    let bad = case.roll(repository(BAD)).await;
    let few = "2 of 3 control plane machines are healthy (not cp-01)";
    case.says("RollingOut", "QuorumAtRisk", few).await;
    case.nothing_but(bad, &IN_TURN[..3]).await;
    let fix = case.roll(repository(OLD)).await;
    case.ends_with(fix, &["cp-01", "w-01", "w-02", "cp-02", "cp-03"])
        .await;
    let rules = Rules {
        rolls: vec![worker, bad, fix],
        passed_over: BTreeSet::from(["cp-01".to_owned()]),
        ..Rules::default()
    };
    case.finish_rolled(&rules).await;
}
