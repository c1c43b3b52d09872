//! Which Node is whose: by name and by address, and what becomes of a machine that has two.

use nico::api::conditions::{ConditionType, ConditionType::RollingOut, Reason};
use nico::api::parsed::Parsed;
use nico::plan::observed::NodeView;
use serde_json::json;

use crate::given::{Given, PROD, settled};
use crate::rollout::{name, new_repository, passes, ready, rolled};
use crate::world::World;

/// The machine is renamed: a Node of its new name is Ready at its address, that of the old one is dead.
fn rename(world: &mut World, machine: &str) {
    let old = world.nodes.get_mut(machine).unwrap();
    let mut new = old.clone();
    old.ready = false;
    new.name = format!("{machine}.lab.example");
    new.uid = format!("renamed-{machine}");
    world.nodes.insert(new.name.clone(), new);
    world.unwell.insert(name(machine));
}

/// Ready, with this address of a machine and that of its Node, which bears another name.
fn addressed(machine: &str, address: &str, of_node: &str) -> Given {
    let mut given = ready();
    given.0.machine(machine).spec.ip_address = Some(Parsed::of(address));
    given.0.settle();
    assert!(given.0.ready(PROD), "{}", given.0.story());
    let mut node = given.0.nodes.remove(machine).unwrap();
    node.name = format!("{machine}.lab.example");
    node.addresses = vec![of_node.to_owned()];
    given.0.nodes.insert(node.name.clone(), node);
    given.0.written.clear();
    given
}

#[test]
fn a_renamed_control_plane_is_no_lost_quorum() {
    ready()
        .when(|world| {
            for machine in ["a", "b", "c"] {
                rename(world, machine);
            }
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["v", "w", "a", "b", "c"]);
            let words = "Machine a has more than one Node, as after a change of its host name: Node a.lab.example counts, so run kubectl delete node a";
            seen.says(ConditionType::Ready, "True", Reason::DuplicateNode, words);
            let row = seen.status.machines.iter().find(|row| row.name == "b");
            let row = row.unwrap();
            assert_eq!(row.reason, "DuplicateNode");
            assert!(row.message.ends_with("kubectl delete node b"), "{row:?}");
        })
        .when(|world| {
            for machine in ["a", "b", "c"] {
                world.nodes.remove(machine);
            }
        })
        .then(|seen| {
            seen.says(ConditionType::Ready, "True", Reason::AsExpected, "");
        });
}

/// Both Nodes of a machine that leaves go, before anyone else is changed.
#[test]
fn all_nodes_of_a_machine_leave_with_it() {
    ready()
        .when(|world| {
            rename(world, "c");
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({ "machines": ["a", "b", "d"] });
            });
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let mut rolled = rolled(&seen.world);
            rolled.retain(|it| it.starts_with("node"));
            assert_eq!(rolled, ["node c.lab.example", "node c"]);
            assert!(!seen.world.nodes.keys().any(|node| node.starts_with('c')));
        });
}

/// The Nodes of a machine that left count as one: two of three stay a quorum.
#[test]
fn a_dead_machine_with_two_nodes_is_replaced() {
    ready()
        .when(|world| {
            rename(world, "c");
            world.nodes.get_mut("c.lab.example").unwrap().ready = false;
            world.mute.insert(name("c"));
            world.machine("c").status = None;
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({ "machines": ["a", "b", "d"] });
            });
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let rolled = rolled(&seen.world);
            assert_eq!(
                rolled[..4],
                ["c leaves", "node c", "node c.lab.example", "d"]
            );
        });
}

/// The old Node alone is left, and is dead: that is no machine that is well.
#[test]
fn a_dead_node_counts_where_no_other_is_ready() {
    ready()
        .when(|world| {
            rename(world, "v");
            world.nodes.get_mut("v.lab.example").unwrap().ready = false;
            new_repository(world);
            passes(world, 8);
        })
        .then(|seen| {
            let node = seen.observed.node(&name("v"));
            assert_eq!(node.map(|node| node.name.as_str()), Some("v"));
        });
}

#[test]
fn addresses_are_values() {
    for (address, of_node) in [
        ("FD00:0:0::11", "fd00::11"),
        ("fd00::11", "FD00:0000::0:11"),
        ("::ffff:10.0.0.11", "10.0.0.11"),
        ("10.0.0.11", "::ffff:10.0.0.11"),
    ] {
        addressed("a", address, of_node)
            .when(|world| {
                new_repository(world);
                passes(world, 3);
            })
            .then(|seen| {
                let node = seen.observed.node(&name("a")).map(|node| &*node.name);
                assert_eq!(node, Some("a.lab.example"), "{address} {of_node}");
            });
    }
}

/// The Node of an address that two members have is nobody's, however each spells it.
#[test]
fn two_machines_of_one_address_have_no_node_by_it() {
    addressed("a", "FD00:0:0::11", "fd00::11")
        .when(|world| {
            world.machine("b").spec.ip_address = Some(Parsed::of("fd00::11"));
            passes(world, 3);
        })
        .then(|seen| {
            assert_eq!(seen.observed.node(&name("a")), None);
            let named = seen.observed.node(&name("b"));
            assert_eq!(named.map(|node| node.name.as_str()), Some("b"));
        });
}

/// Somebody spells the address of a Machine otherwise.
#[test]
fn another_spelling_of_an_address_rolls_nothing() {
    let cases = [
        ("FD00:0:0::11", "fd00::11", "fd00::12"),
        ("fd00::11", "FD00:0:0::11", "fd00::12"),
        ("10.0.0.11", "::ffff:10.0.0.11", "10.0.0.12"),
        ("::ffff:10.0.0.11", "10.0.0.11", "10.0.0.12"),
        ("cp-01.lab", "CP-01.Lab.", "cp-02.lab"),
        ("CP-01.Lab", "cp-01.lab", "cp-02.lab"),
    ];
    for (before, respelled, another) in cases {
        let address = |text: &str| Some(Parsed::of(text));
        addressed("a", before, before)
            .when(|world| world.machine("a").spec.ip_address = address(respelled))
            .when(settled)
            .then(|seen| {
                assert!(seen.world.ready(PROD), "{}", seen.world.story());
                assert_eq!(rolled(&seen.world), Vec::<String>::new(), "{respelled}");
                assert_eq!(seen.held("a").control_plane[0].ip, before);
            })
            .when(|world| world.machine("a").spec.ip_address = address(another))
            .when(settled)
            .then(|seen| assert!(!rolled(&seen.world).is_empty(), "{another}"));
    }
}

/// A Node of another member's name is never taken for a machine's own, though it has its address.
#[test]
fn a_node_of_another_members_name_is_not_told_by_its_address() {
    ready()
        .when(|world| {
            let address = world.nodes["a"].addresses.clone();
            world.nodes.get_mut("b").unwrap().addresses = address;
            new_repository(world);
            passes(world, 3);
        })
        .then(|seen| {
            let nodes = seen.observed.nodes_of(&name("a"));
            let names: Vec<&str> = nodes.into_iter().map(named).collect();
            assert_eq!(names, ["a"]);
        });
}

fn named(node: &NodeView) -> &str {
    &node.name
}

fn hold(world: &mut World, machine: &str) {
    let finalizer = "cloud.example/lb".to_owned();
    world.finalizers.insert(machine.to_owned(), vec![finalizer]);
}

const HELD: &str = "finalizer cloud.example/lb holds it since";
const COMMAND: &str =
    r#"run kubectl patch node w --type=merge --patch='{"metadata":{"finalizers":null}}'"#;

/// A worker left, and a finalizer holds its Node: the others go on after some minutes, and are ready.
#[test]
fn a_workers_node_that_a_finalizer_holds_holds_up_nobody() {
    ready()
        .when(|world| {
            hold(world, "w");
            world.edit(PROD, |spec| {
                spec["dataPlane"] = json!({ "machines": ["v"] })
            });
        })
        .when(|world| {
            for _ in 0..8 {
                world.pass(PROD);
                world.work();
            }
        })
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["w drains", "w leaves", "node w"]);
            let going = "Node w, left over from Machine w, is being deleted";
            seen.says(RollingOut, "True", Reason::NodeLeftOver, going);
            assert!(!seen.condition(RollingOut).message.contains(HELD));
        })
        .when(|world| {
            world.wait(180);
            world.settle();
        })
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world)[3..], ["v", "a", "b", "c"]);
            seen.says(ConditionType::Ready, "True", Reason::NodeLeftOver, HELD);
            seen.says(ConditionType::Ready, "True", Reason::NodeLeftOver, COMMAND);
        });
}

/// It comes back: it waits until its old Node is gone, and alone.
#[test]
fn a_worker_whose_old_node_is_held_waits_alone() {
    ready()
        .when(|world| {
            hold(world, "w");
            world.edit(PROD, |spec| {
                spec["dataPlane"] = json!({ "machines": ["v"] })
            });
            world.settle();
            world.wait(180);
            world.edit(PROD, |spec| {
                spec["dataPlane"] = json!({ "machines": ["v", "w", "d"] });
            });
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.configurations.contains_key("d"));
            assert!(!seen.world.configurations.contains_key("w"));
            seen.says(RollingOut, "True", Reason::NodeLeftOver, COMMAND);
            for machine in ["v", "a", "b", "c"] {
                let written = rolled(&seen.world);
                assert!(
                    written.iter().any(|it| it == machine),
                    "{machine}: {written:?}"
                );
            }
        })
        .when(|world| {
            world.finalizers.clear();
            world.nodes.remove("w");
        })
        .when(settled)
        .then(|seen| assert!(seen.world.ready(PROD), "{}", seen.world.story()));
}

/// A control plane machine may still be a member of etcd: the others wait, and the message names what holds it.
#[test]
fn a_held_node_of_the_control_plane_holds_up_the_others_and_is_told() {
    ready()
        .when(|world| {
            hold(world, "c");
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({ "machines": ["a", "b", "d"] });
            });
            world.settle();
            world.wait(180);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["d", "c drains", "c leaves", "node c"]);
            seen.says(RollingOut, "True", Reason::NodeLeftOver, HELD);
            assert!(seen.taken().is_none());
        });
}

/// A kubelet takes a while to register: nobody is told to switch the checks off before five minutes have passed.
#[test]
fn a_node_that_is_not_there_yet_is_waited_for_before_advice_is_given() {
    let advice = "where Nodes are named otherwise, set spec.rollout.nodeChecks: false";
    ready()
        .when(|world| {
            world.unwell.insert(name("w"));
            new_repository(world);
            // Both workers are written, w last.
            for _ in 0..3 {
                passes(world, 3);
                world.work();
            }
            world.nodes.remove("w");
            passes(world, 3);
        })
        .then(|seen| {
            let words = "waiting for the Node of Machine w to register";
            seen.says(RollingOut, "True", Reason::NodeNotReady, words);
            let said = &seen.condition(RollingOut).message;
            assert!(!said.contains(advice), "{said}");
        })
        .when(|world| {
            world.wait(300);
        })
        .then(|seen| {
            seen.says(RollingOut, "True", Reason::NodeNotReady, advice);
        });
}
