//! Machines with a workload API server of their world's own: their Nodes and ports, and what becomes of both when they die, are
//! refused, or are cut off.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use rig::machines::MachineHost;
use rig::wait::wait_for;
use rig::workload::CONTROL_PLANE_LABEL;
use rig::world::World;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{SOON, remove};

const GOOD: &str = "https://git.example.com/good.git";
const BAD: &str = "https://git.example.com/bad.git";

/// A cluster that `cp-01` founds, with one worker, after its id.
fn configuration(name: &str, id: &str, git_repo: &str, marker: &str) -> Value {
    let text = rig::nix::text(
        &json!({"name": "prod", "id": id, "bootstrap": "cp-01", "join": null, "endpoint": null,
        "controlPlane": [{"name": "cp-01", "ip": "1"}], "workers": [{"name": "w-01", "ip": "2"}]}),
    );
    json!({"apiVersion": "nio.homystack.com/v1alpha1", "kind": "NixosConfiguration", "metadata": {"name": name},
        "spec": {"gitRepo": git_repo, "flake": format!("#{name}"), "onRemoveFlake": "#minimal", "machineRef": {"name": name},
            "additionalFiles": [{"path": "cluster.nix", "valueType": "Inline", "inline": text},
                {"path": marker, "valueType": "Inline", "inline": ""}]}})
}

async fn create(world: &World, name: &str, id: &str) {
    let object = serde_json::from_value(configuration(name, id, GOOD, ".nico/1"));
    let object: DynamicObject = object.expect("it is an object");
    let made = world
        .configurations()
        .create(&PostParams::default(), &object)
        .await;
    made.expect("the configuration is made");
}

async fn rewrite(world: &World, name: &str, git_repo: &str, marker: &str) {
    let body = configuration(name, "1", git_repo, marker);
    let patch = Patch::Merge(json!({"spec": body["spec"]}));
    let written = world
        .configurations()
        .patch(name, &PatchParams::default(), &patch)
        .await;
    written.expect("the configuration is written");
}

async fn node(world: &World, name: &str, what: &str, pleases: impl Fn(&Node) -> bool) -> Node {
    wait_for(&format!("{name}: {what}"), SOON, || async {
        let node = world.nodes().get_opt(name).await.ok()??;
        pleases(&node).then_some(node)
    })
    .await
}

fn ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|it| it.type_ == "Ready" && it.status == "True")
}

fn kubelet(node: &Node) -> String {
    let info = node.status.as_ref().and_then(|it| it.node_info.as_ref());
    info.map(|it| it.kubelet_version.clone())
        .unwrap_or_default()
}

async fn port(host: &MachineHost, open: bool) {
    wait_for(&format!("port open: {open}"), SOON, || async {
        let tried = TcpStream::connect((host.ip(), host.api_port())).await;
        (tried.is_ok() == open).then_some(())
    })
    .await;
}

async fn both_up(world: &World) -> Vec<MachineHost> {
    let hosts = world.machines_named(&["cp-01", "w-01"]).await;
    for name in ["cp-01", "w-01"] {
        create(world, name, "1").await;
        node(world, name, "Ready", ready).await;
    }
    hosts
}

#[tokio::test]
async fn a_world_alone_has_its_machines_as_nodes_and_no_others() {
    let world = World::alone().await;
    let nodes = world.nodes().list(&ListParams::default()).await;
    assert!(nodes.expect("the workload answers").items.is_empty());
    let hosts = world.machines_named(&["cp-01", "w-01"]).await;
    port(&hosts[0], false).await;
    create(&world, "cp-01", "1").await;
    create(&world, "w-01", "1").await;
    let founder = node(&world, "cp-01", "Ready", ready).await;
    assert_eq!(founder.labels()[CONTROL_PLANE_LABEL], "true");
    assert_eq!(kubelet(&founder), world.workload().version());
    assert!(kubelet(&founder).starts_with("v1."));
    let worker = node(&world, "w-01", "Ready", ready).await;
    assert!(!worker.labels().contains_key(CONTROL_PLANE_LABEL));
    port(&hosts[0], true).await;
    port(&hosts[1], false).await;

    world.flake().kubelet_version("w-01", "v1.99.0").await;
    world.flake().node_not_ready("w-01", true).await;
    let worker = world.nodes().get("w-01").await.expect("it is there");
    assert_eq!(
        (kubelet(&worker).as_str(), ready(&worker)),
        ("v1.99.0", false)
    );
    rewrite(&world, "w-01", GOOD, ".nico/2").await;
    wait_for("it is applied", SOON, || async {
        let last = world.nio().applies("w-01").pop()?;
        (last.applied.marker.as_deref() == Some(".nico/2")).then_some(())
    })
    .await;
    let worker = world.nodes().get("w-01").await.expect("it is there");
    assert_eq!(
        (kubelet(&worker).as_str(), ready(&worker)),
        ("v1.99.0", false)
    );
    world.flake().node_not_ready("w-01", false).await;
    node(&world, "w-01", "Ready", ready).await;

    world.flake().dead("cp-01", true);
    port(&hosts[0], false).await;
    node(&world, "cp-01", "not Ready", |node| !ready(node)).await;
    world.flake().dead("cp-01", false);
    port(&hosts[0], true).await;
    node(&world, "cp-01", "Ready", ready).await;
    hosts[0].api_off(true);
    port(&hosts[0], false).await;
}

#[tokio::test]
async fn a_revision_kills_or_cuts_off() {
    let world = World::alone().await;
    let hosts = both_up(&world).await;
    world.flake().revision_kills(BAD, Some("cp-01"));
    rewrite(&world, "cp-01", BAD, ".nico/2").await;
    port(&hosts[0], false).await;
    node(&world, "cp-01", "not Ready", |node| !ready(node)).await;
    wait_for("NIO's success all the same", SOON, || async {
        let last = world.nio().applies("cp-01").pop()?;
        (last.applied.git_repo == BAD).then_some(())
    })
    .await;
    rewrite(&world, "cp-01", GOOD, ".nico/3").await;
    port(&hosts[0], true).await;
    node(&world, "cp-01", "Ready", ready).await;

    world.flake().revision_cuts_off(BAD, None);
    rewrite(&world, "w-01", BAD, ".nico/2").await;
    node(&world, "w-01", "not Ready", |node| !ready(node)).await;
    wait_for("NIO loses it", SOON, || async {
        let machine = world.machines().get("w-01").await.ok()?;
        let configuration = world.configurations().get("w-01").await.ok()?;
        let status = &configuration.data["status"];
        let lost = machine.data["status"]["discoverable"] == false
            && status["conditions"][0]["status"] == "False"
            && status["appliedCommit"].is_null();
        lost.then_some(())
    })
    .await;
    let applies = world.nio().applies("w-01");
    assert!(
        applies
            .iter()
            .all(|attempt| attempt.applied.git_repo == GOOD)
    );
    rewrite(&world, "w-01", GOOD, ".nico/3").await;
    world.nio().set("w-01", |knobs| knobs.unreachable = false);
    node(&world, "w-01", "Ready", ready).await;
}

#[tokio::test]
async fn a_newcomer_under_an_old_nodes_name_is_refused_until_the_node_is_gone() {
    let world = World::alone().await;
    both_up(&world).await;
    remove(&world, "w-01").await;
    node(&world, "w-01", "not Ready, and still there", |node| {
        !ready(node)
    })
    .await;
    create(&world, "w-01", "1").await;
    wait_for("it is refused", SOON, || async {
        (world.flake().refused() == ["w-01"]).then_some(())
    })
    .await;
    let old = world.nodes().get("w-01").await.expect("it is there");
    assert!(!ready(&old));
    world
        .nodes()
        .delete("w-01", &DeleteParams::default())
        .await
        .expect("it can be deleted");
    let new = node(&world, "w-01", "Ready", ready).await;
    assert_ne!(new.uid(), old.uid());
    assert_eq!(world.flake().refused(), ["w-01"]);

    // A cluster founded again has none of the old one's Nodes.
    remove(&world, "w-01").await;
    remove(&world, "cp-01").await;
    create(&world, "cp-01", "2").await;
    node(&world, "cp-01", "Ready", ready).await;
    let all = world.nodes().list(&ListParams::default()).await;
    let names: Vec<String> = all.iter().flatten().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["cp-01"]);
    create(&world, "w-01", "2").await;
    node(&world, "w-01", "Ready", ready).await;
    assert_eq!(world.flake().refused(), ["w-01"]);
}

/// More worlds than there are servers, one after the other: each finds one, without Nodes.
#[tokio::test]
async fn a_server_is_handed_on_without_its_nodes() {
    for _ in 0..4 {
        let world = World::alone().await;
        let nodes = world.nodes().list(&ListParams::default()).await;
        assert!(nodes.expect("the workload answers").items.is_empty());
        world.machine("cp-01").await;
        create(&world, "cp-01", "1").await;
        node(&world, "cp-01", "Ready", ready).await;
    }
}
