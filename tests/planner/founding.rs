//! Who founds the cluster, when it counts as founded, what the ledger keeps.

mod founded;

use nico::api::conditions::{ConditionType::MachinesAvailable, Reason};
use nico::plan::observed::SecretView;
use serde_json::json;

use crate::given::{Given, PROD, cluster, given, nix_of, planned, settled};
use crate::world::{World, edit};

fn three() -> Given {
    given(cluster().control_plane(["a", "b", "c"]).workers(["w"]))
        .machines(["a", "b", "c", "w", "x"])
}

fn rewrite(world: &mut World, name: &str, from: &str, to: &str) {
    world.edit_configuration(name, |held| {
        edit(&mut held.spec, |it| {
            let text = &mut it["additionalFiles"][0]["inline"];
            let new = text.as_str().unwrap().replace(from, to);
            assert_ne!(*text, new);
            *text = json!(new);
        });
    });
}

#[test]
fn the_first_writes_are_the_finalizer_the_ledger_the_tokens_and_all_configurations_at_once() {
    three().when(planned).then(|seen| {
        assert_eq!(
            seen.kinds(),
            [
                "AddFinalizer",
                "CreateLedger",
                "CreateToken",
                "CreateToken",
                "Claim",
                "Claim",
                "Claim",
                "Claim"
            ]
        );
    });
}

#[test]
fn with_no_configuration_the_first_by_name_founds_and_everyone_joins_it() {
    three().when(planned).then(|seen| {
        for claim in seen.claims() {
            let nix = nix_of(claim);
            assert_eq!(nix.bootstrap.as_deref(), Some("a"));
            assert_eq!(nix.join.unwrap().name, "a");
            assert_eq!(nix.id, seen.observed.fresh_id);
        }
    });
}

#[test]
fn existing_configurations_say_who_founds() {
    given(cluster().control_plane(["b", "c"]))
        .machines(["a", "b", "c"])
        .and(|world| {
            world.pass(PROD);
            world.configurations.remove("c");
        })
        .when(planned)
        .then(|seen| {
            assert_eq!(seen.claimed(), ["c"]);
            assert_eq!(nix_of(seen.claims()[0]).bootstrap.as_deref(), Some("b"));
            assert_eq!(nix_of(seen.claims()[0]).id, seen.held("b").id);
        });
}

#[test]
fn a_stored_kubeconfig_founds() {
    three()
        .and(|world| {
            world.pass(PROD);
            world.cluster(PROD).kubeconfig.secret = SecretView::Ours;
        })
        .when(planned)
        .then(|seen| assert!(seen.ledger_written().is_some_and(|ledger| ledger.founded)));
}

#[test]
fn the_confirmation_of_the_whole_first_control_plane_founds_and_of_part_of_it_does_not() {
    three()
        .and(|world| {
            world.pass(PROD);
            for name in ["a", "b"] {
                world.apply_configuration(name);
            }
            world.pass(PROD);
        })
        .when(planned)
        .then(|seen| assert_eq!(seen.ledger_written(), None))
        .when(|world| {
            world.apply_configuration("c");
            world.pass(PROD);
        })
        .then(|seen| assert!(seen.ledger_written().is_some_and(|ledger| ledger.founded)));
}

#[test]
fn those_that_stay_do_not_found_without_the_founder() {
    three()
        .and(|world| {
            world.pass(PROD);
            for name in ["b", "c"] {
                world.apply_configuration(name);
            }
            world.pass(PROD);
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({ "machines": ["b", "c"] })
            });
        })
        .when(planned)
        .then(|seen| {
            assert_eq!(seen.ledger_written(), None);
            assert_eq!(seen.given_back(), ["a", "b", "c", "w"]);
        });
}

#[test]
fn once_founded_no_machine_is_told_to_found_and_each_joins_another_member() {
    three()
        .when(settled)
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["dataPlane"] = json!({ "machines": ["w", "x"] })
            })
        })
        .then(|seen| {
            assert_eq!(seen.claimed(), ["x"]);
            let nix = nix_of(seen.claims()[0]);
            assert_eq!(nix.bootstrap, None);
            assert_eq!(nix.join.unwrap().name, "a");
            assert_eq!(nix.id, seen.held("a").id);
        });
}

#[test]
fn join_prefers_a_healthy_member() {
    three()
        .when(settled)
        .when(|world| {
            world.machine("a").status = None;
            world.edit(PROD, |spec| {
                spec["dataPlane"] = json!({ "machines": ["w", "x"] })
            });
        })
        .then(|seen| assert_eq!(nix_of(seen.claims()[0]).join.as_ref().unwrap().name, "b"))
        .when(|world| {
            for name in ["b", "c"] {
                world.machine(name).status = None;
            }
        })
        .then(|seen| assert_eq!(nix_of(seen.claims()[0]).join.as_ref().unwrap().name, "a"));
}

#[test]
fn the_change_of_bootstrap_and_join_alone_makes_nothing_outdated() {
    three().when(settled).then(|seen| {
        assert_eq!(seen.held("a").bootstrap.as_deref(), Some("a"));
        assert!(seen.plan.outdated.is_empty());
    });
}

#[test]
fn an_unconfirmed_machine_that_joins_nobody_is_outdated() {
    let stranded = |to: &'static str| {
        three()
            .when(settled)
            .when(|world| {
                world.edit_configuration("w", |held| held.metadata.annotations = None);
                world.configuration("w").status = None;
                let joins_a = r#""join": { "name": "a", "ip": "ip-of-a" }"#;
                rewrite(world, "w", joins_a, to);
            })
            .differences("w")
    };
    assert_eq!(stranded(r#""join": null"#), ["join"]);
    assert_eq!(stranded(r#""join": {"name": "gone", "ip": "1"}"#), ["join"]);
    assert!(stranded(r#""join": {"name": "b", "ip": "1"}"#).is_empty());
}

#[test]
fn before_founding_the_loss_of_the_founder_gives_everything_back_and_starts_with_a_new_id() {
    let mut old = None;
    three()
        .and(|world| {
            world.pass(PROD);
            world.delete_configuration("a");
        })
        .when(planned)
        .then(|seen| {
            old = Some(seen.held("a").id);
            assert_eq!(seen.given_back(), ["b", "c", "w"]);
            seen.says(
                MachinesAvailable,
                "False",
                Reason::GivingBack,
                "that creates it, a,",
            );
        })
        .when(|world| {
            world.pass(PROD);
            world.apply_configuration("a");
            world.apply_configuration("b");
        })
        .then(|seen| {
            assert!(
                seen.plan.actions.is_empty(),
                "the last of them is waited for"
            )
        })
        .when(|world| {
            world.work_deletions();
        })
        .then(|seen| {
            assert_eq!(seen.claimed(), ["a", "b", "c", "w"]);
            assert_eq!(seen.kinds()[0], "UpdateLedger");
            assert_ne!(Some(nix_of(seen.claims()[0]).id), old);
            assert_eq!(
                seen.ledger_written().unwrap().id,
                nix_of(seen.claims()[0]).id
            );
        });
}

#[test]
fn a_founder_that_is_replaced_in_the_list_starts_bring_up_anew() {
    three()
        .and(|world| {
            world.pass(PROD);
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({ "machines": ["b", "c", "x"] })
            });
        })
        .when(planned)
        .then(|seen| assert_eq!(seen.given_back(), ["a", "b", "c", "w"]))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD));
            assert_eq!(seen.held("b").bootstrap.as_deref(), Some("b"));
        });
}

#[test]
fn configurations_that_disagree_on_the_founder_or_the_id_start_bring_up_anew() {
    for (from, to) in [
        ("\"bootstrap\": \"a\"", "\"bootstrap\": \"b\""),
        ("\"id\": \"0", "\"id\": \"f"),
    ] {
        three()
            .and(|world| {
                world.pass(PROD);
                rewrite(world, "b", from, to);
            })
            .when(planned)
            .then(|seen| assert_eq!(seen.given_back(), ["a", "b", "c", "w"]));
    }
}
