//! A roll that a person stops and lets go on, and a cluster of which nothing can be learned.

use rig::crds::Generation;
use rig::judge::rollout::Rules;
use rig::wait::wait_for;
use serde_json::{Value, json};

use crate::common::shown::took_effect;
use crate::common::{DEADLINE, over_both};
use crate::rolling::{IN_TURN, NEW, OLD, THREE, TWO, ready, ready_with, repository};

over_both![
    a_roll_that_is_paused_stops_after_the_machine_in_hand_and_goes_on_afterwards;
    on demand: nothing_is_touched_while_no_api_server_answers_unless_a_person_says_so
];

/// While paused nothing but status and quiet writes.
async fn a_roll_that_is_paused_stops_after_the_machine_in_hand_and_goes_on_afterwards(
    generation: Generation,
) {
    let case = ready(generation).await;
    case.deaf("w-01", true);
    let before = case.roll(repository(NEW)).await;
    case.flying(&["w-01"]).await;
    case.edit("prod", json!({"paused": true})).await;
    case.told("prod", "Paused", "True", "PausedBySpec").await;
    let paused = case.world.nio().now();
    case.deaf("w-01", false);
    case.confirmed("w-01").await;
    case.nothing_but(before, &["w-01"]).await;
    let evidence = case.evidence();
    let disturbing: Vec<String> = evidence
        .writes
        .iter()
        .filter(|call| call.at > paused && took_effect(call) && call.subresource.is_empty())
        .filter(|call| {
            let body = call.body.as_ref().unwrap();
            let confirmed = &body["metadata"]["annotations"]["nico.homystack.com/confirmed"];
            confirmed.is_null() && !gives_up_its_schedule(body)
        })
        .map(rig::proxy::Call::line)
        .collect();
    assert_eq!(disturbing, Vec::<String>::new());
    case.edit("prod", json!({"paused": false})).await;
    case.ends_with(before, &IN_TURN).await;
    let rules = Rules::of(vec![before]);
    case.finish_rolled(&rules).await;
}

/// Whether a write takes back that v1 runs every minute, and says no more of the spec.
fn gives_up_its_schedule(body: &Value) -> bool {
    body["spec"] == json!({"dayTwoSchedule": null})
}

/// Nothing is touched until it answers again, or a person decides.
async fn nothing_is_touched_while_no_api_server_answers_unless_a_person_says_so(
    generation: Generation,
) {
    let (case, hosts) = ready_with(generation, &THREE, &TWO, json!({})).await;
    let off = |off: bool| hosts[..3].iter().for_each(|host| host.api_off(off));
    off(true);
    let first = case.roll(repository(NEW)).await;
    let stands = "no machine is changed";
    case.says("RollingOut", "ClusterUnreachable", stands).await;
    case.nothing_but(first, &[]).await;
    off(false);
    case.ends_with(first, &IN_TURN).await;

    // In mid-roll it goes away.
    case.deaf("cp-01", true);
    let second = case.roll(repository(OLD)).await;
    case.flying(&["cp-01"]).await;
    off(true);
    case.deaf("cp-01", false);
    case.confirmed("cp-01").await;
    case.says("RollingOut", "ClusterUnreachable", stands).await;
    case.nothing_but(second, &["w-01", "w-02", "cp-01"]).await;
    let told = json!({"rollout": {"nodeChecks": false}});
    let third = case.roll(told).await;
    let done = || async { (case.written(third) == ["cp-02", "cp-03"]).then_some(()) };
    wait_for("the others are written", DEADLINE, done).await;
    off(false);
    case.ends_with(third, &["cp-02", "cp-03"]).await;
    let rules = Rules::of(vec![first, second, third]);
    case.finish_rolled(&rules).await;
}
