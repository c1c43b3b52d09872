//! What is restored after the ledger, and what a restore leaves behind: each has a way out.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nico::api::conditions::{
    ConditionType::{self, KubeconfigReady, MachinesAvailable, Paused, Stalled},
    Reason,
};
use nico::api::ledger::LedgerError;
use nico::api::names::{Marker, Revision};
use nico::plan::observed::SecretView;
use nico::plan::writes::Child;
use serde_json::json;

use super::{held, owner, pause, restored, restored_configurations, taken_back};
use crate::given::{PROD, planned, stranger};
use crate::rollout::{name, new_repository, ready, rolled};
use crate::world::World;

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
