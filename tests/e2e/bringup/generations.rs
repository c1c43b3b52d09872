//! Management clusters of their own: with NIO v1, without NIO, and with objects that an older definition let through.

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use rig::crds::{Generation, install_crds};
use rig::environment::Environment;
use rig::wait::wait_for;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico};

const NIO_KINDS: [&str; 4] = ["machines", "nixosconfigurations", "nixcronjobs", "nixjobs"];

async fn environment(generation: Generation) -> &'static Environment {
    Box::leak(Box::new(Environment::start(generation).await))
}

/// A management cluster whose NIO is v1, then is taken away, and then is classic.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_nio_is_waited_for_and_another_generation_is_found() {
    let environment = environment(Generation::V1).await;
    let mut case = Case::on(environment, &nico().args(&RESYNC)).await;
    case.world.machine("cp-01").await;
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    case.ready("prod").await;
    case.delete("prod").await;
    case.wait_gone("prod").await;
    let client = case.world.client();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in NIO_KINDS {
        let name = format!("{name}.nio.homystack.com");
        definitions
            .delete(&name, &DeleteParams::default())
            .await
            .unwrap();
        let gone = || async {
            definitions
                .get_opt(&name)
                .await
                .ok()?
                .is_none()
                .then_some(())
        };
        wait_for("the definition is gone", DEADLINE, gone).await;
    }
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    let message = case.stalled("prod", "NIOMissing").await;
    assert!(message.contains("install NIO"), "{message}");
    install_crds(client, Generation::Classic).await;
    case.world.replace_nio(Generation::Classic);
    case.world.machine("cp-01").await;
    case.ready("prod").await;
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_an_older_definition_are_told_about_and_harm_nobody() {
    let environment = environment(Generation::Classic).await;
    let case = Case::on(environment, &nico().args(&RESYNC)).await;
    case.world
        .machines_named(&["cp-01", "cp-02", "cp-03", "w-01"])
        .await;
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    case.ready("prod").await;
    let strict = older_definition(&case).await;
    let told_in_status = [
        ("no-spec", json!(null)),
        ("both-roles", listed(&["cp-02", "w-01"], &["w-01"])),
        ("quotes", listed(&["cp-02\"; }"], &[])),
        (
            "count",
            json!({"controlPlane": {"machineSelector": {}, "count": -1}}),
        ),
    ];
    // The API server takes no status for these, because its rules cannot even read them.
    let told_in_events = [
        ("text", json!("a cluster, please")),
        (
            "types",
            json!({"controlPlane": ["cp-02"], "dataPlane": 7, "paused": "yes", "rollout": []}),
        ),
        (
            "nested",
            json!({"gitRepo": {"url": 1}, "controlPlane": {"machines": {"a": 1}, "count": "many"}}),
        ),
    ];
    let malformed = [&told_in_status[..], &told_in_events[..]].concat();
    for (name, spec) in &malformed {
        case.cluster(name, spec.clone()).await;
    }
    // The spec of a living cluster, too.
    case.edit("prod", json!({"dataPlane": {"machines": ["cp-01"]}}))
        .await;
    restore_definition(&case, strict).await;
    for (name, _) in &told_in_status {
        let message = case.stalled(name, "InvalidSpec").await;
        assert!(message.contains("spec"), "{name}: {message}");
    }
    let message = case.stalled("both-roles", "InvalidSpec").await;
    assert!(message.contains("w-01"), "{message}");
    case.stalled("prod", "InvalidSpec").await;
    let events: Api<Event> = Api::namespaced(case.world.client().clone(), case.world.namespace());
    for (name, _) in &told_in_events {
        let told = || async {
            let found = events.list(&ListParams::default()).await.ok()?;
            let mut notes = found.items.into_iter().filter_map(|event| {
                let about = event.regarding?.name?;
                (about == *name && event.reason? == "InvalidSpec").then_some(event.note?)
            });
            notes.next()
        };
        let note = wait_for(&format!("an event about {name}"), DEADLINE, told).await;
        assert!(note.contains("spec"), "{name}: {note}");
    }
    assert_eq!(case.configurations().await, ["cp-01"]);
    // The watch goes on, and others come up.
    case.cluster("well", listed(&["cp-03"], &[])).await;
    case.ready("well").await;
    for (name, _) in &malformed {
        case.delete(name).await;
        case.wait_gone(name).await;
    }
    case.delete("prod").await;
    case.wait_gone("prod").await;
    assert_eq!(case.configurations().await, ["cp-03"]);
    let ours = case.children().await;
    assert!(
        ours.iter().all(|name| name.starts_with("well-")),
        "{ours:?}"
    );
    case.finish().await;
}

/// Takes all checks off the definition; returns the schema as it was.
async fn older_definition(case: &Case) -> Value {
    let definitions: Api<CustomResourceDefinition> = Api::all(case.world.client().clone());
    let shipped = definitions
        .get("kubernetesclusters.nico.homystack.com")
        .await
        .unwrap();
    let shipped = serde_json::to_value(&shipped.spec.versions).unwrap();
    let mut loose = shipped.clone();
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    loose[0]["schema"]["openAPIV3Schema"] = schema;
    put_versions(case, loose).await;
    // In force once it lets something through.
    let loosened = || async {
        case.world
            .cluster("probe", json!({"controlPlane": 1}))
            .await
            .ok()
    };
    wait_for("the older definition is served", DEADLINE, loosened).await;
    case.delete("probe").await;
    case.wait_gone("probe").await;
    shipped
}

async fn restore_definition(case: &Case, versions: Value) {
    put_versions(case, versions).await;
    let strict = || async {
        let refused = case
            .world
            .cluster("probe", json!({"controlPlane": 1}))
            .await;
        if refused.is_ok() {
            case.delete("probe").await;
            return None;
        }
        Some(())
    };
    wait_for("the shipped definition is served", DEADLINE, strict).await;
}

async fn put_versions(case: &Case, versions: Value) {
    let definitions: Api<CustomResourceDefinition> = Api::all(case.world.client().clone());
    let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
    definitions
        .patch(
            "kubernetesclusters.nico.homystack.com",
            &PatchParams::default(),
            &patch,
        )
        .await
        .unwrap();
}
