//! SPEC 5: every machine is given back before anything that NIO needs for it goes.

use nico::api::conditions::{
    ConditionType::{Ready, Reconciling},
    Reason,
};
use nico::api::nio::Generation;
use nico::api::status::Phase;
use nico::plan::action::{Action, Child};
use serde_json::json;

use crate::given::{PROD, Seen, cluster, given, settled, stranger};

/// A Ready cluster that is being deleted.
fn deleted() -> Seen {
    given(cluster().control_plane(["a"]).workers(["w"]))
        .machines(["a", "w"])
        .when(settled)
        .when(|world| world.delete_cluster(PROD))
}

#[test]
fn configurations_go_first_all_at_once_and_are_waited_for() {
    deleted()
        .then(|seen| {
            assert_eq!(seen.given_back(), ["a", "w"]);
            assert_eq!(seen.plan.actions.len(), 2);
            assert_eq!(seen.status.phase, Some(Phase::Deleting));
            seen.says(Ready, "False", Reason::Deleting, "").says(
                Reconciling,
                "True",
                Reason::Deleting,
                "a, w",
            );
        })
        .when(|world| {
            world.pass(PROD);
            world.apply_configuration("a");
        })
        .then(|seen| {
            assert!(seen.plan.actions.is_empty());
            seen.says(Reconciling, "True", Reason::Deleting, "let go of: w");
        });
}

#[test]
fn then_the_secrets_known_hosts_the_ledger_and_at_last_the_finalizer() {
    deleted()
        .when(|world| {
            world.pass(PROD);
            world.work();
        })
        .then(|seen| {
            let children: Vec<Child> = seen
                .plan
                .actions
                .iter()
                .filter_map(|action| match action {
                    Action::DeleteChild(child) => Some(*child),
                    _ => None,
                })
                .collect();
            assert_eq!(children, Child::ALL);
            assert_eq!(children.last(), Some(&Child::Ledger));
            assert_eq!(seen.kinds().last(), Some(&"RemoveFinalizer"));
            assert!(seen.plan.needs_live_reads());
        });
}

#[test]
fn foreign_finalizers_stay() {
    deleted()
        .when(|world| {
            world
                .cluster(PROD)
                .view
                .finalizers
                .push("other/one".to_owned());
            world.pass(PROD);
            world.work();
        })
        .then(|seen| {
            assert!(matches!(
                seen.plan.actions.last(),
                Some(Action::RemoveFinalizer(_, rest)) if rest == &["other/one"]
            ));
        });
}

#[test]
fn a_deletion_needs_no_valid_spec() {
    deleted()
        .when(|world| world.cluster(PROD).spec = json!(7))
        .then(|seen| assert_eq!(seen.given_back(), ["a", "w"]));
}

#[test]
fn while_nobody_can_say_what_is_held_a_deletion_waits_and_says_so() {
    deleted()
        .when(|world| world.nio = None)
        .then(|seen| {
            assert!(seen.plan.actions.is_empty());
            seen.says(Reconciling, "True", Reason::NIOMissing, "install NIO again");
        })
        .when(|world| world.nio = Some(Generation::V1))
        .then(|seen| assert_eq!(seen.given_back(), ["a", "w"]));
}

#[test]
fn what_is_not_ours_is_left_alone() {
    deleted()
        .when(|world| world.post(&stranger("odd", "a")).unwrap())
        .then(|seen| assert_eq!(seen.given_back(), ["a", "w"]))
        .when(|world| {
            world.pass(PROD);
            world.apply_configuration("a");
            world.apply_configuration("w");
        })
        .then(|seen| assert_eq!(seen.kinds().last(), Some(&"RemoveFinalizer")));
}

#[test]
fn an_owned_configuration_of_any_name_is_waited_for() {
    deleted()
        .when(|world| {
            world.pass(PROD);
            world.work();
            let mut odd = stranger("no.machine", "a");
            odd["metadata"]["ownerReferences"] = json!([nico::plan::desired::owner_reference(
                &world.cluster(PROD).view
            )]);
            world.post(&odd).unwrap();
        })
        .then(|seen| assert_eq!(seen.kinds(), ["GiveBack"]));
}

#[test]
fn a_paused_deletion_waits_and_says_so() {
    deleted()
        .when(|world| world.edit(PROD, |spec| spec["paused"] = json!(true)))
        .then(|seen| {
            assert!(seen.plan.actions.is_empty());
            seen.says(Reconciling, "True", Reason::PausedBySpec, "paused");
        });
}

#[test]
fn without_the_finalizer_nothing_is_done() {
    let mut seen = deleted();
    seen.observed.cluster.finalizers = vec!["other/one".to_owned()];
    let plan = nico::plan::plan(&seen.observed, seen.world.now, &seen.world.settings);
    assert!(plan.actions.is_empty());
}

#[test]
fn a_cluster_of_the_same_name_starts_with_another_id() {
    let seen = deleted();
    let old = seen.held("a").id;
    seen.when(|world| {
        world.settle();
        world.create_cluster(PROD, cluster().control_plane(["a"]).0);
        world.settle();
    })
    .then(|seen| {
        assert!(seen.world.ready(PROD));
        assert_ne!(seen.held("a").id, old);
    });
}
