//! SPEC 4.3, 4.6: sick machines leave a living cluster, before anyone joins it.

use nico::api::conditions::{ConditionType::RollingOut, Reason};
use serde_json::json;

use crate::given::{PROD, cluster, given, settled};
use crate::rollout::{name, ready, rolled};
use crate::world::World;

/// The machine is off for good.
fn die(world: &mut World, machine: &str) {
    world.mute.insert(name(machine));
    world.nodes.get_mut(machine).unwrap().ready = false;
    let machine = world.machines.get_mut(&name(machine)).unwrap();
    machine.status.get_or_insert_default().discoverable = false;
}

/// SPEC 4.3: the dead one leaves before another joins, and is not drained.
#[test]
fn a_dead_control_plane_machine_is_replaced() {
    ready()
        .when(|world| {
            die(world, "c");
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({ "machines": ["a", "b", "d"] });
            });
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let rolled = rolled(&seen.world);
            assert_eq!(rolled[..3], ["c leaves", "node c", "d"]);
            // The lists reach those that stay in one roll; d was told of them at once.
            assert_eq!(rolled[3..], ["v", "w", "a", "b"]);
        });
}

#[test]
fn a_dead_worker_is_replaced() {
    ready()
        .when(|world| {
            die(world, "w");
            world.edit(PROD, |spec| {
                spec["dataPlane"] = json!({ "machines": ["v", "d"] });
            });
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let rolled = rolled(&seen.world);
            assert_eq!(rolled[..2], ["w leaves", "node w"]);
            assert!(!seen.world.nodes.contains_key("w"));
        });
}

/// Two of three are dead: who is left is no quorum, and no member is taken out of it.
#[test]
fn no_dead_machine_leaves_without_a_quorum() {
    ready()
        .when(|world| {
            for machine in ["b", "c"] {
                die(world, machine);
            }
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({ "machines": ["a", "d", "e"] });
            });
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
            seen.says(RollingOut, "True", Reason::QuorumLost, "1 of 3");
        });
}

/// One of two leaves only where a person vouches for it.
#[test]
fn a_dead_one_of_two_leaves_only_with_a_persons_word() {
    let mut given = given(cluster().control_plane(["a", "b"])).machines(["a", "b"]);
    given.0.settle();
    given.0.written.clear();
    given
        .when(|world| {
            die(world, "b");
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({ "machines": ["a"] });
            });
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
            seen.says(
                RollingOut,
                "True",
                Reason::WouldLoseQuorum,
                "accept-quorum-loss: b",
            );
        })
        .when(|world| world.cluster(PROD).view.accept_quorum_loss = Some("b".to_owned()))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["b leaves", "node b", "a"]);
        });
}
