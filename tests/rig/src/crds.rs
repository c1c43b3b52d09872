//! NIO's custom resource definitions, rewritten from what is known of both generations, and their installation.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the rig stops with a sentence where it cannot go on"
)]

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};

use crate::deploy::documents;
use crate::wait::wait_for;

/// The group of NIO's resources, the same in both generations.
pub const NIO_GROUP: &str = "nio.homystack.com";

/// The generation of NIO in a management cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// homystack/NIO, Python on kopf, November 2025.
    Classic,
    /// kitsunoff/NIO 1.0.0, Go, July 2026.
    V1,
}

/// The resource `Machine` for dynamic objects.
#[must_use]
pub fn machine_resource() -> ApiResource {
    nio_resource("Machine", "machines")
}

/// The resource `NixosConfiguration` for dynamic objects.
#[must_use]
pub fn configuration_resource() -> ApiResource {
    nio_resource("NixosConfiguration", "nixosconfigurations")
}

/// The resource `NixCronJob` of NIO v1 for dynamic objects.
#[must_use]
pub fn cron_resource() -> ApiResource {
    nio_resource("NixCronJob", "nixcronjobs")
}

/// The resource `NixJob` of NIO v1 for dynamic objects.
#[must_use]
pub fn job_resource() -> ApiResource {
    nio_resource("NixJob", "nixjobs")
}

/// The resource `KubernetesCluster` for dynamic objects.
#[must_use]
pub fn cluster_resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("nico.homystack.com", "v1alpha1", "KubernetesCluster"),
        "kubernetesclusters",
    )
}

fn nio_resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(NIO_GROUP, "v1alpha1", kind), plural)
}

/// The machines of a namespace.
#[must_use]
pub fn machines(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &machine_resource())
}

/// The configurations of a namespace.
#[must_use]
pub fn configurations(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &configuration_resource())
}

/// The clusters of a namespace.
#[must_use]
pub fn clusters(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &cluster_resource())
}

/// NIO's definitions of `Machine` and `NixosConfiguration` in one generation, YAML.
#[must_use]
pub fn definitions(generation: Generation) -> &'static str {
    match generation {
        Generation::Classic => include_str!("crds/classic.yaml"),
        Generation::V1 => include_str!("crds/v1.yaml"),
    }
}

/// Installs NIO's definitions of `Machine` and `NixosConfiguration` and waits until they are served.
pub async fn install_crds(client: &Client, generation: Generation) {
    install_crd_text(client, definitions(generation)).await;
}

/// Installs the definitions of the objects that NIO v1 creates for a configuration.
pub async fn install_children(client: &Client) {
    install_crd_text(client, include_str!("crds/v1-children.yaml")).await;
}

/// Installs or updates every definition in a YAML text, and waits until each is established and its resource can be listed.
pub async fn install_crd_text(client: &Client, text: &str) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for document in documents(text) {
        let crd: CustomResourceDefinition =
            serde_json::from_value(document).expect("the text is that of a definition");
        let name = crd.name_any();
        api.patch(
            &name,
            &PatchParams::apply("rig").force(),
            &Patch::Apply(&crd),
        )
        .await
        .expect("the API server takes the definition");
        let version = crd
            .spec
            .versions
            .iter()
            .find(|version| version.served)
            .expect("a version is served");
        let resource = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(&crd.spec.group, &version.name, &crd.spec.names.kind),
            &crd.spec.names.plural,
        );
        let listed: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        wait_for(
            &format!("{name} is served"),
            Duration::from_secs(30),
            || async {
                let stored = api.get(&name).await.ok()?;
                let established = stored
                    .status
                    .and_then(|status| status.conditions)
                    .unwrap_or_default()
                    .iter()
                    .any(|condition| {
                        condition.type_ == "Established" && condition.status == "True"
                    });
                if !established {
                    return None;
                }
                listed
                    .list_metadata(&ListParams::default().limit(1))
                    .await
                    .ok()
                    .map(|_| ())
            },
        )
        .await;
    }
}
