//! After the founding: nobody founds again, and a lost ledger is made again only where that is sure.

use nico::api::conditions::{ConditionType::Stalled, Reason};
use nico::api::names::ClusterId;
use serde_json::json;

use super::three;
use crate::given::{PROD, cluster, given, machine, planned, settled};
use crate::world::edit;

#[test]
fn after_founding_nothing_is_given_back_when_the_founder_goes() {
    three()
        .when(settled)
        .when(|world| {
            world.delete_configuration("a");
        })
        .then(|seen| assert!(seen.given_back().is_empty() && seen.claimed().is_empty()));
}

#[test]
fn a_founded_cluster_without_a_control_plane_is_lost_and_writes_nothing() {
    let lost = |gone: bool| {
        three()
            .when(settled)
            .when(|world| {
                for name in ["a", "b", "c"] {
                    world.delete_configuration(name);
                }
                if gone {
                    world.work_deletions();
                }
                world.edit(PROD, |spec| {
                    spec["dataPlane"] = json!({ "machines": ["w", "x"] })
                });
            })
            .then(|seen| {
                seen.says(Stalled, "True", Reason::ControlPlaneLost, "apply it again");
                assert!(seen.claimed().is_empty() && seen.given_back().is_empty());
            });
    };
    lost(true);
    lost(false);
}

#[test]
fn a_control_plane_machine_joins_a_founded_cluster_through_the_slot() {
    three()
        .when(settled)
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({ "machines": ["a", "b", "c", "x"] })
            });
        })
        .then(|seen| {
            assert!(seen.claimed().is_empty());
            assert_eq!(seen.taken(), Some("x"));
            let kind = nico::api::conditions::ConditionType::RollingOut;
            seen.says(kind, "True", Reason::OutOfDate, "x is next");
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(
                seen.held("x").join.map(|node| node.name).as_deref(),
                Some("a")
            );
        });
}

#[test]
fn a_lost_ledger_is_made_anew_from_a_once_confirmed_configuration() {
    three()
        .when(settled)
        .when(|world| world.cluster(PROD).ledger = None)
        .then(|seen| {
            let ledger = seen.ledger_written().expect("it is made again");
            assert_eq!(seen.kinds(), ["CreateLedger"]);
            assert_eq!(ledger.id, seen.held("a").id);
            assert!(ledger.founded && ledger.slot.fencing);
        });
}

#[test]
fn a_ledger_lost_before_the_founding_takes_the_id_and_is_not_founded() {
    three()
        .and(|world| {
            world.pass(PROD);
            world.cluster(PROD).ledger = None;
        })
        .when(planned)
        .then(|seen| {
            let ledger = seen.ledger_written().expect("it is made again");
            assert_eq!(ledger.id, seen.held("a").id);
            assert!(!ledger.founded && !ledger.slot.fencing);
        });
}

#[test]
fn a_lost_ledger_without_any_cluster_nix_is_not_guessed_at() {
    three()
        .and(|world| {
            world.pass(PROD);
            world.cluster(PROD).ledger = None;
            for name in ["a", "b", "c", "w"] {
                world.edit_configuration(name, |held| {
                    edit(&mut held.spec, |it| it.remove("additionalFiles"))
                        .map(drop)
                        .unwrap()
                });
            }
        })
        .when(planned)
        .then(|seen| {
            seen.says(Stalled, "True", Reason::LedgerUnreadable, "restore");
            assert!(seen.plan.actions.is_empty());
        });
}

#[test]
fn a_ledger_that_says_founded_is_believed_and_one_that_forgot_is_corrected() {
    three()
        .when(settled)
        .when(|world| {
            let (_, ledger) = world.cluster(PROD).ledger.as_mut().unwrap();
            ledger.founded = false;
        })
        .then(|seen| assert!(seen.ledger_written().is_some_and(|ledger| ledger.founded)));
}

#[test]
fn a_waiting_cluster_shows_no_revision_of_an_id_that_nobody_keeps() {
    let seen = given(cluster().control_plane(["a", "b"]))
        .machines(["a"])
        .with(machine("b").undiscoverable())
        .when(|world| {
            world.pass(PROD);
        });
    let before = seen.status.clone();
    seen.when(|world| {
        world.cluster(PROD).view.status = before.clone();
    })
    .then(|seen| {
        assert_ne!(seen.observed.fresh_id, ClusterId::from_bits(0));
        assert_eq!(seen.status.revision, None);
        assert_eq!(seen.status, before);
    });
}

#[test]
fn in_a_founded_cluster_no_machine_joins_itself_and_a_single_one_joins_nobody() {
    let joins = |control_plane: &[&str]| -> Vec<Option<String>> {
        let seen = given(cluster().set("controlPlane", json!({ "machines": control_plane })))
            .machines(["a", "b"])
            .when(settled);
        let settings = &seen.world.settings;
        let spec = nico::plan::prerequisites::spec(&seen.observed).unwrap();
        let prerequisites = nico::plan::prerequisites::check(
            &seen.observed,
            spec,
            settings,
            &nico::plan::pin::Pin::default(),
        )
        .unwrap();
        let selection = nico::plan::selection::select(&seen.observed, &prerequisites.spec);
        let founding = nico::plan::founding::founding(&seen.observed, &selection).unwrap();
        let targets =
            nico::plan::targets::targets(&seen.observed, &prerequisites, &founding, &selection);
        let joins = targets
            .into_values()
            .map(|target| target.nix.join.as_ref().map(|node| node.name.clone()));
        joins.collect()
    };
    let to = |name: &str| Some(name.to_owned());
    assert_eq!(joins(&["a", "b"]), [to("b"), to("a")]);
    assert_eq!(joins(&["a"]), [None]);
}
