//! Machines that others replace, and those that a person says are off.

use std::collections::BTreeMap;

use nico::api::conditions::{ConditionType::RollingOut, Reason};
use nico::plan::observed::force_release_names;
use serde_json::json;

use super::{asks_for, die};
use crate::given::{Given, PROD, cluster, given, machine, settled};
use crate::rollout::{name, ready, rolled};
use crate::world::World;

#[test]
fn five_become_three_and_three_become_two_and_no_fewer() {
    let mut five = given(cluster().control_plane(["a", "b", "c", "d", "e"]))
        .machines(["a", "b", "c", "d", "e"]);
    five.0.settle();
    five.0.written.clear();
    five.when(|world| asks_for(world, &["a", "b", "c"], &[]))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let rolled = rolled(&seen.world);
            assert_eq!(
                rolled[..6],
                [
                    "d drains", "d leaves", "node d", "e drains", "e leaves", "node e"
                ]
            );
            assert_eq!(rolled[6..], ["a", "b", "c"]);
        })
        .when(|world| {
            world.written.clear();
            asks_for(world, &["b"], &[]);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(
                rolled(&seen.world),
                ["a drains", "a leaves", "node a"],
                "{}",
                seen.world.story()
            );
            seen.says(
                RollingOut,
                "True",
                Reason::WouldLoseQuorum,
                "accept-quorum-loss: c",
            );
        })
        .when(|world| world.cluster(PROD).view.accept_quorum_loss = Some("c".to_owned()))
        .when(settled)
        .then(|seen| assert!(seen.world.ready(PROD), "{}", seen.world.story()));
}

/// All replaced at once. Each newcomer is in before the next one goes, and nobody is told to found a second cluster.
#[test]
fn all_three_are_replaced_one_by_one() {
    let mut given =
        given(cluster().control_plane(["a", "b", "c"])).machines(["a", "b", "c", "d", "e", "f"]);
    given.0.settle();
    given.0.written.clear();
    given
        .when(|world| asks_for(world, &["d", "e", "f"], &[]))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let rolled = rolled(&seen.world);
            assert_eq!(rolled[..3], ["d", "e", "f"]);
            let leaves: Vec<_> = rolled.iter().filter(|it| it.ends_with("leaves")).collect();
            assert_eq!(leaves, ["a leaves", "b leaves", "c leaves"]);
        });
}

/// A Ready cluster whose selector chose three of four machines: the fourth is out of reach.
fn three_and_a_spare() -> Given {
    let mut given = given(cluster().select_control_plane(3))
        .cp_machines(["a", "b", "c"])
        .with(machine("d").cp().undiscoverable());
    given.0.settle();
    assert!(given.0.ready(PROD), "{}", given.0.story());
    given.0.written.clear();
    given
}

/// A person annotates a machine.
fn to_be_replaced(world: &mut World, machine: &str) {
    let annotation = ("nico.homystack.com/release".to_owned(), "true".to_owned());
    world.machine(machine).metadata.annotations = Some(BTreeMap::from([annotation]));
}

fn reachable(world: &mut World, machine: &str) {
    let status = &mut world.machine(machine).status;
    status.get_or_insert_default().discoverable = true;
}

/// A machine annotated `release` is replaced: another one first takes its place.
#[test]
fn an_annotated_member_leaves_once_another_has_taken_its_place() {
    three_and_a_spare()
        .when(|world| {
            to_be_replaced(world, "a");
        })
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), Vec::<String>::new(), "nobody is free"))
        .when(|world| reachable(world, "d"))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let rolled = rolled(&seen.world);
            assert_eq!(rolled[..4], ["d", "a drains", "a leaves", "node a"]);
        });
}

/// A dead one of three that a selector chose: nobody joins before it is gone, and it goes once a person says that it is off.
#[test]
fn a_dead_member_of_a_selector_is_replaced_once_it_is_named_as_off() {
    three_and_a_spare()
        .when(|world| {
            die(world, "b");
            to_be_replaced(world, "b");
            reachable(world, "d");
        })
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), Vec::<String>::new()))
        .when(|world| world.cluster(PROD).view.force_release = force_release_names("b"))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let rolled = rolled(&seen.world);
            assert_eq!(rolled[..3], ["b leaves", "node b", "d"]);
        });
}

/// Two of three are off, and a person vouches for it: they are released, and one that stays is enough to go on.
#[test]
fn machines_that_a_person_vouches_for_are_released_whatever_the_numbers() {
    ready()
        .when(|world| {
            for machine in ["b", "c"] {
                die(world, machine);
            }
            asks_for(world, &["a", "d", "e"], &["v", "w"]);
            world.cluster(PROD).view.force_release = force_release_names("b,c");
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let rolled = rolled(&seen.world);
            assert_eq!(
                rolled[..6],
                ["b leaves", "node b", "c leaves", "node c", "d", "e"]
            );
        });
}

/// The annotation of an earlier day says nothing of a machine that the spec asks for.
#[test]
fn a_member_that_the_spec_asks_for_counts_though_it_is_vouched_for() {
    ready()
        .when(|world| {
            world.cluster(PROD).view.force_release = force_release_names("c");
            world.mute.insert(name("b"));
            world.edit(PROD, |spec| {
                spec["rollout"] = json!({ "order": "ControlPlaneFirst" });
                spec["gitRepo"] = json!("https://example.com/new.git");
            });
        })
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), ["b"], "two of three are well"));
}

/// They count in no number from then on, also when their Nodes come to light again.
#[test]
fn nodes_of_machines_that_a_person_vouched_for_count_no_more() {
    ready()
        .when(|world| {
            for machine in ["b", "c"] {
                die(world, machine);
            }
            world.mute.insert(name("a"));
            asks_for(world, &["a"], &["v", "w"]);
            world.cluster(PROD).view.force_release = force_release_names("b,c");
        })
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), ["b leaves", "c leaves"]))
        .when(|world| {
            world.mute.remove(&name("a"));
            asks_for(world, &["a", "d"], &["v", "w"]);
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world)[2], "d");
        });
}
