//! Healthy machines leave: drained, within what `PodDisruptionBudgets` allow.

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use rig::crds::Generation;
use rig::judge::rollout::Rules;
use rig::wait::wait_describing;
use rig::world::{World, condition};
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::shown::{in_flight, names};
use crate::common::{DEADLINE, over_both};
use crate::rolling::{TWO, ready};

/// A Pod on a Node, with a label of its name. No kubelet runs: it goes at once when it is evicted.
pub(crate) async fn pod(world: &World, node: &str, name: &str) -> Api<Pod> {
    let client = world.workload().control_plane().client();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
    // Where no controller made it, and no test before.
    let _ = accounts.create(&PostParams::default(), &account).await;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": "registry.example.com/app:1"}],
        },
    });
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    // A budget guards what runs.
    let runs = json!({"status": {
        "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
    }});
    let params = PatchParams::default();
    let running = pods.patch_status(name, &params, &Patch::Merge(runs)).await;
    running.unwrap();
    pods
}

/// A `PodDisruptionBudget` for the Pods of that label, which allows nothing until it is told to: no controller counts for it.
pub(crate) async fn budget(world: &World, app: &str) -> Api<PodDisruptionBudget> {
    let client = world.workload().control_plane().client();
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client, "default");
    let budget = json!({
        "metadata": {"name": app},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}},
    });
    let budget = serde_json::from_value(budget).unwrap();
    budgets
        .create(&PostParams::default(), &budget)
        .await
        .unwrap();
    budgets
}

/// The budget allows one eviction, as its controller would say.
pub(crate) async fn allow_one(budgets: &Api<PodDisruptionBudget>, app: &str) {
    let generation = budgets.get(app).await.unwrap().metadata.generation;
    let status = json!({"status": {
        "observedGeneration": generation, "disruptionsAllowed": 1, "currentHealthy": 2,
        "desiredHealthy": 1, "expectedPods": 2,
    }});
    let params = PatchParams::default();
    budgets
        .patch_status(app, &params, &Patch::Merge(status))
        .await
        .unwrap();
}

/// Waits until a Node is as it should be.
async fn wait_node(case: &Case, what: &str, pleases: impl Fn(&Node) -> bool) {
    let found = || async {
        let node = case.world.nodes().get_opt("w-02").await.ok()??;
        pleases(&node).then_some(())
    };
    wait_describing(what, DEADLINE, found, || case.world.describe()).await;
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
}

/// A volume that is attached to a Node.
async fn attachment(case: &Case, node: &str, name: &str) -> Api<VolumeAttachment> {
    let client = case.world.workload().control_plane().client();
    let api: Api<VolumeAttachment> = Api::all(client);
    let attachment = json!({
        "metadata": {"name": name},
        "spec": {"attacher": "csi.example.com", "nodeName": node, "source": {"persistentVolumeName": name}},
    });
    let attachment = serde_json::from_value(attachment).unwrap();
    api.create(&PostParams::default(), &attachment)
        .await
        .unwrap();
    api
}

/// A volume of a pod that no drain ends: it stays attached.
async fn keep_volume(case: &Case, node: &str, name: &str) {
    let client = case.world.workload().control_plane().client();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), "default");
    let claim = json!({
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    let claim = serde_json::from_value(claim).unwrap();
    // Where no test made it before.
    let _ = claims.create(&PostParams::default(), &claim).await;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let pod = json!({
        "metadata": {"name": name, "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "agent", "controller": true,
        }]},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": "registry.example.com/app:1"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}],
        },
    });
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    attachment(case, node, name).await;
}

over_both![a_worker_leaves_once_its_pods_may_go_and_stays_after_a_change_of_mind];

async fn a_worker_leaves_once_its_pods_may_go_and_stays_after_a_change_of_mind(
    generation: Generation,
) {
    let case = ready(generation).await;
    let pods = pod(&case.world, "w-02", "free").await;
    pod(&case.world, "w-02", "kept").await;
    pod(&case.world, "w-01", "elsewhere").await;
    let budgets = budget(&case.world, "kept").await;
    let before = case
        .roll(json!({"dataPlane": {"machines": ["w-01"]}}))
        .await;
    case.says("RollingOut", "Draining", "once its pods are gone (1 left)")
        .await;
    let held = "/kept cannot be evicted: PodDisruptionBudget kept allows no disruption now";
    case.says("RollingOut", "Draining", held).await;
    wait_node(&case, "w-02 is cordoned", is_cordoned).await;
    assert!(pods.get_opt("free").await.unwrap().is_none());
    case.nothing_but(before, &[]).await;

    // It is to stay after all.
    case.roll(json!({"dataPlane": {"machines": TWO}})).await;
    wait_node(&case, "w-02 is as it was", |node| {
        let annotations = node.metadata.annotations.clone().unwrap_or_default();
        let ours = annotations
            .keys()
            .filter(|key| key.starts_with("nico.homystack.com/"));
        !is_cordoned(node) && ours.count() == 0
    })
    .await;
    case.rolled_out("prod").await;
    assert_eq!(case.written(before), Vec::<String>::new());

    let again = case
        .roll(json!({"dataPlane": {"machines": ["w-01"]}}))
        .await;
    wait_node(&case, "w-02 is cordoned", is_cordoned).await;
    // Nobody is evicted while all is paused, though the budget would allow it.
    case.edit("prod", json!({"paused": true})).await;
    case.told("prod", "Paused", "True", "PausedBySpec").await;
    allow_one(&budgets, "kept").await;
    case.nothing_but(before, &[]).await;
    assert!(pods.get_opt("kept").await.unwrap().is_some());
    let volumes = attachment(&case, "w-02", "pv-1").await;
    keep_volume(&case, "w-02", "pv-kept").await;
    case.edit("prod", json!({"paused": false})).await;
    let waits = "once its volumes are detached (pv-1)";
    case.says("RollingOut", "Draining", waits).await;
    let gone = DeleteParams::default();
    volumes.delete("pv-1", &gone).await.unwrap();
    let left = |status: &Value| {
        condition(status, "Ready")["status"] == "True"
            && in_flight(status).is_empty()
            && !status["machines"].to_string().contains("w-02")
    };
    case.world
        .wait_status("prod", "w-02 left", DEADLINE, left)
        .await;
    assert!(case.world.nodes().get_opt("w-02").await.unwrap().is_none());
    assert!(pods.get_opt("kept").await.unwrap().is_none());
    assert!(pods.get_opt("elsewhere").await.unwrap().is_some());
    volumes.delete("pv-kept", &gone).await.unwrap();
    // One roll tells the others.
    assert_eq!(
        case.written(again),
        ["w-02", "w-01", "cp-01", "cp-02", "cp-03"]
    );
    for machine in ["w-01", "cp-01"] {
        assert_eq!(names(&case.cluster_nix(machine).await["workers"]), ["w-01"]);
    }
    let rules = Rules::of(vec![before, again]);
    case.finish_rolled(&rules).await;
}
