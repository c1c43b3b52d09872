//! What people do to a cluster and its objects in the middle of a roll.

use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use rig::crds::Generation;
use rig::judge::rollout::{Rules, order};
use rig::wait::{wait_describing, wait_for};
use rig::world::condition;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::shown::in_flight;
use crate::common::{DEADLINE, over_both};
use crate::rollout_faults::{
    ORDER, does_nothing, found, rolled_once, setup, stands_at, three_and_one, told,
};

over_both![
    a_ledger_deleted_in_mid_roll_is_made_anew_and_fences;
    on demand: a_child_deleted_by_hand_comes_back_through_the_slot, stripped_objects_and_old_statuses_change_no_roll
];

async fn patch(api: &Api<DynamicObject>, name: &str, patch: Value) {
    let params = PatchParams::default();
    api.patch(name, &params, &Patch::Merge(patch))
        .await
        .unwrap();
}

/// A configuration that is deleted by hand comes back, after the Node of its machine went, and rolls nobody else.
async fn a_child_deleted_by_hand_comes_back_through_the_slot(generation: Generation) {
    let case = Case::alone_of(generation, &setup(), |_| ()).await;
    found(&case).await;
    for machine in ["w-01", "cp-02"] {
        let (began, nodes) = (case.world.nio().now(), case.world.nodes());
        let node = nodes.get(&case.world.node_name(machine)).await.unwrap();
        let old = case.configuration(machine).await;
        let delete = DeleteParams::default();
        let configurations = case.world.configurations();
        configurations.delete(machine, &delete).await.unwrap();
        let anew = || async {
            let found = configurations.get_opt(machine).await.ok()??;
            (found.uid() != old.uid()).then_some(())
        };
        wait_describing("it is made again", DEADLINE, anew, || told(&case)).await;
        case.rolled_out("prod").await;
        assert_eq!(order(&case.evidence(), began), [machine]);
        let made = nodes.get(&case.world.node_name(machine)).await.unwrap();
        assert_ne!(made.uid(), node.uid(), "{machine} joined as a newcomer");
        // Nobody was sent there while its old Node stood.
        assert!(case.world.flake().refused().is_empty());
    }
    case.finish_rolled(&Rules::default()).await;
}

/// Owner, labels and finalizers are put back while the roll stands still, a wiped or an old status misleads nobody.
async fn stripped_objects_and_old_statuses_change_no_roll(generation: Generation) {
    let case = three_and_one(generation).await;
    let configurations = case.world.configurations();
    let mut rules = Rules::default();
    let old = case.world.status("prod").await;
    stands_at(&case, &mut rules, "cp-01", "b").await;
    let status = async |status: Value| {
        let patch = Patch::Merge(json!({ "status": status }));
        let clusters = case.world.clusters();
        clusters
            .patch_status("prod", &PatchParams::default(), &patch)
            .await
            .unwrap();
        let told = |status: &Value| {
            condition(status, "Ready")["status"] == "False" && in_flight(status) == ["cp-01"]
        };
        case.world
            .wait_status("prod", "the truth again", DEADLINE, told)
            .await;
    };
    status(Value::Null).await;
    status(old).await;
    patch(
        &configurations,
        "cp-02",
        json!({"metadata": {"ownerReferences": null}}),
    )
    .await;
    patch(
        &configurations,
        "cp-01",
        json!({"metadata": {"ownerReferences": null}}),
    )
    .await;
    patch(
        &configurations,
        "w-01",
        json!({"metadata": {"labels": null}}),
    )
    .await;
    patch(
        &configurations,
        "cp-03",
        json!({"metadata": {"labels": null}}),
    )
    .await;
    let clusters = case.world.clusters();
    patch(&clusters, "prod", json!({"metadata": {"finalizers": null}})).await;
    let back = || async {
        let cluster = clusters.get("prod").await.ok()?;
        let mut all = !cluster.finalizers().is_empty();
        for machine in ORDER {
            let held = configurations.get(machine).await.ok()?;
            all &= held.labels().contains_key("app.kubernetes.io/managed-by");
            all &=
                held.owner_references().first().map(|it| &it.uid) == cluster.metadata.uid.as_ref();
        }
        all.then_some(())
    };
    wait_describing("all is put back", DEADLINE, back, || told(&case)).await;
    assert_eq!(order(&case.evidence(), rules.rolls[0]), ORDER[..2]);
    does_nothing(&case, "cp-01", false);
    rolled_once(&case, &rules, "b").await;
    case.finish_rolled(&rules).await;
}

/// The ledger is deleted while a control plane machine is in flight. A new one waits for what may still land, and nobody
/// else is touched, then or before.
async fn a_ledger_deleted_in_mid_roll_is_made_anew_and_fences(generation: Generation) {
    let case = three_and_one(generation).await;
    let mut rules = Rules::default();
    stands_at(&case, &mut rules, "cp-01", "b").await;
    let old = case.maps().get("prod-nico").await.unwrap();
    let delete = DeleteParams::default();
    case.maps().delete("prod-nico", &delete).await.unwrap();
    case.told("prod", "RollingOut", "True", "InFlight").await;
    let slot = async || {
        let map = case.maps().get_opt("prod-nico").await.ok()??;
        let slot: Value = serde_json::from_str(map.data.as_ref()?.get("slot")?).ok()?;
        (map.uid() != old.uid()).then_some(slot)
    };
    let made = wait_for("a new ledger", DEADLINE, &slot).await;
    assert_eq!(made["fencing"], true, "{made}");
    assert_eq!(case.map("prod-nico").await["founded"], "true");
    let opened = async || (slot().await?["fencing"] != true).then_some(());
    wait_describing("the slot opens", DEADLINE, opened, || told(&case)).await;
    case.two_more_passes().await;
    assert_eq!(order(&case.evidence(), rules.rolls[0]), ORDER[..2]);
    assert_eq!(case.in_flight("prod").await, ["cp-01"]);
    does_nothing(&case, "cp-01", false);
    rolled_once(&case, &rules, "b").await;
    case.finish_rolled(&rules).await;
}
