//! Objects that are nested too deeply for serde.

use hyper::Request;
use kube::Client;
use serde_json::{Value, json};

use super::listed;

/// Levels of the deepest object. `serde_json` reads at most 127, the API server accepts thousands.
const LEVELS: usize = 140;

fn deep(key: &str) -> Value {
    (0..LEVELS).fold(json!({}), |inner, _| json!({ key: inner }))
}

/// Sends a body and reads the response as text, since serde cannot decode it.
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

/// Creates a configuration, a Machine and a cluster that are deeply nested in each part that the API server does not prune.
pub(crate) async fn deep_objects(client: &Client, namespace: &str, name: &str) {
    let nio = format!("/apis/nio.homystack.com/v1alpha1/namespaces/{namespace}");
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
    let clusters =
        format!("/apis/nico.homystack.com/v1alpha1/namespaces/{namespace}/kubernetesclusters");
    send(client, "POST", &clusters, &cluster).await;
}
