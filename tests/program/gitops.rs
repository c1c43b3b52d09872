//! What tools for `GitOps` are given: the health script of Argo CD, which `planner/kstatus.rs` also tries over whole histories, and the
//! Flux example.

use nico::api::status::ClusterStatus;
use rig::crds::install_crd_text;
use rig::deploy;
use rig::environment::Environment;
use serde_json::{Value, json};

const FLUX: &str = include_str!("../../deploy/gitops/flux/clusters.yaml");

fn condition(kind: &str, status: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": "Reason", "message": message, "observedGeneration": 3})
}

/// A cluster of generation 3 with this status.
fn cluster(status: &Value) -> Value {
    let read: ClusterStatus = serde_json::from_value(status.clone()).unwrap();
    assert_eq!(
        read.conditions.len(),
        status["conditions"].as_array().map_or(0, Vec::len)
    );
    json!({"metadata": {"name": "prod", "generation": 3}, "status": status})
}

#[test]
fn argo_cd_sees_health_as_nico_reports_it() {
    let ready = |status| condition("Ready", status, "of Ready");
    let stalled = |status| condition("Stalled", status, "of Stalled");
    let paused = |status| condition("Paused", status, "of Paused");
    let now = |conditions: Vec<Value>| {
        cluster(&json!({"observedGeneration": 3, "conditions": conditions}))
    };
    let mut deleted = now(vec![ready("True"), stalled("False"), paused("False")]);
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let mut deleted_and_stuck = deleted.clone();
    deleted_and_stuck["status"]["conditions"][1]["status"] = "True".into();
    let mut old_condition = now(vec![ready("True")]);
    old_condition["status"]["conditions"][0]["observedGeneration"] = 2.into();
    let green = vec![ready("True"), stalled("False"), paused("False")];
    let cases = [
        (now(green.clone()), "Healthy", "of Ready"),
        (
            now(vec![ready("False"), stalled("False"), paused("False")]),
            "Progressing",
            "of Ready",
        ),
        (
            now(vec![ready("False"), stalled("True"), paused("False")]),
            "Degraded",
            "of Stalled",
        ),
        (
            now(vec![ready("True"), stalled("False"), paused("True")]),
            "Suspended",
            "of Paused",
        ),
        (
            now(vec![ready("False"), stalled("True"), paused("True")]),
            "Degraded",
            "of Stalled",
        ),
        // Nobody has looked at it, or not at this spec.
        (
            json!({"metadata": {"generation": 1}}),
            "Progressing",
            "Waiting for NICO",
        ),
        (
            cluster(&json!({"observedGeneration": -1})),
            "Progressing",
            "Waiting for NICO",
        ),
        (
            cluster(&json!({"observedGeneration": 2, "conditions": green})),
            "Progressing",
            "Waiting for NICO",
        ),
        (old_condition, "Progressing", "Waiting for NICO"),
        (now(vec![]), "Progressing", "Waiting for NICO"),
        (deleted, "Progressing", "of Ready"),
        (deleted_and_stuck, "Degraded", "of Stalled"),
    ];
    let objects: Vec<Value> = cases.iter().map(|(object, ..)| object.clone()).collect();
    let told = rig::argo_cd::health("the health script of Argo CD", &objects);
    for ((object, status, message), told) in cases.into_iter().zip(told.into_iter().flatten()) {
        assert_eq!(told, (status.to_owned(), message.to_owned()), "{object}");
    }
}

/// By Flux's own definition.
#[tokio::test(flavor = "multi_thread")]
async fn flux_takes_the_example() {
    let client = &Environment::shared().await.client;
    install_crd_text(client, include_str!("flux.yaml")).await;
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-clusters"}});
    deploy::apply_value(client, "default", namespace)
        .await
        .unwrap();
    let apply = async |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["namespace"] = "flux-clusters".into();
        deploy::apply_value(client, "flux-clusters", object).await
    };
    let documents = deploy::documents(FLUX);
    for object in &documents {
        apply(object).await.unwrap();
    }
    let mut misspelt = documents[1].clone();
    misspelt["spec"]["kubeConfig"]["secretReference"] = "prod-kubeconfig".into();
    let refused = apply(&misspelt).await.unwrap_err().to_string();
    assert!(refused.contains("secretReference"), "{refused}");
}

/// The names in the Flux example are those that NICO gives.
#[test]
fn flux_takes_the_kubeconfig_as_nico_stores_it() {
    let documents = deploy::documents(FLUX);
    let [clusters, apps] = &documents[..] else {
        panic!("{documents:?}");
    };
    assert_eq!(clusters["spec"]["wait"], true);
    assert_eq!(
        apps["spec"]["dependsOn"][0]["name"],
        clusters["metadata"]["name"]
    );
    assert_eq!(
        apps["metadata"]["namespace"],
        clusters["spec"]["targetNamespace"]
    );
    // Without `key`, Flux takes the key `value`.
    let secret = &apps["spec"]["kubeConfig"]["secretRef"];
    assert_eq!(
        *secret,
        json!({"name": nico::api::names::kubeconfig_name("prod")})
    );
    assert_eq!(nico::api::kubeconfig::VALUE_KEY, "value");
}
