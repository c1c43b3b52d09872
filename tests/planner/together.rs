//! Several workers that are changed together, up to `maxUnavailable`.

use nico::api::conditions::{ConditionType::RollingOut, Reason};
use nico::api::names::MachineName;
use serde_json::{Value, json};

use crate::given::{Given, PROD, all_taken, cluster, given, machine, settled};
use crate::rollout::{new_repository, rolled};
use crate::world::World;

/// A Ready cluster of one control plane machine and so many workers, of which so many may be changed at once.
fn workers(count: usize, at_once: usize) -> Given {
    let names: Vec<String> = (1..=count).map(|index| format!("w-{index:02}")).collect();
    let rollout = json!({ "maxUnavailable": at_once });
    let cluster = cluster()
        .control_plane(["a"])
        .set("dataPlane", json!({ "machines": names }))
        .set("rollout", rollout);
    let mut given = given(cluster).machines(["a"]);
    for name in names {
        given = given.with(machine(&name));
    }
    given.0.settle();
    assert!(given.0.ready(PROD), "{}", given.0.story());
    given.0.written.clear();
    given.0.lists = 0;
    given
}

fn keep_one(world: &mut World) {
    world.edit(PROD, |spec| {
        spec["dataPlane"]["machines"] = json!(["w-01"]);
    });
}

/// As long as the slot has room for all of them, more workers cost no more lists.
#[test]
fn a_roll_of_twenty_costs_no_more_lists_than_one_of_five() {
    let lists = [5, 20].map(|count| {
        let seen = workers(count, count).when(new_repository).when(settled);
        let rolled = rolled(&seen.world);
        assert_eq!(rolled.len(), count + 1, "{rolled:?}");
        assert_eq!(rolled[count], "a", "the control plane comes last");
        seen.world.lists
    });
    assert_eq!(lists[0], lists[1]);
}

/// One write of the ledger makes all entries that there is room for, and each machine is written under its own.
#[test]
fn as_many_as_may_begin_are_taken_at_once() {
    workers(5, 3)
        .when(new_repository)
        .then(|seen| assert_eq!(all_taken(&seen.plan), ["w-01", "w-02", "w-03"]))
        .when(|world| {
            world.pass(PROD);
        })
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["w-01", "w-02", "w-03"]);
            assert_eq!(all_taken(&seen.plan), Vec::<&str>::new(), "no room is left");
        })
        .when(settled)
        .then(|seen| assert!(seen.world.ready(PROD), "{}", seen.world.story()));
}

/// What is left of the room is filled while others are in flight.
#[test]
fn the_rest_of_the_room_is_filled() {
    let broken = MachineName::parse("w-01").unwrap();
    workers(5, 3)
        .when(|world| {
            world.broken.insert(broken);
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            let rolled = rolled(&seen.world);
            assert_eq!(rolled, ["w-01", "w-02", "w-03", "w-04", "w-05"]);
        });
}

/// Workers that are in flight already get what mends them, also where `maxUnavailable` allows fewer by now; no other joins them.
#[test]
fn those_in_flight_go_on_where_fewer_may_be() {
    let lowered =
        |world: &mut World| world.edit(PROD, |it| it["rollout"]["maxUnavailable"] = 1.into());
    let fewer = |world: &mut World| {
        world.edit(PROD, |it| {
            it["dataPlane"]["machines"] = json!(["w-01", "w-02", "w-03"])
        });
    };
    let two_leave = |world: &mut World| {
        world.edit(PROD, |it| {
            it["rollout"]["maxUnavailable"] = 1.into();
            it["dataPlane"]["machines"] = json!(["w-03", "w-04"]);
        });
    };
    let holds = |at_once: Value, edit: fn(&mut World), first: [&str; 2]| {
        workers(4, 2)
            .when(|world| world.edit(PROD, |it| it["rollout"]["maxUnavailable"] = at_once))
            .when(settled)
            .when(|world| {
                let broken = ["w-01", "w-02"].map(|it| MachineName::parse(it).unwrap());
                world.broken.extend(broken);
                new_repository(world);
            })
            .when(settled)
            .when(|world| {
                world.written.clear();
                world.edit(PROD, |it| {
                    it["gitRepo"] = json!("https://example.com/fixed.git")
                });
                edit(world);
            })
            .when(settled)
            .then(|seen| assert_eq!(rolled(&seen.world)[..2], first, "{}", seen.world.story()))
            .when(|world| world.broken.clear())
            .when(settled)
            .then(|seen| assert!(seen.world.ready(PROD), "{}", seen.world.story()));
    };
    holds(json!(2), lowered, ["w-01", "w-02"]);
    holds(json!("50%"), fewer, ["w-01", "w-02"]);
    holds(json!(2), two_leave, ["w-01 leaves", "w-02 leaves"]);
}

/// Workers that leave are drained, deleted and done with side by side.
#[test]
fn they_leave_together() {
    workers(3, 2).when(keep_one).when(settled).then(|seen| {
        let mut steps = rolled(&seen.world);
        // Those that stay are told of it at the end.
        assert_eq!(steps.split_off(6), ["w-01", "a"]);
        let drained = ["w-02 drains", "w-03 drains"];
        let left = ["w-02 leaves", "w-03 leaves"];
        let nodes = ["node w-02", "node w-03"];
        assert_eq!(steps, [drained, left, nodes].concat());
        assert!(seen.world.ready(PROD), "{}", seen.world.story());
    });
}

/// No wait is left where workers leave: nothing has to pass but what the world itself takes.
#[test]
fn workers_leave_without_a_wait() {
    workers(3, 1)
        .when(|world| {
            keep_one(world);
            let begun = world.now;
            for _ in 0..60 {
                world.pass(PROD);
                world.work();
            }
            assert_eq!(world.now, begun);
        })
        .then(|seen| {
            assert_eq!(seen.world.configurations.len(), 2);
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
        });
}

/// Twenty machines in flight are one sentence, a few of them by name.
#[test]
fn many_in_flight_are_told_in_one_sentence() {
    workers(20, 20)
        .when(new_repository)
        .then(|seen| {
            seen.says(
                RollingOut,
                "True",
                Reason::OutOfDate,
                "w-10 and 10 more are next",
            );
        })
        .when(|world| {
            world.pass(PROD);
        })
        .then(|seen| {
            let words = ": waiting for NIO to apply";
            seen.says(RollingOut, "True", Reason::InFlight, words);
            let rows = &seen.status.rollout.as_ref().unwrap().in_flight;
            assert_eq!(rows.len(), 20, "each has a row of its own");
        });
}

/// The Node of a worker bears the label of the control plane.
fn label(world: &mut World, worker: &str) {
    world.nodes.get_mut(worker).unwrap().control_plane = true;
}

/// A Ready cluster of three control plane machines and three workers, of which two may be changed at once.
fn three_and_three() -> Given {
    let rollout = json!({ "maxUnavailable": 2 });
    let cluster = cluster()
        .control_plane(["a", "b", "c"])
        .workers(["w-01", "w-02", "w-03"])
        .set("rollout", rollout);
    let mut given = given(cluster).machines(["a", "b", "c", "w-01", "w-02", "w-03"]);
    given.0.settle();
    assert!(given.0.ready(PROD), "{}", given.0.story());
    given.0.written.clear();
    given
}

fn keep_the_third(world: &mut World) {
    world.edit(PROD, |spec| {
        spec["dataPlane"]["machines"] = json!(["w-03"]);
    });
}

/// Their Nodes may be those of members of etcd: one after the other goes, and no Node stays.
#[test]
fn workers_with_nodes_of_the_control_plane_leave_one_at_a_time() {
    three_and_three()
        .when(|world| {
            label(world, "w-01");
            label(world, "w-02");
            keep_the_third(world);
        })
        .when(settled)
        .then(|seen| {
            let steps = |name: &str| {
                ["{} drains", "{} leaves", "node {}"].map(|step| step.replace("{}", name))
            };
            let rolled = rolled(&seen.world);
            assert_eq!(rolled[..6], [steps("w-01"), steps("w-02")].concat());
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
        });
}

/// The labels come at any moment of a departure that began for both: no Node stays, and the control plane can be rolled.
#[test]
fn labels_that_come_while_workers_leave_leave_no_node_behind() {
    for (passes, lets_go) in [(1, false), (2, false), (3, false), (3, true), (4, true)] {
        for labelled in [&["w-01"][..], &["w-02"], &["w-01", "w-02"]] {
            three_and_three()
                .when(|world| {
                    keep_the_third(world);
                    for _ in 0..passes {
                        world.pass(PROD);
                    }
                    if lets_go {
                        world.work_deletions();
                    }
                    for worker in labelled {
                        if world.nodes.contains_key(*worker) {
                            label(world, worker);
                        }
                    }
                })
                .when(settled)
                .when(new_repository)
                .when(settled)
                .then(|seen| {
                    let nodes: Vec<_> = seen.world.nodes.keys().collect();
                    assert_eq!(nodes, ["a", "b", "c", "w-03"], "{passes} {labelled:?}");
                    assert!(seen.world.ready(PROD), "{}", seen.world.story());
                });
        }
    }
}

/// They fail together, and then get their labels: a fix of the spec reaches them one after the other.
#[test]
fn labels_that_come_while_workers_fail_keep_no_mend_from_them() {
    let broken = ["w-01", "w-02"].map(|it| MachineName::parse(it).unwrap());
    three_and_three()
        .when(|world| {
            world.broken.extend(broken);
            new_repository(world);
        })
        .when(settled)
        .when(|world| {
            label(world, "w-01");
            label(world, "w-02");
            world.written.clear();
            world.edit(PROD, |it| {
                it["gitRepo"] = json!("https://example.com/fixed.git")
            });
        })
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), ["w-01"], "{}", seen.world.story()))
        .when(|world| world.broken.clear())
        .when(settled)
        .then(|seen| assert!(seen.world.ready(PROD), "{}", seen.world.story()));
}
