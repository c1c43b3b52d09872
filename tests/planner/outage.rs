//! A control plane that loses its quorum while nothing is to be changed.

use nico::api::conditions::ConditionType::{ControlPlaneReady, Ready, RollingOut, Stalled};
use nico::api::conditions::Reason;
use serde_json::json;

use crate::given::{PROD, Seen, kind};
use crate::rollout::{name, ready};
use crate::world::World;

/// The API servers of these machines do not answer.
fn mute<const N: usize>(machines: [&'static str; N]) -> impl FnOnce(&mut World) {
    move |world| world.mute = machines.map(name).into()
}

/// A pass, so that clocks of patience run; then so many seconds.
fn after(seconds: i64) -> impl FnOnce(&mut World) {
    move |world| {
        world.pass(PROD);
        world.wait(seconds);
    }
}

fn tells_nothing(seen: &Seen) {
    seen.says(ControlPlaneReady, "True", Reason::AsExpected, "3/3")
        .says(Ready, "True", Reason::AsExpected, "");
}

fn tells(seen: &Seen, words: &str) {
    for condition in [ControlPlaneReady, Ready] {
        seen.says(condition, "False", Reason::QuorumLost, words);
    }
    // Nothing of it calls for another change, and it may pass.
    seen.says(RollingOut, "False", Reason::AsExpected, "");
    seen.says(Stalled, "False", Reason::AsExpected, "");
}

/// An etcd election or a reboot takes less than three minutes. They begin again after a good moment.
#[test]
fn a_lost_quorum_is_told_at_rest_once_it_has_lasted() {
    ready()
        .when(mute(["b", "c"]))
        .when(after(179))
        .then(tells_nothing)
        .when(mute(["c"]))
        .when(after(0))
        .when(mute(["b", "c"]))
        .when(after(179))
        .then(tells_nothing)
        .when(|world| world.wait(1))
        .then(|seen| tells(seen, "of b, c do not answer"))
        .when(mute(["c"]))
        .then(tells_nothing);
}

/// A single probe that fails may be the network's fault: as long as it is the last one, the cluster is asked again.
#[test]
fn while_the_quorum_seems_lost_the_cluster_is_asked_again() {
    for (muted, asks) in [(["b", "c"], true), (["c", "c"], false)] {
        let mut seen = ready().when(mute(muted)).when(after(10));
        seen.observed.workload_is_old = true;
        let plan = nico::plan::plan(&seen.observed, seen.world.now, &seen.world.settings);
        let kinds: Vec<_> = plan.actions.iter().map(kind).collect();
        assert_eq!(kinds.contains(&"ProbeWorkload"), asks, "{kinds:?}");
        let soon = plan.look_again.is_some_and(|it| it.as_secs() <= 10);
        assert_eq!(soon, asks, "{:?}", plan.look_again);
    }
}

/// Etcd answers no member any more, and the one that is left says so.
#[test]
fn the_last_api_server_that_answers_may_be_the_one_to_tell() {
    ready()
        .when(|world| {
            mute(["b", "c"])(world);
            world.ill.insert(name("a"));
        })
        .when(after(180))
        .then(|seen| tells(seen, "of a, b, c do not answer"));
}

#[test]
fn nothing_is_told_of_a_quorum_where_it_is_kept_or_cannot_be_known() {
    let cases: [fn(&mut World); 5] = [
        |world| mute(["c"])(world),
        // The network add-on is still to come.
        |world| world.nodes.values_mut().for_each(|node| node.ready = false),
        // The network may be why nobody answers.
        |world| mute(["a", "b", "c"])(world),
        // Something else answers there.
        |world| world.refusing = true,
        |world| {
            mute(["b", "c"])(world);
            let rollout = json!({ "nodeChecks": false });
            world.edit(PROD, |spec| spec["rollout"] = rollout);
            world.pass(PROD);
        },
    ];
    for happens in cases {
        ready().when(happens).when(after(600)).then(tells_nothing);
    }
}

/// Also of a cluster that is paused: nothing is written to it.
#[test]
fn a_paused_cluster_that_loses_its_quorum_says_so() {
    ready()
        .when(|world| {
            world.edit(PROD, |spec| spec["paused"] = json!(true));
            mute(["b", "c"])(world);
        })
        .when(after(180))
        .then(|seen| tells(seen, "of b, c do not answer"));
}
