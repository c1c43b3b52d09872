//! A cluster that was restored from a backup, or orphaned and applied again: while it is paused it takes back what bears its labels and
//! its id. No machine is written for that, and no token is made.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use nico::api::conditions::{
    ConditionType::{self, KubeconfigReady, MachinesAvailable, Paused, Stalled},
    Reason,
};
use nico::api::ledger::LedgerError;
use nico::api::names::{ClusterId, Marker, Revision};
use nico::api::nio::NixosConfiguration;
use nico::plan::action::{Action, ChildWrite};
use nico::plan::observed::{KnownHostsView, SecretView};
use nico::plan::patience::MISSING_LOOKED_FOR_AFTER;
use nico::plan::writes::Child;
use serde_json::{Value, json};

use crate::given::{Given, PROD, Seen, planned, settled, stranger};
use crate::rollout::{name, new_repository, ready, rolled};
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

#[test]
fn what_is_restored_after_the_ledger_is_taken_back_while_the_pause_lasts() {
    let given = restored();
    let before = held(&given.0);
    let late = given.0.configurations["b"].clone();
    given
        .when(|world| {
            world.configurations.remove("b");
            let cluster = world.cluster(PROD);
            cluster.kubeconfig.secret = SecretView::Absent;
            cluster.left.remove(&Child::Kubeconfig);
            world.settle();
        })
        .then(|seen| {
            assert!(seen.world.clusters[PROD].left.is_empty());
            seen.says(Paused, "True", Reason::PausedBySpec, "b would join");
        })
        .when(|world| {
            world.configurations.insert("b".to_owned(), late);
            let cluster = world.cluster(PROD);
            cluster.kubeconfig.secret = SecretView::Ours;
            cluster.left.insert(Child::Kubeconfig);
        })
        .then(|seen| {
            assert_eq!(seen.kinds(), ["Restore", "TakeBackChild"]);
        })
        .when(|world| {
            world.settle();
            pause(world, false);
            world.settle();
            assert!(world.ready(PROD), "{}", world.story());
        })
        .then(|seen| assert_eq!(held(&seen.world), before));
}

#[test]
fn what_is_restored_after_the_pause_is_told_with_what_to_do() {
    let words = "was left by an earlier KubernetesCluster of this name: set spec.paused to true";
    ready()
        .when(|world| {
            world.cluster(PROD).left.insert(Child::Kubeconfig);
            world.settle();
        })
        .then(|seen| {
            let secret = format!("Secret prod-kubeconfig {words}");
            seen.says(KubeconfigReady, "False", Reason::SecretConflict, &secret);
        });
    ready()
        .when(|world| {
            world.cluster(PROD).left.insert(Child::JoinToken);
            world.settle();
        })
        .then(|seen| {
            let secret = format!("Secret prod-join-token {words}");
            seen.says(Stalled, "True", Reason::SecretConflict, &secret);
        });
    ready()
        .when(|world| {
            world.edit_configuration("w", |held| {
                held.metadata.owner_references = Some(owner("KubernetesCluster", PROD, true));
            });
        })
        .then(|seen| {
            let configuration = format!("NixosConfiguration w {words}");
            seen.says(
                MachinesAvailable,
                "False",
                Reason::MachineInUse,
                &configuration,
            );
        });
}

/// Secrets of the user's own, and a stranger's configuration, are nothing that was left.
#[test]
fn what_does_not_bear_the_labels_of_the_cluster_is_never_taken() {
    restored()
        .when(|world| {
            let cluster = world.cluster(PROD);
            cluster.join_token = SecretView::Adopted;
            cluster.kubeconfig.secret = SecretView::Foreign;
            cluster.left = [Child::Ledger].into();
            world.post(&stranger("x", "x")).unwrap();
            world.edit_configuration("w", |held| held.metadata.labels = None);
        })
        .then(|seen| {
            assert_eq!(restored_configurations(seen), 4);
            assert_eq!(taken_back(seen), [Child::Ledger]);
        });
}

/// What the pause must not end with: a token that no configuration may refer to.
#[test]
fn a_token_that_cannot_be_used_is_named_before_the_pause_ends() {
    for (view, why) in [
        (SecretView::Absent, "is missing"),
        (SecretView::Terminating, "is being deleted"),
        (SecretView::Unusable, "is not what NICO would write there"),
        (SecretView::Foreign, "is not what NICO would write there"),
    ] {
        restored()
            .when(|world| {
                let cluster = world.cluster(PROD);
                cluster.join_token = view;
                cluster.left.remove(&Child::JoinToken);
            })
            .then(|seen| {
                let words = format!("Secret prod-join-token {why}");
                seen.says(Paused, "True", Reason::PausedBySpec, &words);
            });
    }
}

/// A user who takes the owner off the known hosts keeps NICO from changing them.
#[test]
fn known_hosts_without_an_owner_are_taken_back_beside_the_ledger_alone() {
    ready()
        .when(|world| {
            pause(world, true);
            world.cluster(PROD).left.insert(Child::KnownHosts);
        })
        .then(|seen| assert_eq!(taken_back(seen), []));
}

/// I15: `metadata.generation` begins again at 1, and no marker of before comes again.
#[test]
fn a_restored_configuration_never_gets_a_marker_that_it_held_before() {
    let mut given = ready();
    let world = &mut given.0;
    let mut seen: BTreeMap<String, Vec<Marker>> = BTreeMap::new();
    for round in 0..6 {
        if round % 2 == 1 {
            world.restore(PROD);
            pause(world, true);
            world.settle();
            pause(world, false);
        }
        for repository in 0..2 {
            if repository == 0 {
                new_repository(world);
            } else {
                let old = json!("https://example.com/flake.git");
                world.edit(PROD, |spec| spec["gitRepo"] = old);
            }
            world.settle();
            assert!(world.ready(PROD), "{}", world.story());
            for (name, held) in &world.configurations {
                let marker = crate::given::member(held).marker().unwrap();
                let before = seen.entry(name.clone()).or_default();
                assert!(!before.contains(&marker), "{name}: {marker} of {before:?}");
                before.push(marker);
            }
        }
    }
    let revisions: Vec<Revision> = seen["a"].iter().map(Marker::revision).collect();
    assert_eq!(revisions[0], revisions[2]);
}

/// The ledger was not in the backup: it is made again from the configurations once the pause ends, and the Secrets are taken back in
/// another pause.
#[test]
fn without_its_ledger_a_cluster_comes_back_in_two_pauses() {
    let given = restored();
    let id = given.0.clusters[PROD].ledger.as_ref().unwrap().1.id.clone();
    given
        .when(|world| {
            let cluster = world.cluster(PROD);
            cluster.ledger = None;
            cluster.left.remove(&Child::Ledger);
            world.settle();
            pause(world, false);
            world.settle();
        })
        .then(|seen| {
            let words = "Secret prod-join-token was left by an earlier KubernetesCluster of this name: set spec.paused to true";
            seen.says(Stalled, "True", Reason::SecretConflict, words);
            let ledger = seen.world.clusters[PROD].ledger.as_ref();
            assert!(ledger.is_some_and(|(_, it)| it.id == id && it.founded));
        })
        .when(|world| {
            pause(world, true);
            world.settle();
            pause(world, false);
            world.settle();
            assert!(world.ready(PROD), "{}", world.story());
        })
        .then(|seen| assert_eq!(rolled(&seen.world), Vec::<String>::new()));
}

/// Both conditions say the same of it, and how to go on.
#[test]
fn a_ledger_that_was_left_and_cannot_be_read_has_one_message() {
    for paused in [true, false] {
        restored().and(|world| pause(world, paused)).when(planned).then(|seen| {
            let mut observed = seen.observed.clone();
            observed.left.children.remove(&Child::Ledger);
            observed.left.id = None;
            observed.left.unreadable = Some(LedgerError::Missing("id"));
            let (now, settings) = (seen.world.now, &seen.world.settings);
            let plan = nico::plan::plan(&observed, now, settings);
            assert_eq!(plan.actions, []);
            let status = nico::plan::status::status(&observed, &plan, None, now);
            let words = "ConfigMap prod-nico was left by an earlier KubernetesCluster of this name and cannot be read (key id is missing): restore it from another backup, or delete it and set spec.paused to false";
            let said = |kind: ConditionType| {
                let kind = kind.to_string();
                let found = status.conditions.iter().find(|it| it.kind == kind);
                found.unwrap().message.clone()
            };
            assert!(said(Stalled).starts_with(words), "{}", said(Stalled));
            assert_eq!(said(Paused).contains(words), paused, "{}", said(Paused));
            for text in [said(Stalled), said(Paused)] {
                assert!(!text.contains("is not NICO's") && !text.contains("nothing is taken back"), "{text}");
            }
        });
    }
}

/// NIO never lets go of it: the message names the way out.
#[test]
fn what_is_being_deleted_and_never_goes_has_a_way_out() {
    let begin = "NixosConfiguration w is being deleted";
    let deleted = |world: &mut World| {
        let now = world.now;
        world.configuration("w").metadata.deletion_timestamp = Some(Time(now));
    };
    restored().and(deleted).when(planned).then(|seen| {
        let words = format!("{begin}: wait until it is gone, and restore it again");
        seen.says(Paused, "True", Reason::PausedBySpec, &words);
    });
    restored()
        .and(deleted)
        .when(|world| {
            world.machines.remove(&name("w"));
        })
        .then(|seen| {
            let words = format!("{begin} and never goes by itself (its Machine object is gone, and classic NIO never releases it without that: create it again); where the machine is off, or runs nothing of the cluster, run kubectl patch nixosconfigurations.nio.homystack.com w --type=merge --patch='{{\"metadata\":{{\"finalizers\":null}}}}'");
            seen.says(Paused, "True", Reason::PausedBySpec, &words)
                .says(Stalled, "True", Reason::SecretConflict, &words);
        });
}
