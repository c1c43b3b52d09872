//! Texts of others: what has not the form that it must have stands in the way of its own machine alone, and of nothing else.

use std::sync::Arc;

use nico::api::conditions::ConditionType::MachinesAvailable;
use nico::api::conditions::Reason;
use nico::api::nio::{Generation, Machine};
use nico::api::parsed::Parsed;
use nico::api::status::MachineState;
use nico::plan::observed::SshKeyView;
use nico::plan::pin::Pin;
use nico::plan::ssh_key::secret_of;
use nico::plan::{founding, prerequisites, selection, targets};
use serde_json::{Value, json};

use crate::given::{MachineBuilder, PROD, cluster, given, machine, planned, settled};
use crate::rollout::name;
use crate::world::{edit, usable_key};

/// The machine with this spec.
fn says(name: &str, spec: &Value) -> MachineBuilder {
    let mut made = machine(name);
    made.object.spec = serde_json::from_value(spec.clone()).unwrap();
    made
}

#[test]
fn a_machine_with_a_malformed_address_is_passed_over_and_its_field_is_named() {
    let long = "1".repeat(300_000);
    for (field, address) in [
        ("ipAddress", long.as_str()),
        ("hostname", "w.lan\nServer: x"),
        ("host", "w.lan -oProxyCommand=id"),
    ] {
        given(cluster().control_plane(["a"]).workers(["v", "w"]))
            .machines(["a", "v"])
            .with(says("w", &json!({ field: address })))
            .when(|world| {
                world.pass(PROD);
                world.pass(PROD);
            })
            .then(|seen| {
                let held: Vec<&String> = seen.observed.configurations.keys().collect();
                assert_eq!(held, ["a", "v"], "{field}");
                let named = format!("spec.{field} of Machine w is neither");
                seen.says(
                    MachinesAvailable,
                    "False",
                    Reason::MachineAddressMalformed,
                    &named,
                );
                let row = seen
                    .status
                    .machines
                    .iter()
                    .find(|row| row.name == "w")
                    .unwrap();
                assert!(row.message.contains(&named), "{row:?}");
            });
    }
}

#[test]
fn a_selector_takes_the_next_machine_and_names_the_malformed_one_where_there_is_none() {
    given(cluster().control_plane(["a"]).select_workers(1))
        .machines(["a"])
        .with(says("v", &json!({ "ipAddress": "a b" })).worker())
        .when(planned)
        .then(|seen| {
            let named = "spec.ipAddress of Machine v is neither";
            seen.says(
                MachinesAvailable,
                "False",
                Reason::MachineAddressMalformed,
                named,
            );
        })
        .when(|world| {
            let well = machine("w").worker();
            world.ssh_keys.insert(name("w"), usable_key(&name("w")));
            world.machines.insert(name("w"), well.object);
            world.settle();
        })
        .then(|seen| assert_eq!(seen.state("w"), MachineState::Confirmed));
}

#[test]
fn a_member_whose_address_becomes_malformed_keeps_the_one_it_has() {
    given(cluster().control_plane(["a"]).workers(["w"]))
        .machines(["a", "w"])
        .when(settled)
        .when(|world| *world.machine("w") = says("w", &json!({ "ipAddress": "a b" })).object)
        .then(|seen| {
            assert!(seen.plan.outdated.is_empty(), "{:?}", seen.plan.outdated);
            assert_eq!(seen.held("a").workers[0].ip, "ip-of-w");
        });
}

#[test]
fn an_address_that_was_written_by_hand_reaches_no_other_machine() {
    given(cluster().control_plane(["a"]).workers(["v", "w"]))
        .machines(["a", "v", "w"])
        .when(settled)
        .when(|world| {
            world.machines.remove(&name("w"));
            world.edit_configuration("w", |held| {
                edit(&mut held.spec, |it| {
                    let inline = &mut it["additionalFiles"][0]["inline"];
                    let text = inline.as_str().unwrap();
                    *inline = json!(text.replace("ip-of-w", "10.0.0.1 \\n id"));
                });
            });
            world.settle();
        })
        .then(|seen| {
            for machine in ["a", "v"] {
                let held = seen.held(machine);
                let w = held.workers.iter().find(|node| node.name == "w").unwrap();
                assert_eq!(w.ip, "ip-of-w", "{held:?}");
            }
        });
}

/// An operator upgrade rolls nothing: what an older version took for an address stays where every machine holds it.
#[test]
fn an_address_that_counts_as_none_today_and_that_all_hold_rolls_nothing() {
    given(cluster().control_plane(["a"]).workers(["v", "w"]))
        .machines(["a", "v", "w"])
        .when(settled)
        .when(|world| {
            world.machines.remove(&name("w"));
            for machine in ["a", "v", "w"] {
                world.edit_configuration(machine, |held| {
                    edit(&mut held.spec, |it| {
                        let inline = &mut it["additionalFiles"][0]["inline"];
                        let text = inline.as_str().unwrap();
                        *inline = json!(text.replace("ip-of-w", "fe80::1%eth0"));
                    });
                });
            }
            world.settle();
        })
        .then(|seen| {
            assert!(seen.plan.outdated.is_empty(), "{:?}", seen.plan.outdated);
            let held = seen.held("v");
            assert!(held.workers.iter().any(|node| node.ip == "fe80::1%eth0"));
        });
}

/// Host names have at most 253 characters, a dot at the end included.
#[test]
fn an_unusable_spelling_of_an_address_is_corrected() {
    let usable = format!("{}.lab", ["a"; 125].join("."));
    let unusable = format!("{usable}.");
    assert_eq!((usable.len(), unusable.len()), (253, 254));
    given(cluster().control_plane(["a"]).workers(["w"]))
        .machines(["a", "w"])
        .when(settled)
        .when(|world| {
            for machine in ["a", "w"] {
                world.edit_configuration(machine, |held| {
                    edit(&mut held.spec, |it| {
                        let inline = &mut it["additionalFiles"][0]["inline"];
                        let text = inline.as_str().unwrap();
                        *inline = json!(text.replace("ip-of-w", &unusable));
                    });
                });
            }
            world.machine("w").spec.ip_address = Some(Parsed::of(&usable));
            world.settle();
        })
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            for machine in ["a", "w"] {
                assert_eq!(seen.held(machine).workers[0].ip, usable);
            }
        });
}

#[test]
fn a_key_whose_name_no_secret_can_have_is_the_obstacle_of_its_machine() {
    for (field, reference) in [
        ("name", json!({ "name": "a b" })),
        ("name", json!({ "name": "../../nodes/x" })),
        ("namespace", json!({ "name": "w", "namespace": "a\nb" })),
    ] {
        let spec = json!({ "ipAddress": "10.0.0.1", "sshKeySecretRef": reference });
        let object: Machine = says("w", &spec).object;
        let view = secret_of(&name("w"), &object, Some(Generation::Classic), "team").unwrap_err();
        let SshKeyView::Unusable(cause) = &view else {
            panic!("{view:?} is used");
        };
        let named = format!("spec.sshKeySecretRef.{field} of Machine w is not a name");
        assert!(cause.message.starts_with(&named), "{cause:?}");
        given(cluster().control_plane(["a"]).workers(["v", "w"]))
            .machines(["a", "v"])
            .with(says("w", &spec))
            .when(|world| {
                world.pass(PROD);
                world.pass(PROD);
            })
            .then(|seen| {
                let held: Vec<&String> = seen.observed.configurations.keys().collect();
                assert_eq!(held, ["a", "v"]);
                seen.says(MachinesAvailable, "False", Reason::SSHKeyUnusable, &named);
            });
    }
}

/// However long what stands in them is, the lists are there once, not once a machine.
#[test]
fn the_targets_of_all_members_share_their_lists() {
    given(cluster().control_plane(["a", "b", "c"]).workers(["v", "w"]))
        .machines(["a", "b", "c", "v", "w"])
        .when(settled)
        .then(|seen| {
            let observed = &seen.observed;
            let spec = prerequisites::spec(observed).unwrap();
            let selection = selection::choose(observed, spec);
            let prerequisites =
                prerequisites::check(observed, spec, &seen.world.settings, &Pin::default())
                    .unwrap();
            let founding = founding::founding(observed, &selection).unwrap();
            let targets = targets::targets(observed, &prerequisites, &founding, &selection);
            let mut lists = targets.values().map(|target| &target.nix.lists);
            let first = lists.next().unwrap();
            assert_eq!(lists.filter(|it| Arc::ptr_eq(it, first)).count(), 4);
        });
}
