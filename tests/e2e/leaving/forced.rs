//! A person vouches that a machine of a living cluster is off (`force-release`).

use kube::ResourceExt;
use rig::crds::Generation;
use rig::judge::rollout::{Rules, order};
use rig::nio::finalizer;
use rig::world::condition;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::shown::{at_rest, in_flight};
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico, over_both};

over_both![a_dead_control_plane_machine_that_nio_keeps_leaves_when_it_is_named];

/// It is dead, and NIO never lets go of it: its configuration stays until it is named.
async fn a_dead_control_plane_machine_that_nio_keeps_leaves_when_it_is_named(
    generation: Generation,
) {
    let case = Case::alone_of(generation, &nico().args(&RESYNC), |_| ()).await;
    let three = ["cp-01", "cp-02", "cp-03"];
    case.world.machines_named(&three).await;
    case.cluster("prod", listed(&three, &[])).await;
    case.ready("prod").await;
    let nio = case.world.nio();
    case.world.flake().dead("cp-03", true);
    nio.set("cp-03", |knobs| {
        knobs.never_reacts = true;
        knobs.unreachable = true;
    });
    let began = nio.now();
    case.edit(
        "prod",
        json!({"controlPlane": {"machines": ["cp-01", "cp-02"]}}),
    )
    .await;
    let stuck = |status: &Value| {
        let flight = &status["rollout"]["inFlight"][0];
        let text = flight["waitingFor"].as_str().unwrap_or_default();
        in_flight(status) == ["cp-03"]
            && text.contains("NIO cannot reach the machine")
            && text.contains("force-release: cp-03")
    };
    let what = "it says that NIO does not let go";
    case.world.wait_status("prod", what, DEADLINE, stuck).await;
    let force = async |machines: &str| {
        let annotation = json!({"nico.homystack.com/force-release": machines});
        case.merge("prod", json!({"metadata": {"annotations": annotation}}))
            .await;
    };
    // `all` is for a deletion; and whoever the spec asks for stays.
    force("all,cp-01").await;
    case.two_more_passes().await;
    let held = case.configuration("cp-03").await;
    assert_eq!(held.finalizers(), [finalizer(generation)]);
    assert_eq!(order(&case.evidence(), began), ["cp-03"]);
    force("cp-03").await;
    let generation = case.generation("prod").await;
    let done = |status: &Value| {
        at_rest(status, generation) && !status["machines"].to_string().contains("cp-03")
    };
    case.world
        .wait_status("prod", "it left", DEADLINE, done)
        .await;
    assert_eq!(case.configurations().await, ["cp-01", "cp-02"]);
    assert_eq!(case.nodes("prod").await, ["cp-01", "cp-02"]);
    let order = order(&case.evidence(), began);
    assert_eq!(order, ["cp-03", "cp-01", "cp-02"]);
    let status = case.world.status("prod").await;
    assert_eq!(condition(&status, "Stalled")["status"], "False", "{status}");
    let rules = Rules::of(vec![began]);
    case.finish_rolled(&rules).await;
}
