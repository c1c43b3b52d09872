//! What a person changes in a child by hand: what is ours is repaired through the slot and not beside it, and what is not ours
//! stays byte for byte (I11).

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::api::DynamicObject;
use rig::crds::Generation;
use rig::judge::rollout::Rules;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::{DEADLINE, over_both};
use crate::rolling::{IN_TURN, NEW, ready, repository};

over_both![on demand: a_drift_is_repaired_through_the_slot_and_foreign_marks_stay];

/// The fields of a configuration's spec that are NICO's.
const OURS: [&str; 9] = [
    "gitRepo",
    "flake",
    "onRemoveFlake",
    "configurationSubdir",
    "credentialsRef",
    "ref",
    "machineRef",
    "fullInstall",
    "additionalFiles",
];

/// All of a configuration that is neither NICO's nor NIO's status.
fn foreign(held: &DynamicObject) -> Value {
    let mut spec = held.data["spec"].clone();
    for field in OURS {
        spec.as_object_mut().unwrap().remove(field);
    }
    let others = |all: &BTreeMap<String, String>| {
        let mut all = all.clone();
        all.retain(|name, _| name.starts_with("example.com/"));
        all
    };
    json!({"spec": spec, "finalizers": held.finalizers(), "owners": held.owner_references(),
        "annotations": others(held.annotations()), "labels": others(held.labels())})
}

/// Somebody's tools leave their marks on a configuration.
async fn mark(case: &Case, machine: &str) -> Value {
    let mut finalizers = case.configuration(machine).await.finalizers().to_vec();
    finalizers.insert(0, "example.com/hold".to_owned());
    let text = "  \u{e9} \"quoted\"\n\ttwo lines ";
    let patch = json!({
        "metadata": {"annotations": {"example.com/note": text}, "labels": {"example.com/team": "blue"},
            "finalizers": finalizers},
        "spec": {"example": {"nested": [1, 2.5, {"deep": null, "text": text}]}},
    });
    case.patch_configuration(machine, patch).await;
    let marked = foreign(&case.configuration(machine).await);
    assert_eq!(marked["annotations"]["example.com/note"], text);
    // The API server drops fields that v1's definition does not name.
    let kept = (case.world.nio().generation() == Generation::Classic).then_some(2.5);
    let nested = &marked["spec"]["example"]["nested"][1];
    assert_eq!(nested.as_f64(), kept, "{marked}");
    marked
}

async fn a_drift_is_repaired_through_the_slot_and_foreign_marks_stay(generation: Generation) {
    let case = ready(generation).await;
    let marked = mark(&case, "cp-02").await;
    // A worker is in flight when somebody edits a control plane machine's child: that waits for its turn.
    case.deaf("w-01", true);
    let before = case.world.nio().now();
    let drift = json!({"spec": {"flake": "#other"}});
    case.patch_configuration("w-01", drift.clone()).await;
    case.flying(&["w-01"]).await;
    case.patch_configuration("cp-02", drift).await;
    let waits = "Machine cp-02 waits until w-01 is done";
    case.says("RollingOut", "InFlight", waits).await;
    case.nothing_but(before, &["w-01"]).await;
    assert_eq!(
        case.configuration("cp-02").await.data["spec"]["flake"],
        "#other"
    );
    case.deaf("w-01", false);
    case.ends_with(before, &["w-01", "cp-02"]).await;
    for machine in ["w-01", "cp-02"] {
        let held = case.configuration(machine).await;
        assert_eq!(held.data["spec"]["flake"], format!("#{machine}"));
    }
    assert_eq!(foreign(&case.configuration("cp-02").await), marked);

    // A file of ours, edited in place, and one that was added before the marker.
    let second = case.world.nio().now();
    let mut files = case.configuration("cp-02").await.data["spec"]["additionalFiles"].clone();
    let text = files[0]["inline"].as_str().unwrap();
    files[0]["inline"] = json!(text.replace("cp-03", "cp-99"));
    let list = files.as_array_mut().unwrap();
    list.insert(
        1,
        json!({"path": "extra.nix", "valueType": "Inline", "inline": "{ }"}),
    );
    let drift = json!({"spec": {"additionalFiles": files}});
    // NICO sees it once NIO has applied it: between the two, NIO's proof is of another attempt, and an hour would pass.
    let applies = || case.world.nio().applies("cp-02").len();
    let old = applies();
    case.proxy.hold("nixosconfigurations", true);
    case.patch_configuration("cp-02", drift).await;
    let applied = || async { (applies() > old).then_some(()) };
    rig::wait::wait_for("NIO applies the edit", DEADLINE, applied).await;
    case.proxy.hold("nixosconfigurations", false);
    case.ends_with(second, &["cp-02"]).await;
    let nix = case.cluster_nix("cp-02").await;
    assert_eq!(nix["controlPlane"][2]["name"], "cp-03", "{nix}");
    let held = case.configuration("cp-02").await;
    assert!(
        !held.data["spec"]["additionalFiles"]
            .to_string()
            .contains("extra.nix")
    );
    assert_eq!(foreign(&held), marked);

    // A whole roll goes by, and the marks stay.
    let third = case.roll(repository(NEW)).await;
    case.ends_with(third, &IN_TURN).await;
    assert_eq!(foreign(&case.configuration("cp-02").await), marked);
    let rules = Rules::of(vec![before, second, third]);
    case.finish_rolled(&rules).await;
}
