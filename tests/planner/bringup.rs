//! The first writes, what they wait for, and what pauses them.

use nico::api::conditions::{
    ConditionType::{MachinesAvailable, Paused},
    Reason,
};
use nico::api::names::CLUSTER_FINALIZER;
use nico::plan::action::{Action, FinalizerWrite};
use nico::plan::observed::SecretView;
use serde_json::json;

use crate::given::{PROD, cluster, given, machine, planned, settled};

#[test]
fn the_finalizer_is_added_beside_those_that_are_there() {
    given(cluster().control_plane(["a"]))
        .machines(["a"])
        .and(|world| world.cluster(PROD).view.finalizers = vec!["other/one".to_owned()])
        .when(planned)
        .then(|seen| {
            let expected = ["other/one", CLUSTER_FINALIZER];
            assert!(
                matches!(&seen.plan.actions[0], Action::Finalizer(FinalizerWrite::Add(_, all)) if all == &expected)
            );
        });
}

#[test]
fn a_machine_without_its_key_holds_the_claims_back_and_is_named() {
    given(cluster().control_plane(["a", "b"]))
        .machines(["a"])
        .with(machine("b").without_key())
        .when(planned)
        .then(|seen| {
            assert_eq!(seen.kinds(), ["AddFinalizer"]);
            seen.says(MachinesAvailable, "False", Reason::SSHKeyMissing, "ssh-b");
        });
}

#[test]
fn without_injection_no_key_is_needed() {
    given(
        cluster()
            .control_plane(["a"])
            .set("injectSSHKey", json!(false)),
    )
    .with(machine("a").without_key())
    .when(planned)
    .then(|seen| assert_eq!(seen.claimed(), ["a"]));
}

#[test]
fn while_the_credentials_are_missing_no_configuration_is_written() {
    let private = cluster()
        .control_plane(["a"])
        .set("credentialsRef", json!({ "name": "git" }));
    for view in [SecretView::Absent, SecretView::Terminating] {
        given(private.clone())
            .machines(["a"])
            .and(|world| world.cluster(PROD).credentials = Some(view))
            .when(planned)
            .then(|seen| {
                assert!(seen.claimed().is_empty());
                seen.says(MachinesAvailable, "False", Reason::SecretMissing, "git");
            })
            .when(|world| world.cluster(PROD).credentials = Some(SecretView::Adopted))
            .then(|seen| assert_eq!(seen.claimed(), ["a"]));
    }
}

#[test]
fn a_paused_cluster_writes_nothing_but_marks() {
    given(cluster().control_plane(["a"]).set("paused", json!(true)))
        .machines(["a"])
        .when(planned)
        .then(|seen| {
            assert!(seen.plan.actions.is_empty());
            seen.says(Paused, "True", Reason::PausedBySpec, "");
        });
    given(cluster().control_plane(["a"]))
        .machines(["a"])
        .and(|world| {
            world.pass(PROD);
            world.apply_configuration("a");
            world.edit(PROD, |spec| spec["paused"] = json!(true));
        })
        .when(planned)
        .then(|seen| assert_eq!(seen.kinds(), ["Confirm"]));
}

#[test]
fn an_interrupted_bring_up_goes_on_where_it_stopped() {
    given(cluster().control_plane(["a", "b"]).workers(["w"]))
        .machines(["a", "b", "w"])
        .and(|world| {
            let (_, plan) = world.plan(PROD).unwrap();
            for action in &plan.actions[..5] {
                world.apply(PROD, action).unwrap();
            }
        })
        .when(planned)
        .then(|seen| assert_eq!(seen.kinds(), ["Claim", "Claim"]))
        .when(settled)
        .then(|seen| assert!(seen.world.ready(PROD)));
}

#[test]
fn a_machine_that_the_spec_drops_before_founding_is_given_back() {
    given(cluster().control_plane(["a"]).workers(["v", "w"]))
        .machines(["a", "v", "w"])
        .and(|world| {
            world.pass(PROD);
            world.edit(PROD, |spec| {
                spec["dataPlane"] = json!({ "machines": ["v"] })
            });
        })
        .when(planned)
        .then(|seen| assert_eq!(seen.given_back(), ["w"]));
}

/// It goes with the others where the whole control plane is to be another one: no configuration is deleted twice.
#[test]
fn a_machine_that_the_spec_drops_from_the_first_control_plane_is_given_back_once() {
    given(cluster().control_plane(["a", "b"]))
        .machines(["a", "b", "c"])
        .and(|world| {
            world.pass(PROD);
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({ "machines": ["a", "c"] })
            });
        })
        .when(planned)
        .then(|seen| assert_eq!(seen.given_back(), ["a", "b"]));
}

#[test]
fn one_that_was_confirmed_is_not_given_back_even_before_founding() {
    given(cluster().control_plane(["a"]).workers(["v", "w"]))
        .machines(["a", "v", "w"])
        .and(|world| {
            world.pass(PROD);
            world.apply_configuration("w");
            world.pass(PROD);
            world.edit(PROD, |spec| {
                spec["dataPlane"] = json!({ "machines": ["v"] })
            });
        })
        .when(planned)
        .then(|seen| assert!(seen.given_back().is_empty()));
}

#[test]
fn every_write_rests_on_live_reads_but_marks_and_the_finalizer() {
    given(cluster().control_plane(["a"]))
        .machines(["a"])
        .when(planned)
        .then(|seen| {
            for action in &seen.plan.actions {
                assert_eq!(
                    action.needs_live_reads(),
                    !matches!(action, Action::Finalizer(FinalizerWrite::Add(..)))
                );
            }
            // The write of the finalizer ends the pass: what follows is planned again.
            assert!(!seen.plan.needs_live_reads());
            let mut rest = seen.plan.clone();
            rest.actions.remove(0);
            assert!(rest.needs_live_reads());
        });
}

#[test]
fn a_cluster_of_one_and_a_cluster_without_workers_become_ready() {
    for spec in [
        cluster().control_plane(["a"]),
        cluster().control_plane(["a", "b", "c"]),
    ] {
        given(spec)
            .machines(["a", "b", "c"])
            .when(settled)
            .then(|seen| assert!(seen.world.ready(PROD)));
    }
}
