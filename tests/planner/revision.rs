//! The configuration and its revision.

use std::sync::Arc;

use nico::api::names::{MachineName, Revision};
use nico::api::nio::Generation;
use nico::plan::cluster_nix::{ClusterNix, Lists, NixNode};
use nico::plan::desired::{Common, Target};
use serde_json::{Value, json};

use crate::given::{cluster, given, planned};

fn node(name: &str) -> NixNode {
    NixNode {
        name: name.to_owned(),
        ip: "10.0.0.1".to_owned(),
    }
}

fn lists(control_plane: &[NixNode], workers: &[NixNode]) -> Arc<Lists> {
    Arc::new(Lists::new(control_plane, workers))
}

fn target() -> Target {
    Target {
        machine: MachineName::parse("w").unwrap(),
        role: nico::api::status::Role::Worker,
        common: Arc::new(Common {
            pinned_since: None,
            nio: Generation::Classic,
            git_repo: "https://example.com/flake.git".to_owned(),
            git_ref: None,
            configuration_subdir: None,
            credentials: None,
            full_install: false,
        }),
        nix: Arc::new(ClusterNix {
            namespace: "default".to_owned(),
            name: "prod".to_owned(),
            id: nico::api::names::ClusterId::from_bits(7),
            bootstrap: Some("a".to_owned()),
            join: Some(node("a")),
            endpoint: None,
            lists: lists(&[node("a")], &[node("w")]),
        }),
        ssh_key: Some(("ssh-w".to_owned(), "SHA256:x".to_owned())),
    }
}

fn common(target: &mut Target) -> &mut Common {
    Arc::make_mut(&mut target.common)
}

fn nix(target: &mut Target) -> &mut ClusterNix {
    Arc::make_mut(&mut target.nix)
}

fn revision(change: impl FnOnce(&mut Target)) -> Revision {
    let mut target = target();
    change(&mut target);
    target.revision()
}

/// A release of NICO's must not change it, or every cluster rolls.
#[test]
fn the_revision_of_a_release_is_that_of_the_next() {
    assert_eq!(target().revision().as_str(), PINNED);
}

const PINNED: &str = "e4403a024020";

#[test]
fn each_field_of_the_revision_changes_it() {
    let mut seen = std::collections::BTreeSet::from([target().revision()]);
    let changes: [fn(&mut Target); 16] = [
        |it| it.machine = MachineName::parse("v").unwrap(),
        |it| common(it).nio = Generation::V1,
        |it| common(it).git_repo.push('x'),
        |it| common(it).git_ref = Some("main".to_owned()),
        |it| common(it).git_ref = Some(String::new()),
        |it| common(it).configuration_subdir = Some("clusters".to_owned()),
        |it| common(it).credentials = Some("git".to_owned()),
        |it| nix(it).name.push('x'),
        |it| nix(it).id = nico::api::names::ClusterId::from_bits(8),
        |it| {
            nix(it).endpoint = Some(nico::api::spec::Endpoint {
                host: "vip".to_owned(),
                port: 6443,
            })
        },
        |it| {
            nix(it).endpoint = Some(nico::api::spec::Endpoint {
                host: "vip".to_owned(),
                port: 6444,
            })
        },
        |it| nix(it).lists = lists(&[node("a"), node("b")], &[node("w")]),
        |it| {
            let ip = "10.0.0.2".to_owned();
            nix(it).lists = lists(&[NixNode { ip, ..node("a") }], &[node("w")]);
        },
        |it| nix(it).lists = lists(&[node("a")], &[node("w"), node("b")]),
        |it| it.ssh_key = None,
        |it| it.ssh_key = Some(("ssh-w".to_owned(), "SHA256:y".to_owned())),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert!(
            seen.insert(revision(change)),
            "change {index} changes nothing"
        );
    }
}

#[test]
fn nothing_else_changes_the_revision() {
    let changes: [fn(&mut Target); 6] = [
        |it| nix(it).bootstrap = None,
        |it| nix(it).join = None,
        |it| nix(it).join = Some(node("b")),
        |it| nix(it).namespace = "other".to_owned(),
        |it| it.ssh_key = Some(("another-secret".to_owned(), "SHA256:x".to_owned())),
        |it| nix(it).lists = lists(&[node("a")], &[node("w")]),
    ];
    for change in changes {
        assert_eq!(revision(change), target().revision());
    }
}

#[test]
fn the_order_of_the_machines_is_no_matter() {
    let both = |first: &str, second: &str| {
        revision(|it| nix(it).lists = lists(&[node("a")], &[node(first), node(second)]))
    };
    assert_eq!(both("a", "b"), both("b", "a"));
}

#[test]
fn the_files_stand_in_their_order_and_a_worker_never_gets_the_join_token() {
    given(cluster().control_plane(["a"]).workers(["w"]))
        .machines(["a", "w"])
        .when(planned)
        .then(|seen| {
            let files = |index: usize| -> Vec<(String, Value)> {
                let claim = &seen.claims()[index];
                let body = claim.body.render();
                let files = body["spec"]["additionalFiles"].as_array().unwrap();
                let path = |file: &Value| file["path"].as_str().unwrap().to_owned();
                files
                    .iter()
                    .map(|file| (path(file), file["secretRef"]["name"].clone()))
                    .collect()
            };
            let (control_plane, worker) = (files(0), files(1));
            let expected = [
                ("cluster.nix", Value::Null),
                ("join-token", json!("prod-join-token")),
                ("machine-ssh-key", json!("ssh-a")),
                ("worker-token", json!("prod-worker-token")),
            ];
            for (found, (path, secret)) in control_plane.iter().zip(expected) {
                assert_eq!((found.0.as_str(), &found.1), (path, &secret));
            }
            assert_eq!(control_plane.len(), 5);
            let names: Vec<&Value> = worker.iter().map(|(_, secret)| secret).collect();
            assert_eq!(
                names,
                [
                    &Value::Null,
                    &json!("prod-worker-token"),
                    &json!("ssh-w"),
                    &Value::Null
                ]
            );
            assert!(worker[3].0.starts_with(".nico/"));
        });
}

#[test]
fn a_claim_carries_what_the_spec_says_and_nothing_that_it_does_not() {
    let bare = given(cluster().control_plane(["a"]))
        .machines(["a"])
        .when(planned);
    let spec = &bare.claims()[0].body.render()["spec"];
    for absent in ["ref", "configurationSubdir", "credentialsRef"] {
        assert!(spec.get(absent).is_none(), "{absent}");
    }
    assert_eq!(
        (&spec["flake"], &spec["onRemoveFlake"]),
        (&json!("#a"), &json!("#minimal"))
    );
    assert_eq!(spec["fullInstall"], json!(false));
    let full = cluster()
        .control_plane(["a"])
        .set("ref", json!("v1"))
        .set("configurationSubdir", json!("clusters/prod"))
        .set("credentialsRef", json!({ "name": "git" }))
        .set("injectSSHKey", json!(false));
    let full = given(full).machines(["a"]).when(planned);
    let spec = &full.claims()[0].body.render()["spec"];
    assert_eq!(
        (&spec["ref"], &spec["credentialsRef"]["name"]),
        (&json!("v1"), &json!("git"))
    );
    assert_eq!(spec["configurationSubdir"], "clusters/prod");
    assert!(!spec.to_string().contains("machine-ssh-key"));
}

#[test]
fn a_child_has_a_controller_that_blocks_no_deletion_and_the_labels() {
    let seen = given(cluster().control_plane(["a"]))
        .machines(["a"])
        .when(planned);
    let meta = &seen.claims()[0].body.render()["metadata"];
    let owner = &meta["ownerReferences"][0];
    assert_eq!(
        (&owner["controller"], &owner["blockOwnerDeletion"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(owner["uid"], json!(seen.observed.cluster.uid));
    assert_eq!(
        meta["labels"],
        json!({ "app.kubernetes.io/managed-by": "nico", "nico.homystack.com/cluster": "prod", "nico.homystack.com/role": "control-plane" })
    );
}
