//! Applies manifests and the shipped rights: in every test NICO has the rights of `deploy/`, never those of an administrator.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the rig stops with a sentence where it cannot go on"
)]

use std::fs;
use std::path::Path;

use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use serde::Deserialize;
use serde_json::Value;

/// Applies every document of a YAML text by server-side apply, in order. Objects without a namespace get `namespace` if their kind is
/// namespaced.
pub async fn apply_text(client: &Client, namespace: &str, text: &str) -> kube::Result<()> {
    for value in documents(text) {
        apply_value(client, namespace, value).await?;
    }
    Ok(())
}

/// The documents of a YAML text, without empty ones.
#[must_use]
pub fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("a manifest is YAML"))
        .filter(|value| !value.is_null())
        .collect()
}

/// Applies one object by server-side apply and returns what was stored.
pub async fn apply_value(
    client: &Client,
    namespace: &str,
    value: Value,
) -> kube::Result<DynamicObject> {
    let mut object: DynamicObject =
        serde_json::from_value(value).map_err(kube::Error::SerdeError)?;
    let types = object.types.get_or_insert_with(TypeMeta::default);
    let gvk = GroupVersionKind::try_from(&*types).expect("a manifest names its version");
    let (resource, scope) = kube::discovery::pinned_kind(client, &gvk).await?;
    let api = match scope.scope {
        kube::discovery::Scope::Cluster => Api::all_with(client.clone(), &resource),
        kube::discovery::Scope::Namespaced => {
            let namespace = object
                .metadata
                .namespace
                .get_or_insert_with(|| namespace.to_owned());
            namespaced(client, namespace, &resource)
        }
    };
    let name = object.metadata.name.clone().unwrap_or_default();
    let force = PatchParams::apply("rig").force();
    api.patch(&name, &force, &Patch::Apply(&object)).await
}

fn namespaced(client: &Client, namespace: &str, resource: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, resource)
}

/// The environment variables of the shipped Deployment that affect memory, to measure NICO as it is deployed.
#[must_use]
pub fn memory_settings() -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let deployment = documents(include_str!("../../../deploy/base/40-deployment.yaml"));
    let variables = deployment.iter().flat_map(|document| {
        let env = document.pointer("/spec/template/spec/containers/0/env");
        env.and_then(Value::as_array).into_iter().flatten()
    });
    variables
        .map(|variable| (text(&variable["name"]), text(&variable["value"])))
        .filter(|(name, _)| name.starts_with("MALLOC_"))
        .collect()
}

/// The texts of all `*.yaml` files of a directory except a `Kustomization`, sorted by name; empty if the directory does not exist.
#[must_use]
pub fn manifests(directory: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(directory) else {
        return vec![];
    };
    let mut found: Vec<(String, String)> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "yaml"))
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).expect("a manifest can be read");
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .collect();
    found.sort();
    found
}

/// The admission policies and their bindings in a directory.
#[must_use]
pub fn admission(directory: &Path) -> Vec<Value> {
    let texts = manifests(directory);
    let objects = texts.iter().flat_map(|(_, text)| documents(text));
    objects
        .filter(|value| {
            let kind = value["kind"].as_str();
            kind.is_some_and(|kind| kind.starts_with("ValidatingAdmissionPolicy"))
        })
        .collect()
}

/// The objects of `deploy/base/` that grant rights (Namespace, ServiceAccount, roles and bindings), without the Deployment, since the rig
/// starts the program itself.
#[must_use]
pub fn rights(directory: &Path) -> Vec<Value> {
    const KINDS: [&str; 6] = [
        "Namespace",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ];
    let mut objects: Vec<Value> = manifests(directory)
        .iter()
        .flat_map(|(_, text)| documents(text))
        .filter(|value| {
            value["kind"]
                .as_str()
                .is_some_and(|kind| KINDS.contains(&kind))
        })
        .collect();
    let rank = |value: &Value| KINDS.iter().position(|kind| value["kind"] == *kind);
    objects.sort_by_key(rank);
    objects
}

/// The namespace and name of the ServiceAccount in a list of objects.
#[must_use]
pub fn service_account(objects: &[Value]) -> Option<(String, String)> {
    let account = objects
        .iter()
        .find(|value| value["kind"] == "ServiceAccount")?;
    let namespace = account["metadata"]["namespace"].as_str()?;
    let name = account["metadata"]["name"].as_str()?;
    Some((namespace.to_owned(), name.to_owned()))
}
