//! What is not NICO's in its way, and what people strip off its objects.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use rig::crds::Generation;
use rig::wait::wait_describing;
use rig::world::condition;
use serde_json::{Value, json};

use crate::common::case::{Case, took_effect};
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico, over_both};
use crate::leaving::ready;

over_both![
    on demand:
    what_is_stripped_off_a_configuration_comes_back_quietly,
    a_foreign_configuration_in_the_way_is_named_and_never_touched,
];

/// Names under which NICO would keep something: kind, what comes after the cluster's name, the condition that names what lies there,
/// and its reason.
const NAMES: [(&str, &str, &str, &str); 5] = [
    ("Secret", "join-token", "Stalled", "SecretConflict"),
    ("Secret", "worker-token", "Stalled", "SecretConflict"),
    ("Secret", "kubeconfig", "KubeconfigReady", "SecretConflict"),
    ("ConfigMap", "nico", "Stalled", "SecretConflict"),
    (
        "ConfigMap",
        "known-hosts",
        "KubeconfigReady",
        "HostKeyUnknown",
    ),
];

/// A Secret or ConfigMap of somebody's, which looks as much like NICO's as it can.
fn foreign(kind: &str, name: &str, cluster: &str) -> Value {
    let data = json!({"token": "c29tZWJvZHk=", "id": "c29tZWJvZHk=", "value": "c29tZWJvZHk="});
    json!({"apiVersion": "v1", "kind": kind, "data": data, "metadata": {"name": name,
        "labels": {"app.kubernetes.io/managed-by": "nico", "nico.homystack.com/cluster": cluster},
        "annotations": {"nico.homystack.com/adopt": "another"}}})
}

/// The object as it stands, its version included.
async fn read(case: &Case, kind: &str, name: &str) -> Value {
    if kind == "Secret" {
        serde_json::to_value(case.secret(name).await.unwrap()).unwrap()
    } else {
        serde_json::to_value(case.maps().get(name).await.unwrap()).unwrap()
    }
}

/// Every name that NICO uses is taken by somebody else: it is named, never touched, and does not hold up the cluster's deletion.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_objects_under_every_name_are_named_and_never_touched() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    case.world.machines_named(&["cp-01", "w-01"]).await;
    for (kind, what, condition_type, reason) in NAMES {
        let cluster = format!("c-{what}");
        let name = format!("{cluster}-{what}");
        let object = foreign(kind, &name, &cluster);
        case.world.apply(&object.to_string()).await.unwrap();
        let before = read(&case, kind, &name).await;
        let uid = {
            let spec = listed(&["cp-01"], &["w-01"]);
            let made = case.world.cluster(&cluster, spec).await.unwrap();
            made.uid().unwrap()
        };
        let named = |status: &Value| {
            let found = condition(status, condition_type);
            let message = found["message"].as_str().unwrap_or_default();
            found["reason"] == reason && message.contains(&name)
        };
        let said = format!("{condition_type} names {name}");
        case.world
            .wait_status(&cluster, &said, DEADLINE, named)
            .await;
        case.two_more_passes().await;
        assert_eq!(read(&case, kind, &name).await, before);
        case.delete(&cluster).await;
        case.wait_gone(&cluster).await;
        assert_eq!(read(&case, kind, &name).await, before);
        // It bears the label: nothing else may be left.
        let mut children = case.children().await;
        children.retain(|child| child.starts_with(&cluster) && *child != name);
        assert_eq!(children, Vec::<String>::new());
        let configurations = case.configurations().await;
        assert!(configurations.is_empty(), "{configurations:?} of {uid}");
    }
    let tried = case.proxy.writes();
    let names = NAMES.map(|(_, what, ..)| format!("c-{what}-{what}"));
    let mut tried = tried.iter().filter(|call| {
        names.iter().any(|name| name == call.object_name())
            && (took_effect(call) || call.verb != "create")
    });
    assert_eq!(tried.next().map(rig::proxy::Call::line), None);
    case.finish().await;
}

/// A configuration of somebody's that is named like a machine, whatever machine it names, and one that names the machine.
async fn a_foreign_configuration_in_the_way_is_named_and_never_touched(generation: Generation) {
    let case = Case::of(generation, &nico().args(&RESYNC)).await;
    case.world.machines_named(&["cp-01", "w-01", "w-02"]).await;
    // NIO shall not write their status meanwhile.
    for machine in ["w-02", "other"] {
        let nio = case.world.nio();
        nio.set(machine, |knobs| knobs.never_reacts = true);
    }
    case.foreign_configuration("w-01", "other").await;
    case.foreign_configuration("theirs", "w-02").await;
    let names = ["w-01", "theirs"];
    let held = async || {
        let mut all = Vec::new();
        for name in names {
            let object = case.configuration(name).await;
            all.push((object.resource_version(), object.data));
        }
        all
    };
    let handled = || async {
        for name in names {
            let object = case.configuration(name).await;
            object.finalizers().first()?;
        }
        Some(())
    };
    let seen = || case.world.describe();
    // V1, which does nothing for them, leaves no trace either.
    if generation == Generation::Classic {
        wait_describing("NIO has seen them", DEADLINE, handled, seen).await;
    }
    let spec = listed(&["cp-01"], &["w-01", "w-02"]);
    case.world.cluster("prod", spec).await.unwrap();
    let both = |status: &Value| {
        let found = condition(status, "MachinesAvailable");
        let message = found["message"].as_str().unwrap_or_default();
        found["reason"] == "MachineInUse"
            && names.iter().all(|name| message.contains(name))
            && condition(status, "ControlPlaneReady")["status"] == "True"
    };
    case.world
        .wait_status("prod", "both are named", DEADLINE, both)
        .await;
    let before = held().await;
    case.two_more_passes().await;
    case.delete("prod").await;
    case.wait_gone("prod").await;
    assert_eq!(held().await, before);
    let writes = case.proxy.writes();
    let mut touched = writes.iter().filter(|call| {
        call.resource == "nixosconfigurations" && names.contains(&call.object_name())
    });
    assert_eq!(touched.next().map(rig::proxy::Call::line), None);
    case.finish().await;
}

/// In a cluster at rest: taken back by a quiet write each, and NIO has nothing to do.
async fn what_is_stripped_off_a_configuration_comes_back_quietly(generation: Generation) {
    let case = ready(generation, &["cp-01"], &["w-01"]).await;
    case.settled("prod").await;
    let nico_labels = |name: &str| name.contains("nico");
    for (machine, patch) in [
        ("cp-01", json!({"ownerReferences": null})),
        ("w-01", json!({"labels": null})),
        ("cp-01", json!({"labels": null})),
        ("w-01", json!({"ownerReferences": null})),
    ] {
        let before = case.configuration(machine).await;
        let marker = case.marker(machine).await;
        let (written, applied) = (case.proxy.writes().len(), case.world.nio().history().len());
        let params = PatchParams::default();
        let patch = Patch::Merge(json!({ "metadata": patch }));
        let configurations = case.world.configurations();
        configurations
            .patch(machine, &params, &patch)
            .await
            .unwrap();
        let back = || async {
            let held = case.configuration(machine).await;
            let same = held.labels() == before.labels()
                && held.owner_references() == before.owner_references();
            same.then_some(())
        };
        let seen = || async { case.proxy.write_lines() };
        wait_describing("all is put back", DEADLINE, back, seen).await;
        case.ready("prod").await;
        assert_eq!(case.marker(machine).await, marker);
        let held = case.configuration(machine).await;
        assert_eq!(held.data["spec"], before.data["spec"]);
        assert_eq!(held.uid(), before.uid());
        assert!(held.labels().keys().any(|name| nico_labels(name)));
        let mut writes = case.proxy.writes().split_off(written);
        writes.retain(|call| took_effect(call) && call.subresource.is_empty());
        assert_eq!(writes.len(), 1, "{}", case.proxy.write_lines());
        let body = writes[0].body.as_ref().unwrap();
        assert!(body["spec"].is_null(), "{body}");
        assert_eq!(case.world.nio().history().len(), applied);
    }
    case.finish().await;
}

/// Where owner and labels are off, only NICO's finalizer tells whose Secret it is. A deletion takes that off, and leaves the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_without_owner_and_labels_is_let_go_and_stays() {
    let case = ready(Generation::Classic, &["cp-01"], &["w-01"]).await;
    let names = ["prod-join-token", "prod-worker-token"];
    let mut tokens = Vec::new();
    for name in names {
        tokens.push(case.secret_value(name, "token").await);
        let stripped = json!({"metadata": {"labels": null, "ownerReferences": null}});
        let now = PatchParams::default();
        let secrets = case.world.secrets();
        let patched = secrets.patch(name, &now, &Patch::Merge(stripped)).await;
        let held = patched.unwrap().finalizers().to_vec();
        assert_eq!(held, ["nico.homystack.com/in-use"]);
    }
    case.delete("prod").await;
    case.wait_gone("prod").await;
    for (name, token) in names.into_iter().zip(tokens) {
        let secret = case.secret(name).await.unwrap();
        assert_eq!(secret.finalizers(), Vec::<String>::new());
        assert_eq!(case.secret_value(name, "token").await, token);
    }
    case.finish().await;
}
