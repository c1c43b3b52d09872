//! Machines that are missing, out of reach, held by others, or late.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use rig::judge::rollout::order;
use rig::world::{MachineSpec, condition};
use serde_json::{Value, json};

use crate::common::case::{Case, names, row};
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico};

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_machine_out_of_reach_is_waited_for() {
    let case = Case::start().await;
    case.world.machines_named(&["cp-01", "cp-02"]).await;
    let out_of_reach = MachineSpec::new("cp-03").undiscoverable();
    case.world.machine_with(out_of_reach).await;
    let spec = listed(&["cp-01", "cp-02", "cp-03"], &[]);
    case.world.cluster("prod", spec).await.unwrap();
    let message = case
        .told(
            "prod",
            "MachinesAvailable",
            "False",
            "MachineUndiscoverable",
        )
        .await;
    assert!(message.contains("cp-03"), "{message}");
    let status = case.world.status("prod").await;
    assert_eq!(row(&status, "cp-03")["state"], "Unavailable", "{status}");
    assert_eq!(case.configurations().await, Vec::<String>::new());
    case.world
        .nio()
        .set("cp-03", |knobs| knobs.unreachable = false);
    case.ready("prod").await;
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_machine_that_does_not_exist_is_waited_for() {
    let case = Case::start().await;
    case.world.machines_named(&["cp-01", "cp-03"]).await;
    let spec = listed(&["cp-01", "cp-02", "cp-03"], &[]);
    case.world.cluster("prod", spec).await.unwrap();
    let message = case
        .told("prod", "MachinesAvailable", "False", "MachineMissing")
        .await;
    assert!(message.contains("cp-02"), "{message}");
    assert_eq!(case.configurations().await, Vec::<String>::new());
    case.world.machine("cp-02").await;
    case.ready("prod").await;
    case.finish().await;
}

/// M1: deleted while free, and made again under its name (M2).
#[tokio::test(flavor = "multi_thread")]
async fn a_free_machine_is_deleted_while_the_cluster_waits() {
    let case = Case::start().await;
    case.world.machine("cp-01").await;
    case.world
        .cluster("prod", listed(&["cp-01", "cp-02"], &[]))
        .await
        .unwrap();
    let told = |machines: &'static [&str]| {
        let case = &case;
        async move {
            let what = format!("{machines:?} missing");
            let pleases = |status: &Value| {
                let found = condition(status, "MachinesAvailable");
                let message = found["message"].as_str().unwrap_or_default();
                found["reason"] == "MachineMissing"
                    && ["cp-01", "cp-02"]
                        .iter()
                        .all(|name| message.contains(name) == machines.contains(name))
            };
            case.world
                .wait_status("prod", &what, DEADLINE, pleases)
                .await
        }
    };
    told(&["cp-02"]).await;
    let machines = case.world.machines();
    machines
        .delete("cp-01", &DeleteParams::default())
        .await
        .unwrap();
    told(&["cp-01", "cp-02"]).await;
    assert_eq!(case.configurations().await, Vec::<String>::new());
    case.world.machines_named(&["cp-01", "cp-02"]).await;
    case.ready("prod").await;
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_held_by_a_foreign_configuration_is_named_and_left_alone() {
    let case = Case::start().await;
    case.world
        .machines_named(&["cp-01", "cp-02", "cp-03"])
        .await;
    // One bears the machine's name, the other only names the machine.
    case.foreign_configuration("cp-01", "cp-01").await;
    case.foreign_configuration("legacy", "cp-02").await;
    let spec = listed(&["cp-01", "cp-02", "cp-03"], &[]);
    case.world.cluster("prod", spec).await.unwrap();
    let message = case
        .told("prod", "MachinesAvailable", "False", "MachineInUse")
        .await;
    assert!(
        message.contains("Machine cp-01 is held by NixosConfiguration cp-01"),
        "{message}"
    );
    assert!(
        message.contains("Machine cp-02 is held by NixosConfiguration legacy"),
        "{message}"
    );
    assert!(!message.contains("cp-03"), "{message}");
    case.remove_configuration("cp-01").await;
    let only_legacy = |status: &Value| {
        let found = condition(status, "MachinesAvailable");
        let message = found["message"].as_str().unwrap_or_default();
        found["reason"] == "MachineInUse" && !message.contains("cp-01")
    };
    case.world
        .wait_status("prod", "cp-02 alone", DEADLINE, only_legacy)
        .await;
    assert_eq!(case.configurations().await, ["legacy"]);
    let legacy = case.configuration("legacy").await;
    assert_eq!(legacy.data["spec"]["flake"], "#other");
    case.remove_configuration("legacy").await;
    case.ready("prod").await;
    assert_eq!(case.configurations().await, ["cp-01", "cp-02", "cp-03"]);
    let deeds = case.deeds();
    assert!(
        !deeds.iter().any(|deed| deed.contains("legacy")),
        "{deeds:?}"
    );
    case.finish().await;
}

/// `hasConfiguration` is a hint that can be stale: a selector heeds it, a list does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_has_configuration_keeps_a_selector_away_and_no_list() {
    let case = Case::start().await;
    for name in ["m-01", "m-02"] {
        let machine = MachineSpec::new(name).label("pool", "x");
        case.world.machine_with(machine).await;
    }
    let stale = Patch::Merge(json!({"status": {"hasConfiguration": true}}));
    let machines = case.world.machines();
    machines
        .patch_status("m-01", &PatchParams::default(), &stale)
        .await
        .unwrap();
    let spec = json!({"gitRepo": "https://git.example.com/flakes.git",
        "controlPlane": {"count": 1, "machineSelector": {"matchLabels": {"pool": "x"}}}});
    case.world.cluster("selects", spec.clone()).await.unwrap();
    case.ready("selects").await;
    assert_eq!(case.configurations().await, ["m-02"]);
    // Nothing but the machine with the hint is left for a second one.
    case.world.cluster("starves", spec).await.unwrap();
    let message = case
        .told("starves", "MachinesAvailable", "False", "TooFewMachines")
        .await;
    assert!(
        message.contains("Machine m-01 says hasConfiguration"),
        "{message}"
    );
    case.world
        .cluster("lists", listed(&["m-01"], &[]))
        .await
        .unwrap();
    case.ready("lists").await;
    assert_eq!(case.configurations().await, ["m-01", "m-02"]);
    case.finish().await;
}

/// Before the founding a late worker is taken at once; after it, one roll tells the others of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_while_the_cluster_is_being_founded_is_taken() {
    let case = Case::start().await;
    case.world.machines_named(&["cp-01", "w-01"]).await;
    case.world
        .nio()
        .set("cp-01", |knobs| knobs.never_reacts = true);
    case.world
        .cluster("prod", listed(&["cp-01"], &["w-01", "w-02"]))
        .await
        .unwrap();
    let waiting = |status: &Value| row(status, "w-01")["state"] == "Confirmed";
    case.world
        .wait_status("prod", "w-01 confirmed", DEADLINE, waiting)
        .await;
    assert_eq!(case.configurations().await, ["cp-01", "w-01"]);
    case.world.machine("w-02").await;
    let taken = |status: &Value| row(status, "w-02")["state"] == "Confirmed";
    case.world
        .wait_status("prod", "w-02 confirmed", DEADLINE, taken)
        .await;
    let nix = case.cluster_nix("w-02").await;
    assert_eq!(nix["bootstrap"], "cp-01");
    assert_eq!(nix["join"]["name"], "cp-01");
    assert_eq!(names(&nix["workers"]), ["w-01", "w-02"]);
    case.world
        .nio()
        .set("cp-01", |knobs| knobs.never_reacts = false);
    know_workers(&case, &["cp-01", "w-01", "w-02"], &["w-01", "w-02"]).await;
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_come_after_the_founding_join_and_the_others_are_told() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    case.world.machines_named(&["cp-01", "w-01"]).await;
    case.world
        .cluster("prod", listed(&["cp-01"], &["w-01", "w-02"]))
        .await
        .unwrap();
    case.told("prod", "KubeconfigReady", "True", "AsExpected")
        .await;
    let status = case.world.status("prod").await;
    let ready = condition(&status, "Ready");
    assert_eq!(ready["status"], "False", "{status}");
    assert_eq!(ready["reason"], "MachineMissing", "{status}");
    case.world.machine("w-02").await;
    know_workers(&case, &["cp-01", "w-01", "w-02"], &["w-01", "w-02"]).await;
    let nix = case.cluster_nix("w-02").await;
    assert_eq!(nix["bootstrap"], Value::Null);
    assert_eq!(nix["join"]["name"], "cp-01");
    case.world.machine("cp-02").await;
    case.edit(
        "prod",
        json!({"controlPlane": {"machines": ["cp-01", "cp-02"]}}),
    )
    .await;
    case.rolled_out("prod").await;
    for machine in ["cp-01", "cp-02", "w-01", "w-02"] {
        let nix = case.cluster_nix(machine).await;
        assert_eq!(nix["bootstrap"], Value::Null);
        assert_eq!(names(&nix["controlPlane"]), ["cp-01", "cp-02"], "{machine}");
    }
    assert_eq!(case.cluster_nix("cp-02").await["join"]["name"], "cp-01");
    // Each was created, and written again once for each list that changed afterwards.
    let written = order(&case.evidence(), Duration::ZERO);
    for (machine, times) in [("cp-01", 3), ("w-01", 3), ("w-02", 2), ("cp-02", 1)] {
        let found = written.iter().filter(|it| *it == machine).count();
        assert_eq!(found, times, "{machine}: {written:?}");
    }
    case.finish().await;
}

/// Waits until the cluster is Ready and nothing is in flight; then each of these machines knows these workers.
async fn know_workers(case: &Case, machines: &[&str], workers: &[&str]) {
    let status = case.rolled_out("prod").await;
    for machine in machines {
        assert_eq!(row(&status, machine)["state"], "Confirmed", "{status}");
        assert_eq!(names(&case.cluster_nix(machine).await["workers"]), workers);
    }
}
