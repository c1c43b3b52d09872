//! Machines chosen by selectors.

use rig::world::{MachineSpec, condition};
use serde_json::json;

use crate::common::case::{Case, names};
use crate::common::listed;

const REPOSITORY: &str = "https://git.example.com/flakes.git";

#[tokio::test(flavor = "multi_thread")]
async fn labels_choose_machines_in_name_order_up_to_the_count() {
    let case = Case::start().await;
    for name in ["m-05", "m-01", "m-04", "m-02", "m-03"] {
        let machine = MachineSpec::new(name).label("site", "a");
        case.world.machine_with(machine).await;
    }
    case.world.machine("a-00").await;
    let site = json!({"matchLabels": {"site": "a"}});
    let spec = json!({"gitRepo": REPOSITORY, "controlPlane": {"machineSelector": site, "count": 3},
        "dataPlane": {"machineSelector": site, "count": 1}});
    case.world.cluster("prod", spec).await.unwrap();
    case.ready("prod").await;
    let nix = case.cluster_nix("m-04").await;
    assert_eq!(names(&nix["controlPlane"]), ["m-01", "m-02", "m-03"]);
    assert_eq!(names(&nix["workers"]), ["m-04"]);
    assert_eq!(
        case.configurations().await,
        ["m-01", "m-02", "m-03", "m-04"]
    );
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_four_operators_choose_machines() {
    let case = Case::start().await;
    let machines = [
        ("m-01", vec![("role", "cp"), ("zone", "c")]),
        ("m-02", vec![("role", "cp"), ("zone", "a")]),
        ("m-03", vec![("role", "cp")]),
        ("m-04", vec![("role", "old")]),
        ("m-05", vec![("gpu", "yes"), ("broken", "")]),
        ("m-06", vec![("gpu", "no")]),
        ("m-07", vec![]),
    ];
    for (name, labels) in machines {
        let mut machine = MachineSpec::new(name);
        for (key, value) in labels {
            machine = machine.label(key, value);
        }
        case.world.machine_with(machine).await;
    }
    let spec = json!({"gitRepo": REPOSITORY,
        "controlPlane": {"count": 2, "machineSelector": {"matchExpressions": [
            {"key": "role", "operator": "In", "values": ["cp", "master"]},
            {"key": "zone", "operator": "NotIn", "values": ["b", "c"]}]}},
        "dataPlane": {"count": 1, "machineSelector": {"matchExpressions": [
            {"key": "gpu", "operator": "Exists"},
            {"key": "broken", "operator": "DoesNotExist"}]}}});
    case.world.cluster("prod", spec).await.unwrap();
    case.ready("prod").await;
    let nix = case.cluster_nix("m-06").await;
    assert_eq!(names(&nix["controlPlane"]), ["m-02", "m-03"]);
    assert_eq!(names(&nix["workers"]), ["m-06"]);
    case.finish().await;
}

/// Half a control plane is no quorum.
#[tokio::test(flavor = "multi_thread")]
async fn too_few_machines_claim_nothing_until_one_comes() {
    let case = Case::start().await;
    let labelled = |name| MachineSpec::new(name).label("role", "cp");
    case.world.machine_with(labelled("m-01")).await;
    case.world.machine_with(labelled("m-02")).await;
    case.world.machine("w-01").await;
    let spec = json!({"gitRepo": REPOSITORY, "dataPlane": {"machines": ["w-01"]},
        "controlPlane": {"count": 3, "machineSelector": {"matchLabels": {"role": "cp"}}}});
    case.world.cluster("prod", spec).await.unwrap();
    let message = case
        .told("prod", "MachinesAvailable", "False", "TooFewMachines")
        .await;
    assert!(
        message.contains("1 of 3 control-plane machines"),
        "{message}"
    );
    let status = case.world.status("prod").await;
    assert_eq!(status["phase"], "Provisioning", "{status}");
    assert_eq!(status["controlPlane"]["summary"], "0/3", "{status}");
    assert_eq!(condition(&status, "Stalled")["status"], "False");
    assert_eq!(case.configurations().await, Vec::<String>::new());
    assert_eq!(case.secret("prod-join-token").await, None);
    case.world.machine_with(labelled("m-03")).await;
    case.ready("prod").await;
    case.finish().await;
}

/// Members stay, whatever becomes of their labels; and a machine that is to be released is not taken.
#[tokio::test(flavor = "multi_thread")]
async fn members_stay_and_released_machines_are_not_taken() {
    let case = Case::start().await;
    let labelled = |name| MachineSpec::new(name).label("pool", "x");
    for name in ["m-01", "m-02", "m-03"] {
        case.world.machine_with(labelled(name)).await;
    }
    let patch = json!({"metadata": {"annotations": {"nico.homystack.com/release": "true"}}});
    patch_machine(&case, "m-01", patch).await;
    let spec = json!({"gitRepo": REPOSITORY,
        "controlPlane": {"count": 1, "machineSelector": {"matchLabels": {"pool": "x"}}}});
    case.world.cluster("prod", spec).await.unwrap();
    case.ready("prod").await;
    assert_eq!(case.configurations().await, ["m-02"]);
    patch_machine(
        &case,
        "m-02",
        json!({"metadata": {"labels": {"pool": null}}}),
    )
    .await;
    // Another cluster takes its turn after that, so the first one has seen it, too.
    case.world
        .cluster("next", listed(&["m-03"], &[]))
        .await
        .unwrap();
    case.ready("next").await;
    case.ready("prod").await;
    assert_eq!(case.configurations().await, ["m-02", "m-03"]);
    case.finish().await;
}

async fn patch_machine(case: &Case, name: &str, patch: serde_json::Value) {
    use kube::api::{Patch, PatchParams};
    let machines = case.world.machines();
    machines
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}
