//! The deletion of clusters on a real API server, with the shipped rights: at every step of their lives, and what stays.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, five, listed, nico, over_both, three_and_two};
use kube::ResourceExt;
use rig::crds::Generation;
use rig::nio::finalizer;
use rig::proxy::{Call, Effect, Fault, Gate, Moment};
use rig::wait::{wait_describing, wait_for};
use rig::world::condition;
use serde_json::{Value, json};

over_both![
    a_ready_cluster_is_taken_down_in_order_and_its_machines_are_free,
    a_cluster_is_deleted_at_every_step_of_its_bring_up;
    on demand:
    a_finalizer_of_somebody_elses_stays,
    a_deletion_that_races_with_the_finalizer_leaves_nothing,
    a_cluster_that_goes_while_its_first_children_are_made_leaves_none,
    tokens_stay_while_a_configuration_is_left_though_their_making_was_not_answered,
];

/// Configurations first, and nothing that NIO needs for them before the last one is gone.
async fn a_ready_cluster_is_taken_down_in_order_and_its_machines_are_free(generation: Generation) {
    let case = Case::of(generation, &nico().args(&RESYNC)).await;
    five(&case.world).await;
    case.cluster("prod", three_and_two()).await;
    case.ready("prod").await;
    // A machine's host key may be noted after Ready.
    case.settled("prod").await;
    let brought_up = case.deeds().len();
    let nio = case.world.nio();
    nio.set("w-02", |knobs| knobs.never_reacts = true);
    nio.set("cp-02", |knobs| {
        knobs.delay = Some(Duration::from_millis(1500));
    });
    case.delete("prod").await;
    // One configuration stays, and with it all that NIO will want.
    let only_one = |status: &Value| {
        let found = condition(status, "Reconciling");
        found["reason"] == "Deleting"
            && found["message"]
                .as_str()
                .is_some_and(|text| text.ends_with(": w-02"))
    };
    let status = case
        .world
        .wait_status("prod", "w-02 alone is waited for", DEADLINE, only_one)
        .await;
    assert_eq!(status["phase"], "Deleting");
    assert_eq!(case.configurations().await, ["w-02"]);
    for secret in ["prod-join-token", "prod-worker-token", "prod-kubeconfig"] {
        let secret = case.secret(secret).await.unwrap();
        assert_eq!(secret.metadata.deletion_timestamp, None);
    }
    assert!(case.map("prod-nico").await.contains_key("id"));
    nio.set("w-02", |knobs| knobs.never_reacts = false);
    case.wait_gone("prod").await;
    // The object may be gone before the proxy has noted the answer.
    let order = || async {
        let order = case.deeds().split_off(brought_up);
        (order.last()? == "patch kubernetesclusters prod").then_some(order)
    };
    let order = wait_for("the finalizer is taken off", DEADLINE, order).await;
    let mut first: Vec<&str> = order[..5].iter().map(String::as_str).collect();
    first.sort_unstable();
    assert_eq!(
        first,
        ["cp-01", "cp-02", "cp-03", "w-01", "w-02"]
            .map(|name| format!("delete nixosconfigurations {name}"))
    );
    assert_eq!(
        order[5..],
        [
            "patch secrets prod-join-token",
            "delete secrets prod-join-token",
            "patch secrets prod-worker-token",
            "delete secrets prod-worker-token",
            "delete secrets prod-kubeconfig",
            "delete configmaps prod-known-hosts",
            "patch configmaps prod-nico",
            "delete configmaps prod-nico",
            "patch kubernetesclusters prod",
        ]
    );
    case.nothing_is_left().await;
    case.removed_with_all_files(&["cp-01", "cp-02", "cp-03", "w-01", "w-02"], Duration::ZERO);
    for machine in ["cp-01", "cp-02", "cp-03", "w-01", "w-02"] {
        // What is false is absent with v1.
        let status = case.machine_status(machine).await;
        assert_ne!(status["hasConfiguration"], true, "{status}");
    }
    // Every machine is another's at once, in another role, too.
    let spec = listed(&["w-02"], &["cp-01", "cp-02", "cp-03", "w-01"]);
    case.cluster("next", spec).await;
    case.ready("next").await;
    case.finish().await;
}

/// At once after it was applied, and after each of the first writes.
async fn a_cluster_is_deleted_at_every_step_of_its_bring_up(generation: Generation) {
    let case = Case::of(generation, &nico()).await;
    case.world.machines_named(&["cp-01", "w-01"]).await;
    let steps = [
        "",
        "patch kubernetesclusters/status",
        "patch kubernetesclusters",
        "create configmaps",
        "create secrets",
        "create nixosconfigurations",
        "patch nixosconfigurations",
        "patch configmaps",
    ];
    for (number, step) in steps.iter().enumerate() {
        let name = format!("c-{number}");
        let before = case.proxy.writes().len();
        case.cluster(&name, listed(&["cp-01"], &["w-01"])).await;
        let reached = || async {
            let writes = case.proxy.writes();
            let mut lines = writes[before..]
                .iter()
                .filter(|call| {
                    call.resource == "nixosconfigurations" || call.object_name().starts_with(&name)
                })
                .map(|call| format!("{} {}", call.verb, call.rule_resource()));
            (step.is_empty() || lines.any(|line| line == *step)).then_some(())
        };
        wait_for(&format!("{name}: {step}"), DEADLINE, reached).await;
        case.delete(&name).await;
        case.wait_gone(&name).await;
        // It may go before its finalizer holds it.
        soon_nothing_is_left(&case).await;
    }
    case.finish().await;
}

async fn a_finalizer_of_somebody_elses_stays(generation: Generation) {
    let case = Case::of(generation, &nico().args(&RESYNC)).await;
    case.world.machine("cp-01").await;
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    case.ready("prod").await;
    let ours = "nico.homystack.com/cluster";
    case.merge(
        "prod",
        json!({"metadata": {"finalizers": ["example.com/first", ours, "example.com/hold"]}}),
    )
    .await;
    case.delete("prod").await;
    let alone = || async {
        let cluster = case.world.clusters().get("prod").await.ok()?;
        (cluster.finalizers() == ["example.com/first", "example.com/hold"]).then_some(())
    };
    wait_for("NICO's finalizer is gone", DEADLINE, alone).await;
    case.nothing_is_left().await;
    // Its machine is another's though the object is still there.
    case.cluster("next", listed(&["cp-01"], &[])).await;
    case.ready("next").await;
    case.two_more_passes().await;
    let deeds = case.deeds();
    let last = deeds.iter().rposition(|deed| deed.ends_with(" prod"));
    let taken = deeds
        .iter()
        .position(|deed| deed == "create configmaps next-nico");
    assert!(last < taken, "{deeds:?}");
    assert_eq!(case.world.status("prod").await["phase"], "Deleting");
    case.merge("prod", json!({"metadata": {"finalizers": null}}))
        .await;
    case.wait_gone("prod").await;
    case.finish().await;
}

/// The API server looks for finalizers when a deletion comes, and not again when it takes the object away: a finalizer written
/// in between holds nothing. So nothing is made before a read has shown that it holds.
async fn a_deletion_that_races_with_the_finalizer_leaves_nothing(generation: Generation) {
    let case = Case::of(generation, &nico()).await;
    case.world.machine("cp-01").await;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&calls);
    let look = move |call: &Call| {
        let line = format!("{} {}", call.verb, call.rule_resource());
        log.lock().unwrap().push(line);
        false
    };
    case.proxy
        .fault(Fault::on(look, Moment::After, Effect::Reset));
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    case.ready("prod").await;
    let order = calls.lock().unwrap().clone();
    let at = |wanted: &str| order.iter().position(|line| line == wanted).unwrap();
    let between = &order[at("patch kubernetesclusters")..at("create configmaps")];
    assert!(
        between.contains(&"get kubernetesclusters".to_owned()),
        "{between:?}"
    );
    case.delete("prod").await;
    case.wait_gone("prod").await;
    for number in 0..12 {
        let name = format!("c-{number}");
        let before = case.proxy.writes().len();
        case.cluster(&name, listed(&["cp-01"], &[])).await;
        let on_its_way = || {
            let writes = case.proxy.writes().split_off(before);
            writes
                .iter()
                .any(|call| call.rule_resource() == "kubernetesclusters")
        };
        let begun = Instant::now();
        while !on_its_way() && begun.elapsed() < DEADLINE {
            tokio::task::yield_now().await;
        }
        case.delete(&name).await;
        case.wait_gone(&name).await;
        soon_nothing_is_left(&case).await;
    }
    case.finish().await;
}

/// What was made while the cluster went is removed at once, and no configuration is made.
async fn soon_nothing_is_left(case: &Case) {
    let left = || async { case.children().await.is_empty().then_some(()) };
    let told = || async { case.proxy.write_lines() };
    wait_describing("no child is left", DEADLINE, left, told).await;
    case.nothing_is_left().await;
}

/// No later pass would let go of them. The garbage collector may change one at the same moment.
async fn a_cluster_that_goes_while_its_first_children_are_made_leaves_none(generation: Generation) {
    let case = Case::of(generation, &nico()).await;
    case.world.machine("cp-01").await;
    let made = hold_the_last_token(&case);
    let patched = Fault::on_verb("patch", "configmaps", Moment::Before, Effect::Status(409));
    case.proxy.fault(patched.times(1));
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    made.reached().await;
    case.delete("prod").await;
    case.merge("prod", json!({"metadata": {"finalizers": null}}))
        .await;
    case.wait_gone("prod").await;
    made.open();
    soon_nothing_is_left(&case).await;
    case.finish().await;
}

/// As where another operator claims machines as soon as it sees the tokens.
async fn tokens_stay_while_a_configuration_is_left_though_their_making_was_not_answered(
    generation: Generation,
) {
    let case = Case::of(generation, &nico()).await;
    case.world.machine("cp-01").await;
    case.world
        .nio()
        .set("cp-01", |knobs| knobs.never_reacts = true);
    let made = hold_the_last_token(&case);
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    made.reached().await;
    let owner = json!({"apiVersion": "nico.homystack.com/v1alpha1", "kind": "KubernetesCluster", "name": "prod",
        "uid": case.uid("prod").await, "controller": true, "blockOwnerDeletion": true});
    let claimed = json!({
        "apiVersion": "nio.homystack.com/v1alpha1", "kind": "NixosConfiguration",
        "metadata": {"name": "cp-01", "labels": {"nico.homystack.com/cluster": "prod"}, "ownerReferences": [owner],
            "finalizers": [finalizer(generation)]},
        "spec": {"gitRepo": "https://example.org/flakes.git", "flake": "#cp-01", "machineRef": {"name": "cp-01"}}
    });
    case.world.apply(&claimed.to_string()).await.unwrap();
    case.delete("prod").await;
    made.open();
    let waits = |status: &Value| condition(status, "Reconciling")["reason"] == "Deleting";
    let what = "the deletion waits for cp-01";
    case.world.wait_status("prod", what, DEADLINE, waits).await;
    for token in ["prod-join-token", "prod-worker-token"] {
        let token = case.secret(token).await.unwrap();
        assert_eq!(token.metadata.deletion_timestamp, None);
    }
    let nio = case.world.nio();
    nio.set("cp-01", |knobs| knobs.never_reacts = false);
    case.wait_gone("prod").await;
    soon_nothing_is_left(&case).await;
    case.finish().await;
}

/// Holds the answer to the creation of a cluster's last token, which then never comes.
fn hold_the_last_token(case: &Case) -> Gate {
    let made = Gate::default();
    let last = |call: &Call| {
        let name = call.body.as_ref().map(|body| &body["metadata"]["name"]);
        call.verb == "create" && name.is_some_and(|name| name == "prod-worker-token")
    };
    let hold = Fault::on(last, Moment::After, Effect::Gate(made.clone()));
    case.proxy.fault(hold.times(1));
    made
}
