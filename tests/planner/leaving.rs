//! Machines leave a living cluster, sick ones before anyone joins it, healthy ones last and drained.

mod replaced;

use std::collections::BTreeMap;
use std::time::Duration;

use nico::api::conditions::{
    ConditionType::{RollingOut, Stalled},
    Reason,
};
use nico::plan::observed::SecretView;
use serde_json::json;

use crate::given::{PROD, Seen, cluster, given, settled};
use crate::rollout::{name, passes, ready, rolled};
use crate::world::World;

/// The machine is permanently off.
fn die(world: &mut World, machine: &str) {
    world.mute.insert(name(machine));
    world.nodes.get_mut(machine).unwrap().ready = false;
    let machine = world.machines.get_mut(&name(machine)).unwrap();
    machine.status.get_or_insert_default().discoverable = false;
}

/// The lists of both roles, from now on.
fn asks_for(world: &mut World, control_plane: &[&str], workers: &[&str]) {
    world.edit(PROD, |spec| {
        spec["controlPlane"] = json!({ "machines": control_plane });
        if workers.is_empty() {
            spec.as_object_mut().unwrap().remove("dataPlane");
        } else {
            spec["dataPlane"] = json!({ "machines": workers });
        }
    });
}

/// The dead one leaves before another joins, and is not drained.
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
            )
            .says(
                Stalled,
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

/// The pause says until when it lasts, and a kubeconfig that is missing for a while does not begin it again.
#[test]
fn the_safety_pause_says_when_it_ends_and_goes_on_without_a_kubeconfig() {
    let mut seen = ready().when(|world| asks_for(world, &["a", "b"], &["v", "w"]));
    let pauses = |seen: &Seen| {
        let flights = seen.plan.in_flight.values();
        let texts: Vec<String> = flights.map(|flight| flight.waiting_for.clone()).collect();
        texts
            .iter()
            .any(|text| text.starts_with("the safety pause after its release, until 20"))
    };
    let mut passes = 0;
    while !pauses(&seen) {
        passes += 1;
        assert!(passes < 60, "{}", seen.world.story());
        seen = seen.when(|world| {
            world.pass(PROD);
            world.work();
        });
    }
    seen.when(|world| {
        world.wait(60);
        world.cluster(PROD).kubeconfig.secret = SecretView::Absent;
        world.pass(PROD);
        world.wait(30);
        world.cluster(PROD).kubeconfig.secret = SecretView::Ours;
        world.pass(PROD);
        world.wait(30);
    })
    .then(|seen| assert!(!seen.observed.entries().is_empty()))
    .when(|world| {
        world.pass(PROD);
    })
    .then(|seen| {
        assert!(seen.observed.entries().is_empty(), "{}", seen.world.story());
    });
}

/// An alert counts from there. While its pods go, while NIO releases it and while its Node is held: until it is gone.
#[test]
fn a_machine_that_leaves_says_since_when() {
    let mut seen = ready().when(|world| {
        world.pods.insert("c".to_owned(), 1);
        world.held_back.insert("c".to_owned(), 1);
        let finalizer = vec!["example.com/holds".to_owned()];
        world.finalizers.insert("c".to_owned(), finalizer);
        asks_for(world, &["a", "b"], &["v", "w"]);
    });
    let mut told = BTreeMap::new();
    for _ in 0..60 {
        for flight in seen.status.rollout.iter().flat_map(|it| &it.in_flight) {
            assert_eq!(flight.machine, "c", "{}", seen.world.story());
            let since = flight.since.expect("it says since when");
            let mut what = flight.waiting_for.split([',', ';', '(']);
            let what = what.next().unwrap().trim();
            assert_eq!(
                *told.entry(what.to_owned()).or_insert(since),
                since,
                "{what}"
            );
        }
        seen = seen.when(|world| {
            world.pass(PROD);
            world.wait(20);
            if told.contains_key("NIO to release c") {
                world.work();
            }
        });
    }
    let waits: Vec<&str> = told.keys().map(String::as_str).collect();
    assert_eq!(
        waits,
        [
            "NIO to release c",
            "its pods to go",
            "the safety pause after its release"
        ]
    );
}

/// The pods go first, then the configuration, then the Node; the others are told once.
#[test]
fn a_healthy_worker_leaves_drained() {
    ready()
        .when(|world| {
            world.pods.insert("w".to_owned(), 3);
            asks_for(world, &["a", "b", "c"], &["v"]);
        })
        .when(|world| passes(world, 1))
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["w drains"]);
            seen.says(
                RollingOut,
                "True",
                Reason::Draining,
                "its pods are gone (3 left)",
            );
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(
                rolled(&seen.world),
                ["w drains", "w leaves", "node w", "v", "a", "b", "c"]
            );
        });
}

/// Its Node bears another name: it is found by its address, also once the machine is a member no more.
#[test]
fn a_node_of_another_name_goes_with_its_machine() {
    ready()
        .when(|world| {
            let mut node = world.nodes.remove("c").unwrap();
            node.name = "node-of-c".to_owned();
            world.nodes.insert(node.name.clone(), node);
            asks_for(world, &["a", "b"], &["v", "w"]);
        })
        .when(settled)
        .then(|seen| {
            let story = seen.world.story();
            assert!(seen.world.ready(PROD), "{story}");
            assert!(!seen.world.nodes.contains_key("node-of-c"), "{story}");
        });
}

/// A `PodDisruptionBudget` holds a pod back: it is given its time, and no more.
#[test]
fn a_drain_ends_at_its_deadline() {
    ready()
        .when(|world| {
            world.pods.insert("w".to_owned(), 1);
            world.held_back.insert("w".to_owned(), 1);
            asks_for(world, &["a", "b", "c"], &["v"]);
        })
        .when(|world| {
            passes(world, 20);
            world.now += Duration::from_secs(290);
            passes(world, 1);
        })
        .then(|seen| assert_eq!(rolled(&seen.world), ["w drains"]))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world)[1], "w leaves");
        });
}

#[test]
fn nobody_is_drained_where_no_time_is_given_or_nodes_are_not_looked_at() {
    for rollout in [
        json!({ "drainTimeoutSeconds": 0 }),
        json!({ "nodeChecks": false }),
    ] {
        ready()
            .when(|world| {
                world.edit(PROD, |spec| {
                    spec["rollout"] = rollout.clone();
                    spec["dataPlane"] = json!({ "machines": ["v"] });
                });
            })
            .when(settled)
            .then(|seen| {
                assert!(seen.world.ready(PROD), "{}", seen.world.story());
                assert_eq!(rolled(&seen.world)[0], "w leaves");
            });
    }
}

/// What NICO made unschedulable it makes schedulable again; what a person had, stays.
#[test]
fn a_change_of_mind_undoes_the_drain() {
    for by_hand in [false, true] {
        ready()
            .when(|world| {
                world.nodes.get_mut("w").unwrap().unschedulable = by_hand;
                world.pods.insert("w".to_owned(), 3);
                world.held_back.insert("w".to_owned(), 3);
                asks_for(world, &["a", "b", "c"], &["v"]);
                passes(world, 6);
                assert_eq!(rolled(world), ["w drains"]);
                asks_for(world, &["a", "b", "c"], &["v", "w"]);
            })
            .when(settled)
            .then(|seen| {
                assert!(seen.world.ready(PROD), "{}", seen.world.story());
                assert_eq!(rolled(&seen.world), ["w drains", "w stays"]);
                let node = &seen.world.nodes["w"];
                assert_eq!(node.unschedulable, by_hand);
                assert!(node.draining_since.is_none() && !node.cordoned);
            });
    }
}

/// The drain of a machine that stays after all is undone, also where Nodes could not be listed when the mind was changed.
#[test]
fn a_change_of_mind_during_an_outage_undoes_the_drain_afterwards() {
    ready()
        .when(|world| {
            world.held_back.insert("w".to_owned(), 3);
            world.pods.insert("w".to_owned(), 3);
            asks_for(world, &["a", "b", "c"], &["v"]);
            passes(world, 3);
            assert_eq!(rolled(world), ["w drains"]);
            world.mute.extend(["a", "b", "c"].map(name));
            asks_for(world, &["a", "b", "c"], &["v", "w"]);
            passes(world, 10);
            assert!(world.nodes["w"].unschedulable);
            world.mute.clear();
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["w drains", "w stays"]);
            assert!(!seen.world.nodes["w"].unschedulable);
        });
}

/// A mark of an earlier day gives the pods no time: they are given it again.
#[test]
fn an_old_mark_of_a_drain_is_made_anew() {
    ready()
        .when(|world| {
            world.pods.insert("w".to_owned(), 3);
            world.held_back.insert("w".to_owned(), 3);
            asks_for(world, &["a", "b", "c"], &["v"]);
            passes(world, 2);
            world.now += Duration::from_secs(86_400);
            passes(world, 2);
        })
        .then(|seen| assert_eq!(rolled(&seen.world), ["w drains", "w drains"]));
}
