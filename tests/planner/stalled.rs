//! What a person must mend, how it is told, and that nothing is claimed meanwhile.

use nico::api::conditions::ConditionType::{
    ControlPlaneReady, MachinesAvailable, Ready, Reconciling, Stalled,
};
use nico::api::conditions::Reason;
use nico::api::ledger::LedgerError;
use nico::api::nio::Generation;
use nico::api::status::Phase;
use nico::plan::observed::{LedgerView, SecretView, force_release_names};
use serde_json::{Value, json};

use crate::given::{PROD, cluster, given, machine, of_rival, planned, settled};
use crate::status::at_rest;
use crate::world::World;

/// A new cluster with something amiss: what `Stalled` says of it.
fn stalls(spec: &[(&str, Value)], amiss: impl FnOnce(&mut World), reason: Reason, words: &str) {
    let built = spec
        .iter()
        .fold(cluster().control_plane(["a"]), |built, (field, value)| {
            built.set(field, value.clone())
        });
    given(built)
        .machines(["a"])
        .and(amiss)
        .when(planned)
        .then(|seen| {
            seen.says(Stalled, "True", reason, words)
                .says(Ready, "False", reason, words)
                .says(Reconciling, "False", Reason::AsExpected, "");
            assert_eq!(seen.status.phase, Some(Phase::Failed));
            assert!(seen.claimed().is_empty());
        });
}

#[test]
fn what_a_person_must_mend_stalls_and_nothing_is_claimed() {
    stalls(
        &[("gitRepo", Value::Null)],
        |_| {},
        Reason::GitRepoMissing,
        "--default-git-repo",
    );
    stalls(
        &[("refPolicy", json!("Pin"))],
        |_| {},
        Reason::PinNotSupported,
        "Follow",
    );
    stalls(
        &[("fullInstall", json!(true))],
        |_| {},
        Reason::FullInstallUnsafe,
        "false",
    );
    stalls(
        &[("controlPlane", json!({}))],
        |_| {},
        Reason::InvalidSpec,
        "controlPlane",
    );
    stalls(
        &[],
        |world| world.nio = None,
        Reason::NIOMissing,
        "install NIO",
    );
    for view in [SecretView::Foreign, SecretView::Unusable] {
        stalls(
            &[],
            |world| world.cluster(PROD).join_token = view,
            Reason::SecretConflict,
            "prod-join-token",
        );
        stalls(
            &[],
            |world| world.cluster(PROD).worker_token = view,
            Reason::SecretConflict,
            "prod-worker-token",
        );
    }
}

/// Objects that are applied together come one after the other: what may still come stalls after a minute.
#[test]
fn a_mistake_stalls_once_it_has_stood_for_a_minute() {
    for (given, reason) in [
        (
            given(cluster().control_plane(["egde-01"])).machines(["edge-01"]),
            Reason::MachineMissing,
        ),
        (
            given(cluster().select_control_plane(1)).machines(["a"]),
            Reason::TooFewMachines,
        ),
        (
            given(cluster().control_plane(["a"])).with(machine("a").without_key()),
            Reason::SSHKeyMissing,
        ),
        (
            given(cluster().control_plane(["a"]))
                .machines(["a"])
                .and(|world| world.post(&of_rival("a", "rival", "r")).unwrap()),
            Reason::MachineInUse,
        ),
    ] {
        given
            .when(|world| {
                world.pass(PROD);
                world.wait(59);
            })
            .then(|seen| {
                seen.says(Stalled, "False", Reason::AsExpected, "")
                    .says(Ready, "False", reason, "");
                assert_eq!(seen.status.phase, Some(Phase::Provisioning));
                assert!(seen.plan.look_again.is_some());
            })
            .when(|world| world.wait(1))
            .then(|seen| {
                seen.says(Stalled, "True", reason, "")
                    .says(Ready, "False", reason, "")
                    .says(Reconciling, "False", Reason::AsExpected, "");
                assert_eq!(seen.status.phase, Some(Phase::Failed));
            });
    }
}

/// What NICO cannot reach may come back, and what it works at ends by itself.
#[test]
fn what_may_pass_never_stalls() {
    given(cluster().control_plane(["a"]))
        .with(machine("a").undiscoverable())
        .when(settled)
        .then(|seen| {
            seen.says(Stalled, "False", Reason::AsExpected, "");
        });
    given(cluster().control_plane(["a"]).workers(["missing"]))
        .machines(["a"])
        .and(|world| {
            world.broken.insert(machine("a").name);
            world.pass(PROD);
            world.wait(600);
        })
        .when(planned)
        .then(|seen| {
            seen.says(Ready, "False", Reason::MachineMissing, "missing")
                .says(Stalled, "False", Reason::AsExpected, "");
        });
}

#[test]
fn a_release_that_classic_nio_never_makes_stalls() {
    at_rest()
        .when(|world| {
            world.edit(PROD, |spec| spec["dataPlane"] = Value::Null);
            for _ in 0..8 {
                world.pass(PROD);
            }
            assert!(
                world
                    .configuration("w")
                    .metadata
                    .deletion_timestamp
                    .is_some()
            );
        })
        .then(|seen| {
            seen.says(Stalled, "False", Reason::AsExpected, "");
        })
        .when(|world| {
            world.machines.remove(&machine("w").name);
        })
        .then(|seen| {
            let words = "force-release: w";
            seen.says(Stalled, "True", Reason::MachineMissing, words)
                .says(Ready, "False", Reason::MachineMissing, words);
            assert_eq!(seen.status.phase, Some(Phase::Failed));
            assert!(seen.row("w").contains(words), "{}", seen.row("w"));
        })
        .when(|world| world.cluster(PROD).view.force_release = force_release_names("w"))
        .then(|seen| {
            seen.says(Stalled, "False", Reason::AsExpected, "");
        });
}

#[test]
fn a_default_repository_serves_a_cluster_that_names_none() {
    given(cluster().control_plane(["a"]).set("gitRepo", Value::Null))
        .machines(["a"])
        .and(|world| world.settings.default_git_repo = Some("https://example.com/d.git".to_owned()))
        .when(planned)
        .then(|seen| {
            assert_eq!(
                seen.claims()[0].body.render()["spec"]["gitRepo"],
                "https://example.com/d.git"
            )
        });
}

#[test]
fn a_ledger_that_is_foreign_or_unreadable_stalls() {
    for (view, reason) in [
        (LedgerView::Foreign, Reason::SecretConflict),
        (
            LedgerView::Unreadable(LedgerError::Missing("id")),
            Reason::LedgerUnreadable,
        ),
    ] {
        let mut seen = given(cluster().control_plane(["a"]))
            .machines(["a"])
            .when(planned);
        seen.observed.ledger = view;
        let plan = nico::plan::plan(&seen.observed, seen.world.now, &seen.world.settings);
        assert!(plan.actions.is_empty());
        assert_eq!(plan.waits[0].cause.reason, reason);
    }
}

#[test]
fn what_stalls_goes_away_with_its_cause_and_the_machines_are_told_meanwhile() {
    at_rest()
        .when(|world| world.nio = None)
        .then(|seen| {
            seen.says(Stalled, "True", Reason::NIOMissing, "").says(
                ControlPlaneReady,
                "True",
                Reason::AsExpected,
                "1/1",
            );
            assert_eq!(seen.status.machines.len(), 2);
        })
        .when(|world| world.nio = Some(Generation::Classic))
        .then(|seen| {
            seen.says(Stalled, "False", Reason::AsExpected, "");
        });
}

#[test]
fn a_lost_token_is_made_anew_only_while_no_configuration_refers_to_it() {
    for gone in [SecretView::Absent, SecretView::Terminating] {
        at_rest()
            .when(|world| world.cluster(PROD).worker_token = gone)
            .then(|seen| {
                seen.says(Stalled, "True", Reason::JoinTokenLost, "prod-worker-token");
                assert!(seen.plan.actions.is_empty());
            });
    }
    given(cluster().control_plane(["a"]))
        .machines(["a"])
        .and(|world| world.cluster(PROD).join_token = SecretView::Terminating)
        .when(planned)
        .then(|seen| {
            assert_eq!(seen.kinds(), ["AddFinalizer", "DeleteChild"]);
            assert!(
                seen.plan
                    .waits
                    .iter()
                    .any(|it| it.cause.reason == Reason::SecretMissing)
            );
        })
        .when(|world| {
            world.pass(PROD);
        })
        .then(|seen| assert_eq!(seen.claimed(), ["a"]));
}

#[test]
fn an_adopted_token_is_used_and_not_made() {
    given(cluster().control_plane(["a"]))
        .machines(["a"])
        .and(|world| world.cluster(PROD).join_token = SecretView::Adopted)
        .when(planned)
        .then(|seen| {
            assert_eq!(
                seen.kinds(),
                ["AddFinalizer", "CreateLedger", "CreateToken", "Claim"]
            )
        });
}

/// That nothing matches and that all are in use are different mistakes.
#[test]
fn a_selector_that_matches_nothing_is_told_from_one_whose_machines_are_in_use() {
    let none = "1 of 1 control plane machine missing: no Machine in namespace default matches the selector ";
    given(cluster().select_control_plane(1))
        .machines(["w"])
        .when(planned)
        .then(|seen| {
            seen.says(MachinesAvailable, "False", Reason::TooFewMachines, none);
            let said = &seen.condition(MachinesAvailable).message;
            assert!(
                said.ends_with(": label Machines so, or correct the selector"),
                "{said}"
            );
        });
    let few = "no other free Machine in namespace default matches the selector ";
    given(cluster().select_control_plane(2))
        .cp_machines(["a"])
        .when(planned)
        .then(|seen| {
            seen.says(MachinesAvailable, "False", Reason::TooFewMachines, few);
        });
}
