//! A living cluster is changed. Who is next, what stands in the way, and that every way leads out again.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use nico::api::conditions::{
    ConditionType::{RollingOut, Stalled},
    Reason,
};
use nico::api::ledger::{Entry, EntryState};
use nico::api::names::{MachineName, WRITTEN_ANNOTATION};
use nico::api::status::{MachineState, Role};
use nico::plan::action::{Action, ConfigurationWrite, NodeWork, SlotWrite};
use nico::plan::entered::EnteredWrite;
use nico::plan::observed::Fetch;
use serde_json::json;

use crate::given::{Given, PROD, Seen, cluster, given, settled};
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
                seen.says(RollingOut, "True", Reason::InFlight, "v waits for");
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

/// A→B→A while the first machine is being written: the marker is new, and the old proof of A is no proof.
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

#[test]
fn a_node_that_stays_not_ready_stops_the_roll_and_what_mends_it_goes_there_first() {
    ready()
        .when(|world| {
            world.unwell.insert(name("v"));
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["v"]);
            seen.says(RollingOut, "True", Reason::NodeNotReady, "Node v");
        })
        .when(|world| {
            world.unwell.clear();
            world.written.clear();
            good_repository(world);
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["v"]);
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
        });
}

#[test]
fn an_api_that_nobody_answers_stops_everything_until_a_person_decides() {
    ready()
        .when(|world| {
            world.mute.extend(["a", "b", "c"].map(name));
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
            seen.says(
                RollingOut,
                "True",
                Reason::ClusterUnreachable,
                "nodeChecks: false",
            );
        })
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["rollout"] = json!({ "nodeChecks": false })
            })
        })
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world).len(), 5, "{}", seen.world.story()));
}

#[test]
fn why_no_api_server_is_trusted_is_told() {
    let why = "its certificate has none of the names kubernetes, but cp-01.lab";
    ready()
        .when(|world| {
            world.untrusted = why;
            world.mute.extend(["a", "b", "c"].map(name));
            world.edit(PROD, |spec| {
                spec["dataPlane"] = json!({ "machines": ["v", "w", "d"] });
            });
        })
        .when(settled)
        .then(|seen| {
            let words = format!("(a: no trusted TLS connection, {why})");
            seen.says(RollingOut, "True", Reason::ClusterUnreachable, &words);
        })
        .when(|world| {
            world.mute = [name("c")].into();
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            let words = format!("healthy (not c: {why})");
            seen.says(RollingOut, "True", Reason::QuorumAtRisk, &words);
        });
}

#[test]
fn one_sick_control_plane_machine_is_mended_first_and_no_healthy_one_is_touched() {
    ready()
        .when(|world| {
            world.mute.insert(name("c"));
            new_repository(world);
            world.edit(PROD, |spec| {
                spec["rollout"] = json!({ "order": "ControlPlaneFirst" })
            });
        })
        .when(settled)
        .then(|seen| {
            // It was written, and is still mute: two of three are healthy, and none of them may go.
            assert_eq!(rolled(&seen.world), ["c"]);
            let few = "2 of 3 control plane machines are healthy (not c), too few";
            seen.says(RollingOut, "True", Reason::QuorumAtRisk, few);
        })
        .when(|world| world.mute.clear())
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["c", "a", "b", "v", "w"]);
            assert!(seen.world.ready(PROD));
        });
}

/// A kubeconfig that expired tells nothing of the machines: they may all be well, and none of them is touched.
#[test]
fn api_servers_that_refuse_the_kubeconfig_are_no_lost_quorum() {
    ready()
        .when(|world| {
            world.refusing = true;
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
            seen.says(
                RollingOut,
                "True",
                Reason::ClusterUnreachable,
                "nodeChecks: false",
            );
        });
}

/// There is nobody to join through, and no machine is told to make a second cluster.
#[test]
fn a_control_plane_that_is_lost_is_joined_by_nobody() {
    for node_checks in [true, false] {
        ready()
            .when(|world| {
                world.edit(PROD, |spec| {
                    spec["rollout"] = json!({ "nodeChecks": node_checks });
                });
                for machine in ["a", "b", "c"] {
                    world.delete_configuration(machine);
                }
                world.work_deletions();
            })
            .when(settled)
            .then(|seen| {
                assert_eq!(rolled(&seen.world), Vec::<String>::new());
                seen.says(Stalled, "True", Reason::ControlPlaneLost, "");
            });
    }
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

/// All three sick, and each of them is written in turn.
#[test]
fn all_three_sick_are_written_one_after_the_other() {
    ready()
        .when(|world| {
            world.unwell.extend(["a", "b", "c"].map(name));
            for node in ["a", "b", "c"] {
                world.nodes.get_mut(node).unwrap().ready = false;
            }
            new_repository(world);
        })
        .when(|world| passes(world, 4))
        .then(|seen| {
            assert_eq!(
                rolled(&seen.world),
                Vec::<String>::new(),
                "not before three minutes"
            );
            seen.says(RollingOut, "True", Reason::QuorumLost, "0 of 3");
        })
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), ["a", "b", "c"]))
        .when(|world| {
            world.unwell.clear();
            for node in world.nodes.values_mut() {
                node.ready = true;
            }
        })
        .when(settled)
        .then(|seen| assert!(seen.world.ready(PROD), "{}", seen.world.story()));
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

/// Whoever acted on the lost ledger is waited for before the slot opens.
#[test]
fn a_ledger_lost_in_mid_roll_is_fenced_first() {
    ready()
        .when(|world| {
            new_repository(world);
            passes(world, 3);
            world.cluster(PROD).ledger = None;
            world.cluster(PROD).since.clear();
            world.broken.insert(name("v"));
            passes(world, 6);
        })
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["v"]);
            seen.says(RollingOut, "True", Reason::InFlight, "120 seconds");
            assert!(seen.observed.ledger.ours().unwrap().slot.fencing);
        })
        .when(|world| world.wait(119))
        .then(|seen| assert!(!seen.kinds().contains(&"Touch")))
        .when(|world| world.wait(1))
        .then(|seen| {
            let touches = seen.kinds().iter().filter(|it| **it == "Touch").count();
            assert_eq!(touches, 5, "{:?}", seen.kinds());
        })
        .when(|world| world.broken.clear())
        .when(settled)
        .then(|seen| assert!(seen.world.ready(PROD), "{}", seen.world.story()));
}

/// What was rewritten over an attempt that may still run keeps its entry for an hour, and then NIO's own word counts.
#[test]
fn an_entry_over_an_older_attempt_is_kept_for_an_hour() {
    ready()
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["rollout"] = json!({ "order": "ControlPlaneFirst" })
            });
            new_repository(world);
            passes(world, 3);
            good_repository(world);
            passes(world, 3);
            world.work();
            passes(world, 6);
        })
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["a", "a"]);
            assert_eq!(seen.state("a"), MachineState::Confirmed);
            seen.says(RollingOut, "True", Reason::InFlight, "older attempt");
        })
        .when(|world| {
            world.wait(3600);
            world.configuration("a").status = None;
            passes(world, 4);
        })
        .then(|seen| {
            let entries = &seen.observed.ledger.ours().unwrap().slot.entries;
            assert_eq!(entries.len(), 1, "the mark alone is not enough");
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let entries = &seen.observed.ledger.ours().unwrap().slot.entries;
            assert!(entries.is_empty(), "{entries:?}");
        });
}

/// Where NIO proves another attempt than the confirmed one, the mark goes, and comes again with NIO's proof.
#[test]
fn a_mark_is_withdrawn_where_nio_proves_another_attempt() {
    ready()
        .when(|world| {
            let status = &mut world.configuration("b").status;
            status.get_or_insert_default().additional_files_hash = Some("0".repeat(64));
        })
        .then(|seen| assert_eq!(seen.kinds(), ["Withdraw"]))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
        });
}

#[test]
fn a_machine_made_anew_is_written_anew_after_five_minutes() {
    ready()
        .when(|world| {
            let status = &mut world.machine("w").status;
            *status = Some(nico::api::nio::MachineStatus {
                discoverable: true,
                ..Default::default()
            });
            world.pass(PROD);
            world.wait(299);
        })
        .then(|seen| assert_eq!(seen.differences("w"), Vec::<String>::new()))
        .when(|world| {
            world.pass(PROD);
            world.wait(1);
        })
        .then(|seen| assert_eq!(seen.differences("w"), ["Reapply"]))
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), ["w"]));
}

/// One or two control plane machines have no quorum to keep: they are changed all the same, one at a time.
#[test]
fn a_control_plane_of_one_and_of_two_is_changed_whatever_is_known() {
    for machines in [vec!["a"], vec!["a", "b"]] {
        let mut given = given(cluster().control_plane(["a"])).machines(["a", "b"]);
        given.0.edit(PROD, |spec| {
            spec["controlPlane"] = json!({ "machines": machines });
        });
        given.0.settle();
        given.0.written.clear();
        given.0.mute.extend(["a", "b"].map(name));
        new_repository(&mut given.0);
        given.when(settled).then(|seen| {
            assert_eq!(rolled(&seen.world), machines);
            assert!(seen.world.written.iter().any(|(_, action)| matches!(
                action,
                Action::Slot(SlotWrite::Take { without_quorum: Some(n), .. }) if *n == machines.len()
            )));
        });
    }
}

/// C1, C7: a kill before and after every write of a roll; with a second operator's eyes nothing else is seen.
#[test]
fn a_crash_between_any_two_writes_of_a_roll_still_ends_ready() {
    let mut whole = ready().0;
    new_repository(&mut whole);
    whole.settle();
    let writes = whole.written.len();
    assert!(writes >= 5 * 5, "{writes}");
    for crash in 0..writes {
        let mut world = ready().0;
        new_repository(&mut world);
        while world.written.len() < crash {
            let Some((_, plan)) = world.plan(PROD) else {
                break;
            };
            let before = world.written.len();
            for action in &plan.actions {
                if world.apply(PROD, action).is_err() || world.written.len() >= crash {
                    break;
                }
            }
            if world.written.len() == before {
                world.work();
                world.wait(30);
            }
        }
        // What lived in memory alone is gone.
        let memory = world.cluster(PROD);
        memory.since.clear();
        memory.kubeconfig.fetch = Fetch::default();
        world.settle();
        assert!(
            world.ready(PROD),
            "crash after write {crash}: {}",
            world.story()
        );
        let rolled: BTreeSet<String> = rolled(&world).into_iter().collect();
        assert_eq!(rolled.len(), 5, "crash after write {crash}: {rolled:?}");
    }
}

/// The status answers who is in flight, and since when.
#[test]
fn the_status_mirrors_the_slot() {
    ready()
        .when(|world| {
            new_repository(world);
            passes(world, 3);
        })
        .then(|seen: &Seen| {
            let rollout = seen.status.rollout.clone().unwrap();
            assert_eq!(rollout.in_flight.len(), 1);
            let flight = &rollout.in_flight[0];
            assert!(flight.machine == "v" && flight.since.is_some());
            assert!(flight.waiting_for.contains("NIO"), "{flight:?}");
            let entries = &seen.observed.ledger.ours().unwrap().slot.entries;
            assert_eq!(entries[0].state, EntryState::Active);
        });
}

/// A later version of NICO made the entry, and was taken back: nothing is done to the machine, and its entry stays as it is.
#[test]
fn an_entry_in_an_unknown_state_is_held_as_in_flight() {
    let later = EntryState::Unknown("draining".to_owned());
    for machine in ["a", "v"] {
        ready()
            .when(|world| {
                new_repository(world);
                let role = if machine == "a" {
                    Role::ControlPlane
                } else {
                    Role::Worker
                };
                let (_, ledger) = world.cluster(PROD).ledger.as_mut().unwrap();
                ledger.slot.entries = vec![Entry {
                    machine: name(machine),
                    role,
                    state: later.clone(),
                }];
                world.settle();
            })
            .then(|seen| {
                assert_eq!(rolled(&seen.world), Vec::<String>::new());
                let entries = &seen.observed.ledger.ours().unwrap().slot.entries;
                assert_eq!(entries[0].state, later);
                let told = format!("Machine {machine} in the state draining");
                seen.says(RollingOut, "True", Reason::LedgerUnreadable, &told);
                assert_eq!(
                    seen.status.rollout.as_ref().unwrap().in_flight[0].machine,
                    machine
                );
            });
    }
}
