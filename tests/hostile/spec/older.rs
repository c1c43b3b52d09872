//! Objects that an older definition let through: stored while the definition asks for nothing, then read and written under ours.
//!
//! The API server lets a write pass that leaves a broken field as it was ("validation ratcheting"), but for CEL rules that cannot
//! even read it: to an object in which such a field has a wrong type nothing can be written, not even a status, until the field
//! is mended; it can be deleted.

use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use nico::api::cluster::{RawCluster, crd};
use nico::api::names::CLUSTER_FINALIZER;
use nico::api::validate::validate;
use rig::control_plane::{ControlPlane, Options};
use rig::crds::{clusters, install_crd_text};
use serde_json::{Value, json};

use crate::spec::cases;
use crate::spec::object;

/// Our definition without any rule.
fn lenient() -> String {
    let mut lenient = serde_json::to_value(crd()).expect("the definition is JSON");
    lenient["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
    });
    serde_yaml::to_string(&lenient).expect("the definition can be written as YAML")
}

async fn store_hostile(client: &Client) -> usize {
    let api = clusters(client, "default");
    let mut stored = 0;
    for (index, case) in cases::hostile().iter().enumerate() {
        let name = if case.name == "prod" {
            format!("old-{index}")
        } else {
            case.name.clone()
        };
        api.create(&PostParams::default(), &object(&name, &case.spec))
            .await
            .expect("a definition without rules takes anything");
        stored += 1;
    }
    stored
}

#[tokio::test]
async fn what_an_older_definition_let_through_is_read_judged_and_told_in_status() {
    let control_plane = ControlPlane::start(Options::default())
        .await
        .expect("a control plane starts");
    let client = control_plane.client();
    install_crd_text(&client, &lenient()).await;
    let stored = store_hostile(&client).await;
    let ours = serde_yaml::to_string(&crd()).expect("the definition can be written as YAML");
    install_crd_text(&client, &ours).await;

    let api: Api<RawCluster> = Api::namespaced(client.clone(), "default");
    let read = api
        .list(&ListParams::default())
        .await
        .expect("no object breaks the list");
    assert_eq!(read.items.len(), stored);
    let writes: Api<DynamicObject> = clusters(&client, "default");
    let (mut wrong, mut mute) = (Vec::new(), 0);
    for cluster in read.items {
        let name = cluster.name_any();
        let shown: String = cluster.spec.to_string().chars().take(160).collect();
        // It was 2.0, which is stored as 2.
        let mended = cluster.spec["rollout"]["maxUnavailable"] == json!(2);
        if validate(&name, &cluster.spec).is_ok() && !mended {
            wrong.push(format!("{name}: the code takes {shown}"));
        }
        let refused = write(&writes, &name).await;
        mute += usize::from(!refused.is_empty());
        let unread = [
            "invalid data, expected",
            "no such key",
            "spec: Required value",
        ];
        let others = refused
            .iter()
            .filter(|error| !unread.iter().any(|word| error.contains(word)));
        wrong.extend(others.map(|error| format!("{name}: {error}: {shown}")));
        if let Err(error) = writes.delete(&name, &DeleteParams::default()).await {
            wrong.push(format!("{name}: {error}"));
        }
    }
    println!(
        "{stored} hostile specs of an older definition, each read, judged and deleted; {mute} took no status or no finalizer before"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Writes a status, sets the finalizer and takes it off; what of it is refused.
async fn write(api: &Api<DynamicObject>, name: &str) -> Vec<String> {
    let parameters = PatchParams::default();
    let status = json!({ "status": { "phase": "Failed", "conditions": [
        { "type": "Ready", "status": "False", "reason": "InvalidSpec", "message": "as told" },
    ] } });
    let status = api
        .patch_status(name, &parameters, &Patch::Merge(&status))
        .await;
    let mut answers = vec![status];
    for finalizers in [json!([CLUSTER_FINALIZER]), Value::Null] {
        let change = json!({ "metadata": { "finalizers": finalizers } });
        answers.push(api.patch(name, &parameters, &Patch::Merge(&change)).await);
    }
    answers
        .into_iter()
        .filter_map(Result::err)
        .map(|error| error.to_string())
        .collect()
}
