//! Machines that are missing, and machines that a selector chooses.

use kube::api::DeleteParams;
use rig::crds::Generation;
use rig::world::{MachineSpec, condition};
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::shown::names;
use crate::common::{DEADLINE, listed, nico, over_both};

over_both![
    on demand:
    a_free_machine_is_deleted_while_the_cluster_waits,
    labels_choose_machines_in_name_order_up_to_the_count,
];

/// Deleted while free, and made again under its name.
async fn a_free_machine_is_deleted_while_the_cluster_waits(generation: Generation) {
    let case = Case::of(generation, &nico()).await;
    case.world.machine("cp-01").await;
    case.cluster("prod", listed(&["cp-01", "cp-02"], &[])).await;
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

async fn labels_choose_machines_in_name_order_up_to_the_count(generation: Generation) {
    let case = Case::of(generation, &nico()).await;
    for name in ["m-05", "m-01", "m-04", "m-02", "m-03"] {
        let machine = MachineSpec::new(name).label("site", "a");
        case.world.machine_with(machine).await;
    }
    case.world.machine("a-00").await;
    let site = json!({"matchLabels": {"site": "a"}});
    let spec = json!({"gitRepo": "https://git.example.com/flakes.git", "controlPlane": {"machineSelector": site, "count": 3},
        "dataPlane": {"machineSelector": site, "count": 1}});
    case.cluster("prod", spec).await;
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
