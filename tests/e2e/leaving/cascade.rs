//! Other ways in which a cluster goes: in the foreground, leaving its children behind, with its namespace, and under a name that is
//! applied again and again.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PropagationPolicy};
use rig::crds::Generation;
use rig::environment::Environment;
use rig::nio::{KOPF_FINALIZER, finalizer};
use rig::wait::{wait_describing, wait_for};
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico, over_both};
use crate::leaving::passing;

over_both![
    on demand:
    a_foreground_deletion_leaves_nio_all_that_it_needs,
    an_orphaning_deletion_touches_nothing_but_finalizers,
    one_name_is_applied_and_deleted_again_and_again,
];

const MACHINES: [&str; 3] = ["cp-01", "cp-02", "w-01"];
const IN_USE: &str = "nico.homystack.com/in-use";
const TOKENS: [&str; 2] = ["prod-join-token", "prod-worker-token"];

fn spec() -> Value {
    listed(&MACHINES[..2], &MACHINES[2..])
}

async fn ready(case: &Case) {
    case.world.machines_named(&MACHINES).await;
    case.cluster("prod", spec()).await;
    case.ready("prod").await;
}

async fn delete(case: &Case, policy: PropagationPolicy) {
    let params = DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    };
    case.world.clusters().delete("prod", &params).await.unwrap();
}

/// Of children that it does not know yet when a cluster is deleted, it marks none. Once it has deleted a Secret and a ConfigMap whose owner
/// does not exist, it knows all that were made before.
async fn the_garbage_collector_knows_all(case: &Case) {
    let owner = json!({"apiVersion": "nico.homystack.com/v1alpha1", "kind": "KubernetesCluster", "name": "never", "uid": "never"});
    for kind in ["Secret", "ConfigMap"] {
        let left = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "left", "ownerReferences": [owner]}});
        case.world.apply(&left.to_string()).await.unwrap();
    }
    let gone = || async {
        let map = case.maps().get_opt("left").await.ok()?;
        (map.is_none() && case.secret("left").await.is_none()).then_some(())
    };
    let seen = || case.world.describe();
    wait_describing("what has no owner is gone", DEADLINE, gone, seen).await;
}

/// As Argo CD deletes: the garbage collector takes the children, and what NIO needs stays until the last configuration is gone.
async fn a_foreground_deletion_leaves_nio_all_that_it_needs(generation: Generation) {
    let case = Case::of(generation, &nico()).await;
    ready(&case).await;
    the_garbage_collector_knows_all(&case).await;
    let nio = case.world.nio();
    nio.set("cp-02", |knobs| knobs.never_reacts = true);
    let since = nio.now();
    delete(&case, PropagationPolicy::Foreground).await;
    let alone = || async { (case.configurations().await == ["cp-02"]).then_some(()) };
    let seen = || case.world.describe();
    wait_describing("cp-02 alone is left", DEADLINE, alone, seen).await;
    // The garbage collector has been there, too: what it may take is going, and held.
    let held = || async {
        for token in TOKENS {
            let token = case.secret(token).await?;
            token.metadata.deletion_timestamp.as_ref()?;
            assert_eq!(token.finalizers(), [IN_USE]);
        }
        let ledger = case.maps().get_opt("prod-nico").await.ok()??;
        ledger.metadata.deletion_timestamp.is_some().then_some(())
    };
    wait_describing("Secrets and ledger are held", DEADLINE, held, seen).await;
    nio.set("cp-02", |knobs| knobs.never_reacts = false);
    case.wait_gone("prod").await;
    case.nothing_is_left().await;
    case.removed_with_all_files(&MACHINES, since);
    case.cluster("next", spec()).await;
    case.ready("next").await;
    case.finish().await;
}

/// A configuration, but for what the garbage collector and NICO may take off it.
fn body(object: &DynamicObject) -> Value {
    let metadata = &object.metadata;
    json!({"labels": metadata.labels, "annotations": metadata.annotations, "finalizers": metadata.finalizers,
        "uid": metadata.uid, "deletion": metadata.deletion_timestamp, "data": object.data})
}

/// `--cascade=orphan`: machines, Secrets and all keep what they have.
async fn an_orphaning_deletion_touches_nothing_but_finalizers(generation: Generation) {
    let case = Case::of(generation, &nico().args(&RESYNC)).await;
    ready(&case).await;
    case.settled("prod").await;
    let configurations = async || {
        let mut all = Vec::new();
        for machine in MACHINES {
            all.push(case.configuration(machine).await);
        }
        all
    };
    let data = async || {
        let mut all = Vec::new();
        for secret in ["prod-join-token", "prod-worker-token", "prod-kubeconfig"] {
            all.push(case.secret(secret).await.unwrap().data);
        }
        all
    };
    let maps = async || {
        [
            case.map("prod-nico").await,
            case.map("prod-known-hosts").await,
        ]
    };
    let (before, secrets, maps_before) = (configurations().await, data().await, maps().await);
    let (written, applied) = (case.deeds().len(), case.world.nio().history().len());
    delete(&case, PropagationPolicy::Orphan).await;
    case.wait_gone("prod").await;
    let orphans = || async {
        let mut all = configurations().await;
        all.retain(|object| !object.owner_references().is_empty());
        let mut held = Vec::new();
        for token in TOKENS {
            held.extend(
                case.secret(token)
                    .await?
                    .metadata
                    .finalizers
                    .unwrap_or_default(),
            );
        }
        (all.is_empty() && held.is_empty()).then_some(())
    };
    let seen = || async { case.proxy.write_lines() };
    wait_describing("all are orphans", DEADLINE, orphans, seen).await;
    let after = configurations().await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(body(before), body(after));
        assert_eq!(after.finalizers(), [finalizer(generation)]);
    }
    assert_eq!(data().await, secrets);
    assert_eq!(maps().await, maps_before);
    assert_eq!(
        case.world.nio().history().len(),
        applied,
        "NIO did something"
    );
    let mut deeds = case.deeds().split_off(written);
    deeds.sort();
    let only = [
        "patch configmaps prod-nico",
        "patch kubernetesclusters prod",
        "patch secrets prod-join-token",
        "patch secrets prod-worker-token",
    ];
    assert_eq!(deeds, only);
    // A cluster of that name is another one: it takes nothing of what was left, and says what stands in its way.
    case.cluster("prod", spec()).await;
    let message = case.stalled("prod", "SecretConflict").await;
    assert!(message.contains("prod-"), "{message}");
    case.two_more_passes().await;
    for (before, after) in after.iter().zip(&configurations().await) {
        assert_eq!(body(before), body(after));
    }
    case.delete("prod").await;
    case.wait_gone("prod").await;
    assert_eq!(data().await, secrets);
    assert_eq!(case.configurations().await, MACHINES);
    case.finish().await;
}

/// A namespace goes with a Ready cluster in it. NICO lives elsewhere, as it ships; Machines are classic NIO's, whose timers hold
/// them by its finalizer until their configurations are gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_a_ready_cluster_in_it() {
    let environment: &'static Environment =
        Box::leak(Box::new(Environment::start(Generation::Classic).await));
    let case = Case::on(environment, &nico().args(&RESYNC).everywhere()).await;
    ready(&case).await;
    // One elsewhere, so that NICO has something to look at afterwards.
    let other = json!({"apiVersion": "nico.homystack.com/v1alpha1", "kind": "KubernetesCluster",
        "metadata": {"name": "other"}, "spec": listed(&["no-such-machine"], &[])});
    rig::deploy::apply_value(case.world.client(), "default", other)
        .await
        .unwrap();
    let hold = async |machine: &str, finalizers: Value| {
        let machines = case.world.machines();
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        let params = PatchParams::default();
        machines.patch(machine, &params, &patch).await.unwrap();
    };
    for machine in MACHINES {
        hold(machine, json!([KOPF_FINALIZER])).await;
    }
    // It refuses new objects there, an event for one, which is no matter of rights.
    case.proxy.server_starts(true);
    let namespaces: Api<Namespace> = Api::all(case.world.client().clone());
    let namespace = case.world.namespace();
    namespaces
        .delete(namespace, &DeleteParams::default())
        .await
        .unwrap();
    let clusters = || async {
        let none = case.world.clusters().get_opt("prod").await.ok()?.is_none();
        (none && case.configurations().await.is_empty()).then_some(())
    };
    let seen = || async {
        format!(
            "{}\n{}\n{}",
            case.world.describe().await,
            case.proxy.write_lines(),
            case.nico.output()
        )
    };
    wait_describing("the cluster is gone", DEADLINE, clusters, seen).await;
    for machine in MACHINES {
        hold(machine, Value::Null).await;
    }
    let gone = || async {
        namespaces
            .get_opt(namespace)
            .await
            .ok()?
            .is_none()
            .then_some(())
    };
    wait_describing("the namespace is gone", DEADLINE, gone, seen).await;
    case.nothing_is_left().await;
    // And then there is silence.
    let (written, said) = (case.proxy.writes().len(), warnings(&case));
    passing(&case).more("three passes", 3, DEADLINE).await;
    assert_eq!(
        case.proxy.writes().len(),
        written,
        "{}",
        case.proxy.write_lines()
    );
    assert_eq!(warnings(&case), said, "{}", case.nico.output());
    assert!(said < 20, "{said} warnings\n{}", case.nico.output());
    case.finish().await;
}

/// How many lines of the log complain.
fn warnings(case: &Case) -> usize {
    let output = case.nico.output();
    let lines = output.lines();
    lines
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .count()
}

/// The same name again at once, and while the old one is still going: what is applied then goes with it.
async fn one_name_is_applied_and_deleted_again_and_again(generation: Generation) {
    let case = Case::of(generation, &nico()).await;
    ready(&case).await;
    let nio = case.world.nio();
    let mut ids = vec![case.map("prod-nico").await["id"].clone()];
    let mut uid = case.uid("prod").await;
    // Whether it came up before it goes, and whether it is applied once more while it goes.
    for (came_up, again) in [(true, true), (false, false), (false, true), (true, false)] {
        if came_up {
            case.ready("prod").await;
            ids.push(case.map("prod-nico").await["id"].clone());
        }
        nio.set("cp-01", |knobs| {
            knobs.delay = again.then_some(Duration::from_millis(1500));
        });
        let since = nio.now();
        case.delete("prod").await;
        if again && came_up {
            // `kubectl apply` changes the one that is going.
            case.cluster("prod", spec()).await;
            assert_eq!(case.uid("prod").await, uid);
        }
        let applied = || async {
            let cluster = case.world.cluster("prod", spec()).await.ok()?;
            cluster.uid().filter(|new| *new != uid)
        };
        uid = wait_for("a new one is applied", DEADLINE, applied).await;
        if came_up {
            case.removed_with_all_files(&MACHINES, since);
        }
    }
    case.ready("prod").await;
    ids.push(case.map("prod-nico").await["id"].clone());
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
    case.delete("prod").await;
    case.wait_gone("prod").await;
    case.nothing_is_left().await;
    case.finish().await;
}
