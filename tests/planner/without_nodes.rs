//! A control plane without kubelets, and so without Nodes: `/readyz` of each member is its health.

use nico::api::conditions::{ConditionType::RollingOut, Reason};
use nico::api::parsed::Parsed;
use nico::plan::action::{Action, Notice};
use nico::plan::health::Health;
use nico::plan::observed::{Answer, NodeView, Workload, WorkloadHealth};
use serde_json::json;

use crate::given::{Given, PROD, cluster, given, planned, settled};
use crate::rollout::{name, new_repository, passes, rolled};
use crate::world::{World, edit};

/// Three control plane machines without Nodes and two workers with one each, Ready.
fn ready() -> Given {
    let mut given = given(cluster().control_plane(["a", "b", "c"]).workers(["v", "w"]))
        .machines(["a", "b", "c", "d", "v", "w"])
        .and(|world| world.without_kubelets = true);
    given.0.settle();
    assert!(given.0.ready(PROD), "{}", given.0.story());
    let nodes: Vec<_> = given.0.nodes.keys().collect();
    assert_eq!(nodes, ["v", "w"]);
    given.0.written.clear();
    given
}

fn node(name: &str, control_plane: bool) -> NodeView {
    NodeView {
        name: name.to_owned(),
        uid: format!("node-{name}"),
        ready: true,
        control_plane,
        ..NodeView::default()
    }
}

/// A person changes what a machine holds: it is written again.
fn change_by_hand(world: &mut World, machine: &str) {
    world.edit_configuration(machine, |held| {
        edit(&mut held.spec, |it| {
            it["gitRepo"] = json!("https://example.com/by-hand.git");
        });
    });
}

fn control_plane_of(world: &mut World, machines: &[&str]) {
    world.edit(PROD, |spec| {
        spec["controlPlane"] = json!({ "machines": machines });
    });
}

/// The world judges at each write that the others are a quorum, and that nobody else is in flight.
#[test]
fn it_rolls_in_order_one_at_a_time() {
    ready().when(new_repository).when(settled).then(|seen| {
        assert!(seen.world.ready(PROD), "{}", seen.world.story());
        assert_eq!(rolled(&seen.world), ["v", "w", "a", "b", "c"]);
    });
}

/// Somebody deleted the Nodes, and no kubelet makes them again.
#[test]
fn nodes_that_are_gone_by_accident_leave_the_word_to_the_api_servers() {
    let mut given = crate::rollout::ready();
    for machine in ["a", "b", "c"] {
        given.0.nodes.remove(machine);
    }
    given.0.without_kubelets = true;
    given
        .when(|world| {
            world.ill.insert(name("b"));
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["v", "w", "b"]);
            let few = "2 of 3 control plane machines are healthy (not b), too few for Machine a";
            seen.says(RollingOut, "True", Reason::QuorumAtRisk, few);
        })
        .when(|world| world.ill.clear())
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world)[3..], ["a", "c"]));
}

#[test]
fn one_that_is_not_ready_or_silent_stops_the_roll() {
    for is_silent in [false, true] {
        ready()
            .when(new_repository)
            .when(|world| {
                let is_written = |world: &World| rolled(world).contains(&"a".to_owned());
                for _ in 0..60 {
                    if !is_written(world) {
                        world.work();
                        world.pass(PROD);
                    }
                }
                let those = if is_silent {
                    &mut world.mute
                } else {
                    &mut world.ill
                };
                those.insert(name("a"));
            })
            .when(settled)
            .then(|seen| {
                assert_eq!(rolled(&seen.world), ["v", "w", "a"]);
                let few = "2 of 3 control plane machines are healthy (not a)";
                seen.says(RollingOut, "True", Reason::QuorumAtRisk, few);
            })
            .when(|world| {
                world.mute.clear();
                world.ill.clear();
            })
            .when(settled)
            .then(|seen| {
                assert!(seen.world.ready(PROD), "{}", seen.world.story());
                assert_eq!(rolled(&seen.world)[3..], ["b", "c"]);
            });
    }
}

#[test]
fn a_worker_waits_for_the_api_server_of_the_machine_that_was_changed_last() {
    ready()
        .when(|world| change_by_hand(world, "c"))
        .when(settled)
        .when(|world| {
            world.ill.insert(name("c"));
            change_by_hand(world, "v");
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["c"]);
            let words = "the API server of Machine c, which was changed last, does not say that it is ready: ";
            seen.says(RollingOut, "True", Reason::ApiServerNotReady, words);
        })
        .when(|world| {
            world.mute.insert(name("c"));
            world.untrusted = "its certificate has expired";
        })
        .when(settled)
        .then(|seen| {
            let words = "that it is ready (its certificate has expired): ";
            seen.says(RollingOut, "True", Reason::ApiServerNotReady, words);
        })
        .when(|world| world.mute.clear())
        .when(|world| world.ill.clear())
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), ["c", "v"]));
}

#[test]
fn what_cannot_be_told_is_not_healthy_and_is_not_touched() {
    let why = "its certificate has none of the names kubernetes, but cp-01.lab";
    ready()
        .when(|world| {
            world.untrusted = why;
            world.mute.insert(name("a"));
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["v", "w"]);
            let words = format!("healthy (not a: {why}), too few for Machine a to be changed");
            seen.says(RollingOut, "True", Reason::QuorumAtRisk, &words);
        })
        // With another, there may be a quorum or not.
        .when(|world| world.mute.extend([name("b")]))
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["v", "w"]);
            seen.says(RollingOut, "True", Reason::ClusterUnreachable, why);
        });
    ready()
        .when(|world| {
            world.refusing = true;
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
            seen.says(RollingOut, "True", Reason::ClusterUnreachable, "");
        });
}

#[test]
fn each_answer_is_one_health() {
    let seen = ready().when(planned);
    let health = |answer: Option<Answer>, lists_nodes: bool| {
        let mut observed = seen.observed.clone();
        let WorkloadHealth::Answered(workload) = &observed.workload else {
            panic!("it was asked");
        };
        let mut workload = Workload::clone(workload);
        workload.answers.remove(&name("a"));
        workload
            .answers
            .extend(answer.map(|answer| (name("a"), answer)));
        workload.nodes = workload.nodes.filter(|_| lists_nodes);
        observed.workload = WorkloadHealth::Answered(workload.into());
        let member = observed.member(&name("a")).unwrap();
        observed.health(&member, true)
    };
    for (answer, expected) in [
        (Some(Answer::Ready), Health::Healthy),
        (Some(Answer::NotReady), Health::Sick),
        (Some(Answer::Refuses), Health::Unknown),
        (Some(Answer::Unreachable), Health::Sick),
        (None, Health::Sick),
    ] {
        assert_eq!(health(answer.clone(), true), expected, "{answer:?}");
    }
    // Whether there are Nodes cannot be told.
    assert_eq!(health(Some(Answer::Ready), false), Health::Unknown);
    assert_eq!(health(Some(Answer::Unreachable), false), Health::Unknown);
}

/// One server would speak for two machines.
#[test]
fn two_members_of_one_address_cannot_be_told_apart() {
    ready()
        .when(|world| {
            world.machine("b").spec.ip_address = Some(Parsed::of("10.0.0.9"));
            world.machine("c").spec.ip_address = Some(Parsed::of("::ffff:10.0.0.9"));
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
            let words = "1 of 3 control plane machines are healthy (not b: another machine of the cluster has its address, c: ";
            seen.says(RollingOut, "True", Reason::ClusterUnreachable, words);
        });
}

/// By its name, by its address, or by its label alone: it may be a member's under another name.
#[test]
fn one_node_of_the_control_plane_is_enough_to_go_by_nodes() {
    let by_address = NodeView {
        addresses: vec!["ip-of-a".to_owned()],
        ..node("elsewhere", false)
    };
    let by_label = node("elsewhere", true);
    for (node, unknown) in [
        (node("a", false), "b, c"),
        (by_address, "b, c"),
        (by_label, "a, b, c"),
    ] {
        ready()
            .when(|world| {
                world.nodes.insert(node.name.clone(), node);
                new_repository(world);
            })
            .when(settled)
            .then(|seen| {
                assert_eq!(rolled(&seen.world), Vec::<String>::new());
                let words = format!("no Node matches {unknown} by name or InternalIP");
                seen.says(RollingOut, "True", Reason::NodeNotReady, &words);
            });
    }
}

/// It was left when the control plane lost its kubelets: the message names it, and what to run.
#[test]
fn a_node_that_was_left_is_named_with_the_command_that_deletes_it() {
    let stale = |machine| NodeView {
        ready: false,
        ..node(machine, true)
    };
    for (stale, names) in [
        (vec![stale("b")], "b"),
        (vec![stale("a"), stale("b"), stale("c")], "a b c"),
    ] {
        ready()
            .when(|world| {
                for node in stale {
                    world.nodes.insert(node.name.clone(), node);
                }
                new_repository(world);
                passes(world, 4);
            })
            .then(|seen| {
                assert_eq!(rolled(&seen.world), Vec::<String>::new());
                let words = format!("; where the control plane runs no kubelets any more, run kubectl delete node {names} in that cluster");
                let said = &seen.condition(RollingOut).message;
                assert!(said.contains(&words), "{said}");
            })
            // As it says.
            .when(|world| {
                for name in names.split(' ') {
                    world.nodes.remove(name);
                }
            })
            .when(settled)
            .then(|seen| assert!(seen.world.ready(PROD), "{}", seen.world.story()));
    }
}

/// There is no Node to drain, to wait for or to delete: a person is told to look after the member of etcd.
#[test]
fn a_healthy_machine_is_replaced_and_its_member_is_told() {
    let tell = Action::Notify(Notice::MemberStays(name("c")));
    let with_nodes = crate::rollout::ready();
    let leaves_at_once = &["d", "c leaves", "v", "w", "a", "b", "d"][..];
    let with_its_node = &[
        "d", "c drains", "c leaves", "node c", "v", "w", "a", "b", "d",
    ];
    for (given, expected, is_told) in [
        (ready(), leaves_at_once, true),
        (with_nodes, with_its_node, false),
    ] {
        let mut seen = given.when(|world| control_plane_of(world, &["a", "b", "d"]));
        let mut told = false;
        for _ in 0..60 {
            told |= seen.plan.actions.contains(&tell);
            seen = seen.when(|world| {
                world.pass(PROD);
                world.work();
                world.wait(30);
            });
        }
        assert!(seen.world.ready(PROD), "{}", seen.world.story());
        assert_eq!(rolled(&seen.world), expected);
        assert_eq!(told, is_told);
    }
}

#[test]
fn a_dead_machine_leaves_before_another_joins() {
    ready()
        .when(|world| {
            world.mute.insert(name("c"));
            let status = &mut world.machine("c").status;
            status.get_or_insert_default().discoverable = false;
            control_plane_of(world, &["a", "b", "d"]);
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world)[..2], ["c leaves", "d"]);
        });
}

/// Fewer than a quorum are ready: what works is not touched, and after three minutes what is sick is mended.
#[test]
fn a_lost_quorum_is_mended_by_what_is_sick() {
    ready()
        .when(|world| {
            world.ill.extend(["b", "c"].map(name));
            new_repository(world);
            passes(world, 4);
        })
        .then(|seen| {
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
            let few = "1 of 3 control plane machines are healthy (not b, c)";
            seen.says(RollingOut, "True", Reason::QuorumLost, few);
        })
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), ["b", "c"]))
        .when(|world| world.ill.clear())
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), ["b", "c", "v", "w", "a"]));
}

/// Workers that leave are drained as ever.
#[test]
fn a_worker_is_drained() {
    ready()
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["dataPlane"] = json!({ "machines": ["v"] });
            });
        })
        .when(settled)
        .then(|seen| {
            let rolled = rolled(&seen.world);
            assert_eq!(rolled[..3], ["w drains", "w leaves", "node w"]);
        });
}
