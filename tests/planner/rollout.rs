//! A living cluster is changed. Who is next, what stands in the way, and that every way leads out again.

mod health;
mod interrupted;

use jiff::SignedDuration;
use nico::api::conditions::{
    ConditionType::{RollingOut, Stalled},
    Reason,
};
use nico::api::names::{MachineName, WRITTEN_ANNOTATION};
use nico::api::status::MachineState;
use nico::plan::action::{Action, ConfigurationWrite, NodeWork};
use nico::plan::entered::EnteredWrite;
use serde_json::json;

use crate::given::{Given, PROD, cluster, given, settled};
use crate::world::{World, edit};

pub fn name(machine: &str) -> MachineName {
    MachineName::parse(machine).unwrap()
}

/// Three control plane machines and two workers, Ready.
pub fn ready() -> Given {
    let mut given = given(cluster().control_plane(["a", "b", "c"]).workers(["v", "w"]))
        .machines(["a", "b", "c", "d", "e", "v", "w"]);
    given.0.settle();
    assert!(given.0.ready(PROD), "{}", given.0.story());
    given.0.written.clear();
    given
}

/// The spec asks for another repository.
pub fn new_repository(world: &mut World) {
    world.edit(PROD, |spec| {
        spec["gitRepo"] = json!("https://example.com/new.git")
    });
}

fn good_repository(world: &mut World) {
    world.edit(PROD, |spec| {
        spec["gitRepo"] = json!("https://example.com/flake.git")
    });
}

/// The machines that were written, in order.
pub fn rolled(world: &World) -> Vec<String> {
    let written = world.written.iter().filter_map(|(_, action)| match action {
        Action::Disrupt(disruptive) => match disruptive.write() {
            EnteredWrite::Rewrite(_) | EnteredWrite::Join(_) => {
                Some(disruptive.machine().to_string())
            }
            EnteredWrite::Drain { .. } => Some(format!("{} drains", disruptive.machine())),
            EnteredWrite::Release(_) => Some(format!("{} leaves", disruptive.machine())),
            EnteredWrite::DeleteNode { name, .. } => Some(format!("node {name}")),
        },
        Action::Node(NodeWork::Undrain { machine, .. }) => Some(format!("{machine} stays")),
        Action::Configuration(ConfigurationWrite::Rewrite(rewrite)) => {
            Some(format!("{} without the slot", rewrite.machine))
        }
        _ => None,
    });
    written.collect()
}

/// Passes without NIO's work, and without a wait.
pub fn passes(world: &mut World, count: usize) {
    for _ in 0..count {
        world.pass(PROD);
    }
}

#[test]
fn workers_come_first_then_the_control_plane_one_at_a_time_by_name() {
    ready().when(new_repository).when(settled).then(|seen| {
        assert!(seen.world.ready(PROD), "{}", seen.world.story());
        assert_eq!(rolled(&seen.world), ["v", "w", "a", "b", "c"]);
        let ledger = seen.observed.ledger.ours().unwrap();
        assert!(ledger.slot.entries.is_empty() && !ledger.slot.fencing);
    });
}

#[test]
fn the_other_order_and_several_workers_at_a_time() {
    ready()
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["rollout"] = json!({ "order": "ControlPlaneFirst", "maxUnavailable": 2 });
            });
            new_repository(world);
        })
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), ["a", "b", "c", "v", "w"]))
        .when(|world| {
            world.written.clear();
            good_repository(world);
            world.edit(PROD, |spec| {
                spec["rollout"]["order"] = json!("WorkersFirst")
            });
            passes(world, 8);
        })
        .then(|seen| {
            assert_eq!(
                rolled(&seen.world),
                ["v", "w"],
                "two before NIO did anything"
            )
        });
}

#[test]
fn an_edit_of_nothing_that_a_machine_holds_rolls_nothing() {
    ready()
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["rollout"] = json!({ "progressDeadlineSeconds": 600 })
            });
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD));
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
        });
}

#[test]
fn a_paused_cluster_is_not_changed_and_then_is() {
    ready()
        .when(|world| {
            world.edit(PROD, |spec| spec["paused"] = json!(true));
            new_repository(world);
        })
        .when(settled)
        .then(|seen| assert!(seen.world.written.is_empty(), "{}", seen.world.story()))
        .when(|world| world.edit(PROD, |spec| spec["paused"] = json!(false)))
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world).len(), 5));
}

/// The first machine of a bad revision fails and stops the roll; the fix, or the revert, goes to it first.
#[test]
fn a_bad_revision_stops_at_its_first_machine_and_the_next_change_goes_there_first() {
    for mend in [good_repository, |world: &mut World| {
        world.edit(PROD, |spec| {
            spec["gitRepo"] = json!("https://example.com/fixed.git")
        });
    }] {
        ready()
            .when(|world| {
                world.broken.insert(name("v"));
                new_repository(world);
                for _ in 0..6 {
                    world.pass(PROD);
                    world.work();
                }
            })
            .then(|seen| {
                assert_eq!(rolled(&seen.world), ["v"]);
                assert_eq!(seen.state("v"), MachineState::Applying);
                seen.says(
                    RollingOut,
                    "True",
                    Reason::InFlight,
                    "updating v (0 of 5 machines updated): waiting for NIO",
                );
            })
            .when(|world| world.wait(4200))
            .then(|seen| {
                seen.says(
                    Stalled,
                    "True",
                    Reason::ProgressDeadlineExceeded,
                    "Machine v",
                );
                assert_eq!(seen.state("v"), MachineState::Failed);
            })
            .when(|world| {
                world.written.clear();
                world.broken.clear();
                mend(world);
            })
            .when(settled)
            .then(|seen| {
                assert!(seen.world.ready(PROD), "{}", seen.world.story());
                assert_eq!(rolled(&seen.world)[0], "v");
            });
    }
}

/// L5: A→B→A while the first machine is being written: the marker is new, and the old proof of A is no proof.
#[test]
fn there_and_back_again_ends_as_a_fresh_a() {
    ready()
        .when(|world| {
            new_repository(world);
            passes(world, 3);
            good_repository(world);
            passes(world, 3);
        })
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["v", "v"]);
            assert_ne!(seen.state("v"), MachineState::Confirmed);
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["v", "v"]);
        });
}

/// A machine that was unreachable before its turn is passed over, and updated when it returns.
#[test]
fn an_unreachable_machine_is_passed_over_and_updated_when_it_returns() {
    let reachable = |world: &mut World, is: bool| {
        let status = &mut world.machine("v").status;
        status.get_or_insert_default().discoverable = is;
    };
    ready()
        .when(|world| {
            reachable(world, false);
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["w", "a", "b", "c"]);
            assert!(!seen.world.ready(PROD));
        })
        .when(|world| reachable(world, true))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world).last().map(String::as_str), Some("v"));
        });
}

/// Small machines are applied within a second. The newest one is still the one that was written last, and not the last by name.
#[test]
fn of_two_machines_written_in_one_second_the_later_one_counts() {
    let written = |world: &World, machine: &str| {
        let annotations = world.configurations[machine].metadata.annotations.as_ref();
        annotations.unwrap()[WRITTEN_ANNOTATION].clone()
    };
    ready()
        .when(|world| {
            for (machine, milliseconds) in [("w", 200), ("a", 700)] {
                let at = world.now + SignedDuration::from_millis(milliseconds);
                world.edit_configuration(machine, |held| {
                    let annotations = held.metadata.annotations.as_mut().unwrap();
                    annotations.insert(WRITTEN_ANNOTATION.to_owned(), at.to_string());
                });
            }
            world.nodes.get_mut("a").unwrap().ready = false;
            new_repository(world);
            world.now += SignedDuration::from_millis(1250);
        })
        .when(|world| passes(world, 3))
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["a"], "{}", seen.world.story());
            let at = written(&seen.world, "a");
            assert_eq!(at.rsplit_once('.').map(|it| it.1), Some("25Z"), "{at}");
            let rollout = seen.status.rollout.as_ref().unwrap();
            let since = rollout.in_flight[0].since.unwrap();
            assert_eq!(since.subsec_nanosecond(), 0, "{since}");
        });
}

/// A label that a person changed makes no worker of a control plane machine; it is put right.
#[test]
fn a_role_is_not_what_a_label_says_alone() {
    let mut given = given(cluster().control_plane(["a", "b"])).machines(["a", "b"]);
    given.0.settle();
    given.0.written.clear();
    let role = |world: &World| {
        let labels = world.configurations["b"].metadata.labels.clone();
        labels.unwrap()["nico.homystack.com/role"].clone()
    };
    given
        .when(|world| {
            let labels = &mut world.configuration("b").metadata.labels;
            let label = ("nico.homystack.com/role".to_owned(), "worker".to_owned());
            labels.get_or_insert_default().extend([label]);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
            assert_eq!(role(&seen.world), "control-plane");
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
        });
}

#[test]
fn three_become_five_one_at_a_time_and_one_roll_carries_the_lists_afterwards() {
    ready()
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({ "machines": ["a", "b", "c", "d", "e"] });
            });
            passes(world, 6);
        })
        .then(|seen| assert_eq!(rolled(&seen.world), ["d"], "one before NIO did anything"))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let rolled = rolled(&seen.world);
            assert_eq!(rolled[..2], ["d", "e"]);
            // d was told of the first four only.
            assert_eq!(rolled[2..], ["v", "w", "a", "b", "c", "d"]);
        });
}

#[test]
fn a_machine_that_comes_back_has_its_old_node_deleted_first() {
    ready()
        .when(|world| {
            world.delete_configuration("c");
            world.work_deletions();
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["node c", "c"]);
        })
        .when(|world| {
            world.written.clear();
            world.delete_configuration("w");
            world.work_deletions();
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["node w", "w"]);
        });
}

#[test]
fn a_drift_by_hand_is_mended_through_the_slot() {
    ready()
        .when(|world| {
            world.edit_configuration("b", |held| {
                edit(&mut held.spec, |it| it["flake"] = json!("#other"));
            });
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["b"]);
            assert!(seen.world.ready(PROD));
        });
}
