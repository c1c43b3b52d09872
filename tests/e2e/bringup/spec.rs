//! What single fields of the spec do, and which of them stop a cluster until a person mends them.

use rig::world::condition;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{listed, nico};

fn without_repository() -> Value {
    let mut spec = listed(&["cp-01"], &[]);
    spec.as_object_mut().unwrap().remove("gitRepo");
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_repository_serves_clusters_that_name_none() {
    let setup = nico().args(&["--default-git-repo", "https://git.example.com/ours.git"]);
    let case = Case::with(&setup).await;
    case.world.machine("cp-01").await;
    case.world
        .cluster("prod", without_repository())
        .await
        .unwrap();
    case.ready("prod").await;
    let configuration = case.configuration("cp-01").await;
    assert_eq!(
        configuration.data["spec"]["gitRepo"],
        "https://git.example.com/ours.git"
    );
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_any_repository_is_told_so() {
    let case = Case::start().await;
    case.world.machine("cp-01").await;
    case.world
        .cluster("prod", without_repository())
        .await
        .unwrap();
    let message = case.stalled("prod", "GitRepoMissing").await;
    assert!(message.contains("spec.gitRepo"), "{message}");
    assert_eq!(case.configurations().await, Vec::<String>::new());
    case.edit(
        "prod",
        json!({"gitRepo": "https://git.example.com/flakes.git"}),
    )
    .await;
    case.ready("prod").await;
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_ref_and_full_installs_are_refused_beside_classic() {
    let case = Case::start().await;
    case.world.machine("cp-01").await;
    let mut spec = listed(&["cp-01"], &[]);
    spec["refPolicy"] = json!("Pin");
    case.world.cluster("prod", spec).await.unwrap();
    let message = case.stalled("prod", "PinNotSupported").await;
    assert!(message.contains("spec.refPolicy"), "{message}");
    case.edit("prod", json!({"refPolicy": "Follow", "fullInstall": true}))
        .await;
    let message = case.stalled("prod", "FullInstallUnsafe").await;
    assert!(message.contains("spec.fullInstall"), "{message}");
    assert_eq!(case.configurations().await, Vec::<String>::new());
    case.edit("prod", json!({"fullInstall": false})).await;
    let status = case.ready("prod").await;
    assert_eq!(condition(&status, "Stalled")["status"], "False");
    assert_eq!(status["observedGeneration"], 3);
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_cluster_is_brought_up_once_it_is_no_longer_paused() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    case.world.machines_named(&["cp-01", "w-01"]).await;
    let mut spec = listed(&["cp-01"], &["w-01"]);
    spec["paused"] = json!(true);
    case.world.cluster("prod", spec).await.unwrap();
    case.told("prod", "Paused", "True", "PausedBySpec").await;
    case.two_more_passes().await;
    assert_eq!(case.deeds(), Vec::<String>::new());
    let status = case.world.status("prod").await;
    assert_eq!(condition(&status, "Ready")["status"], "False", "{status}");
    case.edit("prod", json!({"paused": false})).await;
    let status = case.ready("prod").await;
    assert_eq!(condition(&status, "Paused")["status"], "False");
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_stands_in_cluster_nix_and_in_the_kubeconfig() {
    let case = Case::start().await;
    let hosts = case
        .world
        .machines_named(&["cp-01", "cp-02", "cp-03"])
        .await;
    let mut spec = listed(&["cp-01", "cp-02", "cp-03"], &[]);
    // In the place of a load balancer, the last machine.
    let (host, port) = (hosts[2].ip().to_string(), hosts[2].api_port());
    spec["controlPlaneEndpoint"] = json!({"host": host, "port": port});
    case.world.cluster("prod", spec).await.unwrap();
    case.ready("prod").await;
    for machine in ["cp-01", "cp-02", "cp-03"] {
        let nix = case.cluster_nix(machine).await;
        assert_eq!(nix["endpoint"], json!({"host": host, "port": port}));
    }
    let kubeconfig = case.kubeconfig("prod").await;
    let server = &kubeconfig["clusters"][0]["cluster"]["server"];
    assert_eq!(*server, json!(format!("https://{host}:{port}")));
    case.nodes("prod").await;
    case.finish().await;
}
