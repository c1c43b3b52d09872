//! What is known of the machines' health decides which of them may be changed.

use nico::api::conditions::{
    ConditionType::{RollingOut, Stalled},
    Reason,
};
use nico::plan::action::{Action, SlotWrite};
use serde_json::json;

use super::{good_repository, name, new_repository, passes, ready, rolled};
use crate::given::{PROD, cluster, given, settled};

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

#[test]
fn an_api_that_nobody_answers_stops_everything_until_a_person_decides() {
    ready()
        .when(|world| {
            world.mute.extend(["a", "b", "c"].map(name));
            new_repository(world);
            passes(world, 3);
        })
        .then(|seen| {
            let words = "no machine is changed";
            seen.says(RollingOut, "True", Reason::ClusterUnreachable, words);
            let said = &seen.condition(RollingOut).message;
            assert!(!said.contains("nodeChecks"), "it may pass: {said}");
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
