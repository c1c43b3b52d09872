//! Every machine is given back before anything that NIO needs for it goes.

use nico::api::conditions::{
    ConditionType::{KubeconfigReady, Paused, Ready, Reconciling, Stalled},
    Reason,
};
use nico::api::names::MachineName;
use nico::api::nio::Generation;
use nico::api::status::{MachineState, Phase};
use nico::plan::action::{Action, ChildWrite, ConfigurationWrite, FinalizerWrite, Mark, Notice};
use nico::plan::observed::force_release_names;
use nico::plan::writes::Child;
use serde_json::json;

use crate::given::{PROD, Seen, cluster, given, settled, stranger};

/// A Ready cluster that is being deleted.
fn deleted() -> Seen {
    given(cluster().control_plane(["a"]).workers(["w"]))
        .machines(["a", "w"])
        .when(settled)
        .when(|world| world.delete_cluster(PROD))
}

/// The machines of which the status says that they are free; all others are said to leave.
fn let_go(seen: &Seen) -> Vec<&str> {
    let rows = &seen.status.machines;
    assert!(rows.iter().all(|row| row.state == MachineState::Leaving));
    let free = rows.iter().filter(|row| row.message.contains("released"));
    free.map(|row| row.name.as_str()).collect()
}

#[test]
fn configurations_go_first_all_at_once_and_are_waited_for() {
    deleted()
        .then(|seen| {
            assert_eq!(seen.given_back(), ["a", "w"]);
            assert_eq!(seen.plan.actions.len(), 2);
            assert_eq!(seen.status.phase, Some(Phase::Deleting));
            assert_eq!(let_go(seen), [""; 0]);
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
            assert_eq!(let_go(seen), ["a"]);
            seen.says(Reconciling, "True", Reason::Deleting, "released: w");
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
                    Action::Child(ChildWrite::Delete(child)) => Some(*child),
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
                Some(Action::Finalizer(FinalizerWrite::Remove(_, rest))) if rest == &["other/one"]
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
            seen.says(Reconciling, "True", Reason::NIOMissing, "install NIO again")
                .says(Ready, "False", Reason::NIOMissing, "install NIO again")
                .says(Stalled, "True", Reason::NIOMissing, "install NIO again");
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
            let goes_on = "set it to false to release the machines";
            seen.says(Reconciling, "False", Reason::PausedBySpec, "would leave")
                .says(Stalled, "False", Reason::AsExpected, "")
                .says(Ready, "False", Reason::PausedBySpec, goes_on);
            let ready = &seen.condition(Ready).message;
            assert!(ready.starts_with("paused: the deletion waits"), "{ready}");
            // Nobody looked at these.
            let paused = &seen.condition(Paused).message;
            assert!(paused.ends_with("would leave"), "{paused}");
            let unknown = "not looked at";
            seen.says(KubeconfigReady, "Unknown", Reason::Deleting, unknown);
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

/// Kubernetes, "Garbage collection": a deletion that orphans leaves every machine as it is.
#[test]
fn a_deletion_that_orphans_gives_nothing_back() {
    given(cluster().control_plane(["a"]).workers(["w"]))
        .machines(["a", "w"])
        .when(settled)
        .when(|world| {
            let finalizers = &mut world.cluster(PROD).view.finalizers;
            finalizers.push("orphan".to_owned());
            world.delete_cluster(PROD);
        })
        .then(|seen| {
            let mut expected: Vec<Action> = Child::ALL
                .map(|child| Action::Child(ChildWrite::LetGo(child)))
                .to_vec();
            let version = seen.observed.cluster.precondition();
            expected.push(Action::Finalizer(FinalizerWrite::Remove(
                version,
                vec!["orphan".to_owned()],
            )));
            assert_eq!(seen.plan.actions, expected);
        });
}

/// What is out of reach is named, a person can vouch for it, and what it still says is told.
#[test]
fn a_machine_that_nobody_lets_go_of_is_named_and_can_be_forced() {
    let undeleted = |seen: &Seen| {
        seen.world
            .configurations
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    deleted()
        .when(|world| {
            world.pass(PROD);
            world.machines.remove(&MachineName::parse("w").unwrap());
            world.work();
        })
        .then(|seen| {
            assert_eq!(undeleted(seen), ["w"]);
            seen.says(
                Reconciling,
                "True",
                Reason::Deleting,
                "w (its Machine object is gone, and classic NIO never releases it without that",
            );
            for kind in [Ready, Stalled] {
                let status = if kind == Ready { "False" } else { "True" };
                seen.says(kind, status, Reason::MachineMissing, "force-release: w");
            }
            assert_eq!(seen.status.phase, Some(Phase::Deleting));
        })
        .when(|world| {
            world.cluster(PROD).view.force_release = force_release_names("x, w");
            world.pass(PROD);
        })
        .then(|seen| assert_eq!(undeleted(seen), Vec::<String>::new()));
}

/// What NIO may still release is waited for; where it takes long, `Ready` says why.
#[test]
fn a_machine_that_nio_cannot_reach_holds_up_a_deletion_and_is_named() {
    deleted()
        .when(|world| {
            world.pass(PROD);
            let status = &mut world.machine("w").status;
            status.get_or_insert_default().discoverable = false;
        })
        .then(|seen| {
            let words = "w (NIO cannot reach the machine";
            seen.says(Ready, "False", Reason::MachineUndiscoverable, words)
                .says(Stalled, "False", Reason::AsExpected, "");
        })
        .when(|world| {
            world.machine("w").status.as_mut().unwrap().discoverable = true;
            world.wait(240);
        })
        .then(|seen| {
            seen.says(Ready, "False", Reason::NIOComplains, "NIO has not reacted");
        });
}

/// `all` is for a cluster that is being deleted, and nothing that still lives is stripped.
#[test]
fn all_are_forced_only_while_the_cluster_is_being_deleted() {
    given(cluster().control_plane(["a"]).workers(["w"]))
        .machines(["a", "w"])
        .when(settled)
        .when(|world| world.cluster(PROD).view.force_release = force_release_names("all"))
        .then(|seen| assert!(seen.plan.actions.is_empty(), "{:?}", seen.plan.actions))
        .when(|world| {
            world.delete_configuration("w");
        })
        .then(|seen| {
            let strips = |action: &Action| {
                matches!(
                    action,
                    Action::Configuration(ConfigurationWrite::Mark(_, _, Mark::Forced(_)))
                )
            };
            assert!(!seen.plan.actions.iter().any(strips));
        })
        .when(|world| world.delete_cluster(PROD))
        .then(|seen| {
            let strips = |action: &&Action| {
                matches!(
                    action,
                    Action::Configuration(ConfigurationWrite::Mark(_, _, Mark::Forced(_)))
                )
            };
            assert_eq!(seen.plan.actions.iter().filter(strips).count(), 1);
        });
}

/// A machine that was out of reach still says that it is configured.
#[test]
fn what_nio_left_behind_is_told() {
    deleted()
        .when(|world| {
            let status = &mut world.machine("w").status;
            status.get_or_insert_default().discoverable = false;
            world.pass(PROD);
            world.work();
        })
        .then(|seen| {
            let told = Action::Notify(Notice::LeftBehind(MachineName::parse("w").unwrap()));
            assert_eq!(seen.plan.actions.first(), Some(&told));
        });
}
