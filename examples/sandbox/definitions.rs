//! The definitions of NIO and NICO, and their installation.

use std::time::Duration;

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use rig::crds::{self, Generation};
use rig::deploy;
use rig::environment::repository;
use rig::wait::try_wait_for;
use serde_json::Value;

use crate::Failure;

/// How long the API server may take to serve a new resource.
const SERVED: Duration = Duration::from_secs(30);

/// All definitions: NIO's, then NICO's own from `crds/`.
pub(crate) fn all() -> Vec<Value> {
    let mut all = deploy::documents(crds::definitions(Generation::Classic));
    for (_, text) in deploy::manifests(&repository().join("crds")) {
        all.extend(deploy::documents(&text));
    }
    all
}

/// The name of an object.
pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Installs definitions and waits until their resources are served.
pub(crate) async fn install(client: &Client, definitions: &[Value]) -> Result<(), Failure> {
    for definition in definitions {
        deploy::apply_value(client, "default", definition.clone()).await?;
    }
    for resource in [
        crds::machine_resource(),
        crds::configuration_resource(),
        crds::cluster_resource(),
    ] {
        let listed: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let served = || async {
            let one = ListParams::default().limit(1);
            listed.list_metadata(&one).await.ok().map(drop)
        };
        try_wait_for(SERVED, served).await.ok_or_else(|| {
            format!(
                "the API server does not serve {} within {} s",
                resource.plural,
                SERVED.as_secs()
            )
        })?;
    }
    for definition in definitions {
        let published = || async { published(client, definition).await.then_some(()) };
        try_wait_for(SERVED, published).await.ok_or_else(|| {
            format!(
                "the API server does not publish the schema of {} within {} s",
                name(definition),
                SERVED.as_secs()
            )
        })?;
    }
    Ok(())
}

/// Whether the API server's OpenAPI document shows a definition, by which NICO tells NIO's generations apart and `kubectl explain`
/// explains. It follows a second or two after the resource itself.
async fn published(client: &Client, definition: &Value) -> bool {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&spec["versions"][0]["name"]);
    let path = format!("/openapi/v3/apis/{}/{version}", text(&spec["group"]));
    let Ok(request) = hyper::Request::get(path).body(Vec::new()) else {
        return false;
    };
    let document = client.request_text(request).await.unwrap_or_default();
    document.contains(&format!("\"kind\":\"{}\"", text(&spec["names"]["kind"])))
}
