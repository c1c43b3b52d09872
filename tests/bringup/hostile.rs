//! Objects that no decoder likes, in another tenant's namespace: they blind nobody.

use hyper::Request;
use kube::Client;
use rig::crds::Generation;
use rig::environment::Environment;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico};

/// Levels of the deepest object: serde's JSON reads 127, the API server takes thousands.
const LEVELS: usize = 140;

fn deep(key: &str) -> Value {
    (0..LEVELS).fold(json!({}), |inner, _| json!({ key: inner }))
}

/// Sends a body and reads the answer as text, since no client of serde's can decode it.
async fn send(client: &Client, method: &str, path: &str, body: &Value) -> String {
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(body.to_string().into_bytes())
        .unwrap();
    client.request_text(request).await.unwrap()
}

/// A configuration, a Machine and a cluster of the namespace `default` that are deep in each part which the API server leaves as it is.
async fn deep_objects(client: &Client, name: &str) {
    let nio = "/apis/nio.homystack.com/v1alpha1/namespaces/default";
    let configuration = json!({
        "apiVersion": "nio.homystack.com/v1alpha1",
        "kind": "NixosConfiguration",
        "metadata": { "name": name },
        "spec": {
            "gitRepo": "https://git.example.com/flakes.git",
            "flake": "#x",
            "machineRef": { "name": name },
            "deep": deep("a"),
        },
    });
    let text = send(
        client,
        "POST",
        &format!("{nio}/nixosconfigurations"),
        &configuration,
    )
    .await;
    assert!(serde_json::from_str::<Value>(&text).is_err());
    let machine = json!({
        "apiVersion": "nio.homystack.com/v1alpha1",
        "kind": "Machine",
        "metadata": { "name": name },
        "spec": { "hostname": "x".repeat(300_000), "sshKeySecretRef": { "name": "a b" } },
    });
    send(client, "POST", &format!("{nio}/machines"), &machine).await;
    let status = json!({ "status": { "hardwareFacts": deep("a") } });
    let text = send(
        client,
        "PATCH",
        &format!("{nio}/machines/{name}/status"),
        &status,
    )
    .await;
    assert!(serde_json::from_str::<Value>(&text).is_err());
    let cluster = json!({
        "apiVersion": "nico.homystack.com/v1alpha1",
        "kind": "KubernetesCluster",
        "metadata": { "name": name, "managedFields": [{
            "manager": "x",
            "operation": "Update",
            "apiVersion": "nico.homystack.com/v1alpha1",
            "time": "2026-11-27T20:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": deep("f:a"),
        }] },
        "spec": listed(&[name], &[]),
    });
    let clusters = "/apis/nico.homystack.com/v1alpha1/namespaces/default/kubernetesclusters";
    let text = send(client, "POST", clusters, &cluster).await;
    println!(
        "the cluster is deep: {}",
        serde_json::from_str::<Value>(&text).is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_objects_of_one_tenant_blind_nico_for_nobody() {
    let environment: &'static Environment =
        Box::leak(Box::new(Environment::start(Generation::Classic).await));
    let setup = nico().args(&RESYNC).everywhere();
    let case = Case::on(environment, &setup).await;
    let client = case.world.client().clone();
    case.world.machines_named(&["cp-01", "w-01"]).await;
    // While the watches run.
    deep_objects(&client, "first").await;
    let spec = listed(&["cp-01"], &[]);
    case.world.cluster("prod", spec).await.unwrap();
    case.ready("prod").await;
    // And while there are none.
    let Case { world, proxy, nico } = case;
    nico.kill();
    nico.wait_exit(std::time::Duration::from_secs(15)).await;
    deep_objects(&client, "second").await;
    let nico = world.nico(&setup, &proxy).await;
    let case = Case { world, proxy, nico };
    let spec = json!({ "dataPlane": { "machines": ["w-01"] } });
    case.edit("prod", spec).await;
    case.world
        .wait_status("prod", "a worker more", DEADLINE, |status| {
            status["dataPlane"]["ready"] == 1
        })
        .await;
    case.ready("prod").await;
    case.delete("prod").await;
    case.wait_gone("prod").await;
    case.finish().await;
}
