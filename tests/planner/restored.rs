//! A cluster that was restored from a backup, or orphaned and applied again: while it is paused it takes back what bears its labels and
//! its id. No machine is written for that, and no token is made.

mod later;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use nico::api::conditions::{
    ConditionType::{MachinesAvailable, Paused, Stalled},
    Reason,
};
use nico::api::names::ClusterId;
use nico::api::nio::NixosConfiguration;
use nico::plan::action::{Action, ChildWrite};
use nico::plan::observed::{KnownHostsView, SecretView};
use nico::plan::patience::MISSING_LOOKED_FOR_AFTER;
use nico::plan::writes::Child;
use serde_json::{Value, json};

use crate::given::{Given, PROD, Seen, planned, settled};
use crate::rollout::{ready, rolled};
use crate::world::{World, edit};

const ALL: [&str; 5] = ["a", "b", "c", "v", "w"];

/// A settled cluster that was restored, paused.
fn restored() -> Given {
    ready().and(|world| {
        world.restore(PROD);
        pause(world, true);
    })
}

fn pause(world: &mut World, paused: bool) {
    world.edit(PROD, |spec| spec["paused"] = json!(paused));
}

/// What is held, but for its owner and its version.
fn held(world: &World) -> BTreeMap<String, Value> {
    let held = world.configurations.iter().map(|(name, held)| {
        let NixosConfiguration { metadata, spec, .. } = held;
        let labels = json!([metadata.labels, metadata.annotations, metadata.finalizers]);
        (name.clone(), json!([labels, spec.stored()]))
    });
    held.collect()
}

fn owner(kind: &str, name: &str, controller: bool) -> Vec<OwnerReference> {
    vec![OwnerReference {
        api_version: "nico.homystack.com/v1alpha1".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: "another-uid".to_owned(),
        controller: Some(controller),
        ..OwnerReference::default()
    }]
}

fn taken_back(seen: &Seen) -> Vec<Child> {
    let children = seen.plan.actions.iter().filter_map(|action| match action {
        Action::Child(ChildWrite::TakeBack(child, _)) => Some(*child),
        _ => None,
    });
    children.collect()
}

fn restored_configurations(seen: &Seen) -> usize {
    let kinds = seen.kinds();
    kinds.iter().filter(|kind| **kind == "Restore").count()
}

#[test]
fn a_paused_cluster_takes_all_back_the_ledger_last_and_writes_no_machine() {
    let given = restored();
    let (before, id) = (held(&given.0), given.0.clusters[PROD].ledger.clone());
    given
        .when(planned)
        .then(|seen| {
            assert_eq!(restored_configurations(seen), 5);
            assert_eq!(taken_back(seen), Child::ALL);
            assert_eq!(seen.kinds().len(), 10, "{:?}", seen.kinds());
            assert!(seen.plan.needs_live_reads());
            seen.says(Stalled, "False", Reason::AsExpected, "").says(
                MachinesAvailable,
                "False",
                Reason::Progressing,
                "taking back what an earlier KubernetesCluster",
            );
            let words = "what would change is not known yet; takes back";
            seen.says(Paused, "True", Reason::PausedBySpec, words);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(held(&seen.world), before);
            assert!(
                seen.observed
                    .members()
                    .all(|it| it.controlled && it.is_confirmed())
            );
            let words = "nothing would change; takes back NixosConfigurations of 5 machines, Secret prod-join-token, Secret prod-worker-token, Secret prod-kubeconfig, ConfigMap prod-known-hosts, ConfigMap prod-nico";
            seen.says(Paused, "True", Reason::PausedBySpec, words);
        })
        .when(|world| {
            pause(world, false);
            world.settle();
            assert!(world.ready(PROD), "{}", world.story());
        })
        .then(|seen| {
            assert_eq!(held(&seen.world), before);
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
            let ledger = &seen.world.clusters[PROD].ledger;
            assert_eq!(ledger.as_ref().map(|it| &it.1), id.as_ref().map(|it| &it.1));
            let kinds = seen
                .world
                .written
                .iter()
                .map(|(_, it)| crate::given::kind(it));
            let made = kinds.filter(|kind| ["CreateToken", "CreateLedger", "Claim"].contains(kind));
            assert_eq!(made.count(), 0);
        });
}

#[test]
fn a_cluster_that_is_not_paused_takes_nothing_and_says_what_to_do() {
    restored().and(|world| pause(world, false)).when(settled).then(|seen| {
        assert_eq!(seen.world.written, vec![]);
        seen.says(
            Stalled,
            "True",
            Reason::SecretConflict,
            "ConfigMap prod-nico was left by an earlier KubernetesCluster of this name (a restored backup, or kubectl delete --cascade=orphan): set spec.paused to true",
        );
    });
}

#[test]
fn the_finalizer_comes_first() {
    restored()
        .when(|world| world.cluster(PROD).view.finalizers.clear())
        .then(|seen| {
            assert_eq!(seen.kinds()[..2], ["AddFinalizer", "Restore"]);
            // That write ends the pass: the rest is planned again from live reads.
            assert!(!seen.plan.needs_live_reads());
        });
}

#[test]
fn what_an_earlier_cluster_of_the_name_still_seems_to_own_is_taken_back() {
    restored()
        .when(|world| {
            for machine in ALL {
                world.edit_configuration(machine, |held| {
                    held.metadata.owner_references = Some(owner("KubernetesCluster", PROD, true));
                });
            }
        })
        .then(|seen| assert_eq!(restored_configurations(seen), 5))
        .when(settled)
        .then(|seen| assert!(seen.observed.members().all(|it| it.controlled)));
}

#[test]
fn what_another_object_owns_is_left_alone_and_named_and_keeps_nothing_else() {
    for other in [
        owner("KubernetesCluster", "lab", true),
        owner("KubernetesCluster", "lab", false),
        owner("ConfigMap", PROD, true),
        owner("ConfigMap", PROD, false),
    ] {
        restored()
            .when(|world| {
                world.edit_configuration("w", |held| {
                    held.metadata.owner_references = Some(other.clone());
                });
            })
            .then(|seen| {
                assert_eq!(restored_configurations(seen), 4, "{other:?}");
                assert_eq!(taken_back(seen), Child::ALL, "{other:?}");
            })
            .when(|world| {
                world.pass(PROD);
            })
            .then(|seen| {
                let owners = &seen.world.configurations["w"].metadata.owner_references;
                assert_eq!(owners.as_ref(), Some(&other));
                seen.says(
                    Paused,
                    "True",
                    Reason::PausedBySpec,
                    "NixosConfiguration w has another owner: it is left alone",
                );
            });
    }
}

/// Another id in the cluster.nix that a configuration holds, or another name.
fn says(world: &mut World, machine: &str, field: &str, value: &Value) {
    world.edit_configuration(machine, |held| {
        edit(&mut held.spec, |it| {
            let inline = &mut it["additionalFiles"][0]["inline"];
            let text = inline.as_str().unwrap();
            let (head, rest) = text.split_once("''\n").unwrap();
            let (text, tail) = rest.split_once("''").unwrap();
            let mut values: Value = serde_json::from_str(text).unwrap();
            values[field] = value.clone();
            *inline = json!(format!("{head}''\n{values}\n''{tail}"));
        });
    });
}

type Change = fn(&mut World);

#[test]
fn while_one_that_was_left_does_not_agree_the_ledger_and_the_secrets_wait() {
    #[rustfmt::skip]
    let table: [(Change, &str); 5] = [
        (|world| says(world, "w", "id", &json!(ClusterId::from_bits(77))), "NixosConfiguration w has another cluster id, "),
        (|world| says(world, "w", "name", &json!("lab")), "NixosConfiguration w is of the cluster lab: correct its labels"),
        (|world| world.edit_configuration("w", |held| { edit(&mut held.spec, |it| it["additionalFiles"] = json!([])); }),
            "NixosConfiguration w holds no cluster.nix of NICO's"),
        (|world| world.edit_configuration("w", |held| { edit(&mut held.spec, |it| it["machineRef"]["name"] = json!("x")); }),
            "NixosConfiguration w does not bear the name of its machine"),
        (|world| { let now = world.now; world.configuration("w").metadata.deletion_timestamp = Some(Time(now)); },
            "NixosConfiguration w is being deleted"),
    ];
    for (change, words) in table {
        let given = restored().and(change);
        let before = held(&given.0);
        given
            .when(planned)
            .then(|seen| {
                assert_eq!(restored_configurations(seen), 4, "{words}");
                assert_eq!(taken_back(seen), [], "{words}");
                seen.says(Stalled, "True", Reason::SecretConflict, words)
                    .says(Paused, "True", Reason::PausedBySpec, words);
            })
            // Whoever goes on all the same finds that nothing is written.
            .when(|world| {
                world.pass(PROD);
                pause(world, false);
                for _ in 0..4 {
                    world.pass(PROD);
                    world.wait(60);
                }
            })
            .then(|seen| {
                assert_eq!(held(&seen.world), before, "{words}");
                seen.says(Stalled, "True", Reason::SecretConflict, "prod-nico");
            });
    }
}

#[test]
fn nothing_is_taken_without_a_ledger_nor_a_ledger_and_secrets_without_a_configuration() {
    restored()
        .when(|world| {
            let cluster = world.cluster(PROD);
            cluster.ledger = None;
            cluster.left.remove(&Child::Ledger);
        })
        .then(|seen| {
            assert_eq!(seen.kinds(), Vec::<&str>::new());
            let words = "nothing is taken back without ConfigMap prod-nico";
            seen.says(Paused, "True", Reason::PausedBySpec, words);
        })
        // The configurations come first, and no watch tells of the rest.
        .when(|world| {
            let cluster = world.cluster(PROD);
            (cluster.join_token, cluster.worker_token) = (SecretView::Absent, SecretView::Absent);
            cluster.kubeconfig.secret = SecretView::Absent;
            cluster.left.clear();
        })
        .then(|seen| {
            assert_eq!(seen.kinds(), Vec::<&str>::new());
            let words = "nothing is taken back without ConfigMap prod-nico";
            seen.says(Paused, "True", Reason::PausedBySpec, words);
            assert_eq!(seen.plan.look_again, Some(MISSING_LOOKED_FOR_AFTER));
        });
    restored()
        .when(|world| world.configurations.clear())
        .then(|seen| {
            assert_eq!(seen.kinds(), Vec::<&str>::new());
            let words = "ConfigMap prod-nico is not taken back: no NixosConfiguration bears its id: restore these too, or, for a new cluster, delete Secret prod-join-token, Secret prod-worker-token, Secret prod-kubeconfig, ConfigMap prod-known-hosts, ConfigMap prod-nico";
            seen.says(Stalled, "True", Reason::SecretConflict, words);
            assert_eq!(seen.plan.look_again, Some(MISSING_LOOKED_FOR_AFTER));
        })
        // As the message says.
        .when(|world| {
            let cluster = world.cluster(PROD);
            (cluster.join_token, cluster.worker_token) = (SecretView::Absent, SecretView::Absent);
            cluster.kubeconfig.secret = SecretView::Absent;
            cluster.known_hosts = KnownHostsView::Absent;
            cluster.ledger = None;
            cluster.left.clear();
            pause(world, false);
            world.settle();
        })
        .then(|seen| assert!(seen.world.ready(PROD), "{}", seen.world.story()));
}

/// I5: the tokens of a restored cluster are never made anew.
#[test]
fn a_token_that_was_not_restored_is_missed_and_not_made() {
    restored()
        .when(|world| {
            let cluster = world.cluster(PROD);
            cluster.worker_token = SecretView::Absent;
            cluster.left.remove(&Child::WorkerToken);
            world.settle();
        })
        .then(|seen| {
            let words = "Secret prod-worker-token is missing: restore it first";
            seen.says(Paused, "True", Reason::PausedBySpec, words);
            assert_eq!(seen.plan.look_again, Some(MISSING_LOOKED_FOR_AFTER));
        })
        .when(|world| {
            pause(world, false);
            world.settle();
        })
        .then(|seen| {
            seen.says(Stalled, "True", Reason::JoinTokenLost, "prod-worker-token");
            let token = seen.world.clusters[PROD].worker_token;
            assert_eq!(token, SecretView::Absent);
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
        });
}

/// A crash between any two of the writes, and `paused: false` then: nothing is written before all is taken back.
#[test]
fn an_end_of_the_pause_between_any_two_writes_changes_no_machine() {
    for crash in 0..=10 {
        let given = restored();
        let before = held(&given.0);
        given
            .when(|world| {
                let (_, plan) = world.plan(PROD).unwrap();
                for action in &plan.actions[..crash] {
                    world.apply(PROD, action).unwrap();
                }
                pause(world, false);
                world.settle();
            })
            .then(|seen| {
                assert_eq!(held(&seen.world), before, "{crash}");
                let stalled = seen.condition(Stalled).status == "True";
                assert_eq!(stalled, crash < 10, "{crash}: {}", seen.world.story());
            })
            .when(|world| {
                pause(world, true);
                world.settle();
                pause(world, false);
                world.settle();
                assert!(world.ready(PROD), "{crash}: {}", world.story());
            })
            .then(|seen| assert_eq!(held(&seen.world), before, "{crash}"));
    }
}
