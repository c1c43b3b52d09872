//! Who founds the cluster, and what happens where it does not.

use rig::wait::wait_for;
use rig::world::condition;
use serde_json::{Value, json};

use crate::common::case::{Case, names, row};
use crate::common::{DEADLINE, listed};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_workers() {
    let case = Case::start().await;
    case.world
        .machines_named(&["cp-01", "cp-02", "cp-03"])
        .await;
    let spec = listed(&["cp-01", "cp-02", "cp-03"], &[]);
    case.world.cluster("prod", spec).await.unwrap();
    let status = case.ready("prod").await;
    assert_eq!(
        condition(&status, "DataPlaneReady")["reason"],
        "NoneRequested"
    );
    assert_eq!(status["dataPlane"]["total"], 0);
    assert_eq!(case.cluster_nix("cp-02").await["workers"], json!([]));
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_machine() {
    let case = Case::start().await;
    case.world.machine("only").await;
    case.world
        .cluster("prod", listed(&["only"], &[]))
        .await
        .unwrap();
    let status = case.ready("prod").await;
    assert_eq!(status["controlPlane"]["summary"], "1/1");
    let nix = case.cluster_nix("only").await;
    assert_eq!(nix["bootstrap"], "only");
    assert_eq!(nix["join"]["name"], "only");
    assert!(
        case.nodes("prod")
            .await
            .contains(&case.world.node_name("only"))
    );
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_never_comes_up_is_replaced_in_the_list() {
    let case = Case::start().await;
    let old = never_founded(&case).await;
    case.edit(
        "prod",
        json!({"controlPlane": {"machines": ["cp-02", "cp-03", "cp-04"]}}),
    )
    .await;
    anew(&case, &old, &["cp-02", "cp-03", "cp-04"]).await;
    case.finish().await;
}

/// Those that stay were confirmed, all of them: still nobody founded anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_never_comes_up_is_taken_off_the_list() {
    let case = Case::start().await;
    let old = never_founded(&case).await;
    case.edit(
        "prod",
        json!({"controlPlane": {"machines": ["cp-02", "cp-03"]}}),
    )
    .await;
    anew(&case, &old, &["cp-02", "cp-03"]).await;
    case.finish().await;
}

/// The same, by hand: the founder's configuration is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn the_founders_configuration_is_deleted_before_the_founding() {
    let case = Case::start().await;
    let old = never_founded(&case).await;
    let configurations = case.world.configurations();
    configurations
        .delete("cp-01", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    let another_id = || async { (case.map("prod-nico").await["id"] != old).then_some(()) };
    wait_for("another id", DEADLINE, another_id).await;
    case.world.nio().set("cp-01", |knobs| knobs.fails = false);
    anew(&case, &old, &["cp-01", "cp-02", "cp-03"]).await;
    case.finish().await;
}

/// A cluster whose founder NIO fails to apply, while all others are confirmed. Returns its id.
async fn never_founded(case: &Case) -> String {
    case.world
        .machines_named(&["cp-01", "cp-02", "cp-03", "cp-04", "w-01"])
        .await;
    case.world.nio().set("cp-01", |knobs| knobs.fails = true);
    let spec = listed(&["cp-01", "cp-02", "cp-03"], &["w-01"]);
    case.world.cluster("prod", spec).await.unwrap();
    let stuck = |status: &Value| {
        ["cp-02", "cp-03", "w-01"]
            .iter()
            .all(|machine| row(status, machine)["state"] == "Confirmed")
    };
    let status = case
        .world
        .wait_status("prod", "all but the founder", DEADLINE, stuck)
        .await;
    assert_eq!(row(&status, "cp-01")["state"], "Applying", "{status}");
    assert_eq!(status["phase"], "Provisioning");
    let ledger = case.map("prod-nico").await;
    assert_eq!(ledger["founded"], "false");
    assert_eq!(json!(ledger["id"]), case.cluster_nix("cp-02").await["id"]);
    assert_eq!(case.cluster_nix("cp-02").await["bootstrap"], "cp-01");
    ledger["id"].clone()
}

/// Everything was given back, and the cluster came up under another id.
async fn anew(case: &Case, old: &str, control_plane: &[&str]) {
    case.ready("prod").await;
    let ledger = case.map("prod-nico").await;
    assert_ne!(ledger["id"], old);
    let nix = case.cluster_nix("w-01").await;
    assert_eq!(nix["id"], json!(ledger["id"]));
    assert_eq!(nix["bootstrap"], control_plane[0]);
    assert_eq!(names(&nix["controlPlane"]), control_plane);
    let foundings = case.world.flake().foundings();
    assert_eq!(foundings.len(), 1, "{foundings:?}");
    assert_eq!(foundings[0].machine, control_plane[0]);
    assert_eq!(foundings[0].id, ledger["id"]);
    let deeds = case.deeds();
    let at = |wanted: &str| deeds.iter().rposition(|deed| deed == wanted).unwrap();
    // The new id is written after the last one was given back and before the first one is made.
    let id = deeds
        .iter()
        .enumerate()
        .position(|(index, deed)| {
            deed == "patch configmaps prod-nico" && index > at("delete nixosconfigurations cp-03")
        })
        .unwrap();
    for machine in ["cp-02", "cp-03", "w-01"] {
        assert!(
            at(&format!("delete nixosconfigurations {machine}")) < id,
            "{deeds:?}"
        );
        assert!(
            at(&format!("create nixosconfigurations {machine}")) > id,
            "{deeds:?}"
        );
    }
    assert!(case.machine_status("cp-02").await["hasConfiguration"] == true);
}
