//! Bring-up on a real API server, with the shipped rights: from lists and selectors to `Ready`, and what stands in the way.

mod founding;
mod generations;
mod hostile;
mod kubeconfig;
mod machines;
mod renewal;
mod secrets;
mod spec;
mod ssh_keys;
mod status;
pub(crate) mod warnings;

use crate::common::case::Case;
use crate::common::shown::names;
use crate::common::{five, listed, nico, over_both, place, three_and_two};
use kube::ResourceExt;
use rig::crds::Generation;
use serde_json::{Value, json};

over_both![
    a_cluster_of_listed_machines_becomes_ready,
    every_child_is_as_nio_and_people_expect_it,
];

async fn a_cluster_of_listed_machines_becomes_ready(generation: Generation) {
    let case = Case::of(generation, &nico()).await;
    five(&case.world).await;
    case.cluster("prod", three_and_two()).await;
    let status = case.ready("prod").await;
    assert_eq!(status["phase"], "Ready");
    assert_eq!(status["controlPlane"]["ready"], 3, "{status}");
    assert_eq!(status["dataPlane"]["ready"], 2, "{status}");
    assert_eq!(status["kubeconfigSecret"], "prod-kubeconfig");
    let rows = status["machines"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    assert!(
        rows.iter().all(|row| row["state"] == "Confirmed"),
        "{status}"
    );
    let foundings = case.world.flake().foundings();
    assert_eq!(foundings.len(), 1, "{foundings:?}");
    assert_eq!(foundings[0].machine, "cp-01");
    assert!(
        case.nodes("prod")
            .await
            .contains(&case.world.node_name("cp-01"))
    );
    println!("{}", case.proxy.write_lines());
    let log = case.nico.output();
    let found = format!(
        "NIO found nio=\"{}\"",
        match generation {
            Generation::Classic => "classic",
            Generation::V1 => "v1",
        }
    );
    let watched = format!(
        "watching KubernetesClusters namespaces=\"{}\"",
        case.world.namespace()
    );
    for line in [found, watched] {
        assert!(log.contains(&line), "{line:?} is missing:\n{log}");
    }
    let of_passes: Vec<&str> = log.lines().filter(|line| line.contains("pass{")).collect();
    assert!(of_passes.len() > 5, "{log}");
    for line in of_passes {
        let count = |field: &str| line.matches(field).count();
        assert_eq!((count("cluster="), count("namespace=")), (1, 1), "{line}");
        assert!(!line.contains("object.ref"), "{line}");
    }
    case.finish().await;
}

/// What a cluster consists of, as it stands on the API server.
async fn every_child_is_as_nio_and_people_expect_it(generation: Generation) {
    let case = Case::of(generation, &nico()).await;
    let place = |file: &str| place(generation, "clusters/prod", file);
    case.world.machines_named(&["cp-01", "w-01"]).await;
    let mut spec = listed(&["cp-01"], &["w-01"]);
    spec["ref"] = json!("stable");
    spec["configurationSubdir"] = json!("clusters/prod");
    let cluster = case.cluster("prod", spec).await;
    case.ready("prod").await;
    for (machine, role, files, token) in [
        (
            "cp-01",
            "control-plane",
            vec![
                "cluster.nix",
                "join-token",
                "machine-ssh-key",
                "worker-token",
            ],
            "prod-join-token",
        ),
        (
            "w-01",
            "worker",
            vec!["cluster.nix", "join-token", "machine-ssh-key"],
            "prod-worker-token",
        ),
    ] {
        let configuration = case.configuration(machine).await;
        let labels = configuration.labels();
        assert_eq!(labels["app.kubernetes.io/managed-by"], "nico");
        assert_eq!(labels["nico.homystack.com/cluster"], "prod");
        assert_eq!(labels["nico.homystack.com/role"], role);
        let owner = &configuration.owner_references()[0];
        assert_eq!(owner.uid, cluster.uid().unwrap());
        assert_eq!(owner.controller, Some(true));
        assert_ne!(owner.block_owner_deletion, Some(true));
        let spec = &configuration.data["spec"];
        assert_eq!(spec["gitRepo"], "https://git.example.com/flakes.git");
        assert_eq!(spec["ref"], "stable");
        assert_eq!(spec["configurationSubdir"], "clusters/prod");
        assert_eq!(spec["flake"], format!("#{machine}"));
        assert_eq!(spec["onRemoveFlake"], "#minimal");
        assert_eq!(spec["machineRef"], json!({"name": machine}));
        assert_eq!(spec["fullInstall"], false);
        let listed = spec["additionalFiles"].as_array().unwrap();
        let paths: Vec<&str> = listed
            .iter()
            .map(|file| file["path"].as_str().unwrap())
            .collect();
        let files: Vec<String> = files.into_iter().map(place).collect();
        assert_eq!(paths[..files.len()], files[..]);
        assert_eq!(paths.len(), files.len() + 1);
        let marker = paths[files.len()].strip_prefix(&place(".nico/")).unwrap();
        assert_eq!(
            configuration.annotations()["nico.homystack.com/confirmed"],
            marker
        );
        assert!(
            configuration
                .annotations()
                .contains_key("nico.homystack.com/written")
        );
        assert_eq!(listed[1]["secretRef"]["name"], token);
        assert_eq!(listed[2]["secretRef"]["name"], format!("ssh-{machine}"));
        if generation == Generation::V1 {
            assert_eq!(listed[1]["secretRef"]["key"], "token");
            assert_eq!(listed[2]["secretRef"]["key"], "ssh-privatekey");
        }
        let nix = case.cluster_nix(machine).await;
        assert_eq!(nix["name"], "prod");
        assert_eq!(nix["bootstrap"], "cp-01");
        assert_eq!(nix["join"]["name"], "cp-01");
        assert_eq!(nix["endpoint"], Value::Null);
        assert_eq!(names(&nix["controlPlane"]), ["cp-01"]);
        assert_eq!(names(&nix["workers"]), ["w-01"]);
        // What came to the machine is what the Secrets hold.
        let applied = case.world.nio().applies(machine).pop().unwrap().applied;
        assert_eq!(applied.skipped, Vec::<String>::new());
        assert_eq!(
            applied.files[&place("join-token")],
            case.secret_value(token, "token").await
        );
    }
    secrets_and_ledger(&case).await;
    case.finish().await;
}

async fn secrets_and_ledger(case: &Case) {
    let tokens = [
        case.secret_value("prod-join-token", "token").await,
        case.secret_value("prod-worker-token", "token").await,
    ];
    assert_ne!(tokens[0], tokens[1]);
    for (name, token) in ["prod-join-token", "prod-worker-token"].iter().zip(&tokens) {
        let secret = case.secret(name).await.unwrap();
        assert_eq!(secret.immutable, Some(true));
        assert_eq!(secret.finalizers(), ["nico.homystack.com/in-use"]);
        assert_eq!(token.len(), 64);
        assert!(
            token
                .iter()
                .all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(c))
        );
    }
    let secret = case.secret("prod-kubeconfig").await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("cluster.x-k8s.io/secret"));
    assert_eq!(secret.labels()["cluster.x-k8s.io/cluster-name"], "prod");
    let data = secret.data.unwrap();
    assert_eq!(data["value"], data["kubeconfig"]);
    let ledger = case.map("prod-nico").await;
    assert_eq!(ledger["founded"], "true");
    assert_eq!(json!(ledger["id"]), case.cluster_nix("w-01").await["id"]);
}
