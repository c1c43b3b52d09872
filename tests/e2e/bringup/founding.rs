//! Who founds the cluster, and what happens where it does not.

use rig::crds::Generation;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::shown::{names, row};
use crate::common::{DEADLINE, listed, nico, over_both};

over_both![
    on demand:
    a_founder_that_never_comes_up_is_replaced_in_the_list,
];

async fn a_founder_that_never_comes_up_is_replaced_in_the_list(generation: Generation) {
    let case = Case::of(generation, &nico()).await;
    let old = never_founded(&case).await;
    case.edit(
        "prod",
        json!({"controlPlane": {"machines": ["cp-02", "cp-03", "cp-04"]}}),
    )
    .await;
    anew(&case, &old, &["cp-02", "cp-03", "cp-04"]).await;
    case.finish().await;
}

/// A cluster whose founder NIO fails to apply, while all others are confirmed. Returns its id.
async fn never_founded(case: &Case) -> String {
    case.world
        .machines_named(&["cp-01", "cp-02", "cp-03", "cp-04", "w-01"])
        .await;
    case.world.nio().set("cp-01", |knobs| knobs.fails = true);
    let spec = listed(&["cp-01", "cp-02", "cp-03"], &["w-01"]);
    case.cluster("prod", spec).await;
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
