//! Deletions that something holds up: the condition says what and how to mend it, and a person can let go by force.

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::Api;
use kube::api::{ListParams, Patch, PatchParams};
use rig::crds::Generation;
use rig::nio::finalizer;
use rig::wait::wait_for;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico, over_both};

over_both![
    a_named_machine_is_forced_and_no_other;
    on demand: an_unreachable_machine_is_let_go_of_and_told
];

const FOREIGN: &str = "example.com/hold";

/// A cluster of one control plane machine and two workers, Ready.
pub(crate) async fn ready(case: &Case) {
    case.world.machines_named(&["cp-01", "w-01", "w-02"]).await;
    let spec = listed(&["cp-01"], &["w-01", "w-02"]);
    case.cluster("prod", spec).await;
    case.ready("prod").await;
}

pub(crate) fn deaf(case: &Case, machines: &[&str], deaf: bool) {
    for machine in machines {
        case.world
            .nio()
            .set(machine, |knobs| knobs.never_reacts = deaf);
    }
}

/// The configurations that are left once NIO and NICO did what they can do, by name.
async fn left_are(case: &Case, machines: &[&str]) {
    let left = || async { (case.configurations().await == machines).then_some(()) };
    wait_for(&format!("{machines:?} are left"), DEADLINE, left).await;
}

async fn finalizers(case: &Case, machine: &str, finalizers: &[&str]) {
    let patch = json!({"metadata": {"finalizers": finalizers}});
    let configurations = case.world.configurations();
    configurations
        .patch(machine, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

async fn force(case: &Case, machines: &str) {
    let annotation = json!({"nico.homystack.com/force-release": machines});
    case.merge("prod", json!({"metadata": {"annotations": annotation}}))
        .await;
}

/// The events of NICO's with this reason, as their notes.
pub(crate) async fn events(case: &Case, reason: &str) -> Vec<String> {
    let events: Api<Event> = Api::namespaced(case.world.client().clone(), case.world.namespace());
    let found = events.list(&ListParams::default()).await.unwrap();
    let of_it = found
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some(reason));
    of_it.filter_map(|event| event.note).collect()
}

async fn wait_event(case: &Case, reason: &str, machine: &str) {
    let told = || async {
        let notes = events(case, reason).await;
        notes
            .iter()
            .any(|note| note.contains(machine))
            .then_some(())
    };
    wait_for(&format!("an event {reason} of {machine}"), DEADLINE, told).await;
}

/// NIO lets go of an unreachable machine, and classic leaves the word in its Machine that it is configured.
async fn an_unreachable_machine_is_let_go_of_and_told(generation: Generation) {
    let case = Case::of(generation, &nico()).await;
    ready(&case).await;
    case.world
        .nio()
        .set("w-02", |knobs| knobs.unreachable = true);
    let is_off = |status: &Value| {
        let rows = status["machines"].as_array().into_iter().flatten();
        let mut off = rows.filter(|row| row["state"] == "Unavailable");
        off.any(|row| row["name"] == "w-02")
    };
    let what = "w-02 is known to be off";
    case.world.wait_status("prod", what, DEADLINE, is_off).await;
    case.delete("prod").await;
    case.wait_gone("prod").await;
    case.nothing_is_left().await;
    for (machine, then) in [
        ("w-01", "NIO applies #minimal"),
        ("w-02", "NIO cannot reach the machine"),
    ] {
        let words = format!("{machine}: configuration deleted");
        wait_event(&case, "Releasing", &words).await;
        let notes = events(&case, "Releasing").await;
        let of_it = notes.iter().find(|note| note.starts_with(&words));
        assert!(of_it.is_some_and(|note| note.contains(then)), "{notes:?}");
    }
    let is_configured = async |machine: &str| {
        let status = case.machine_status(machine).await;
        status["hasConfiguration"].as_bool().unwrap_or_default()
    };
    if generation == Generation::Classic {
        wait_event(&case, "LeftBehind", "w-02").await;
        let told = events(&case, "LeftBehind").await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(is_configured("w-02").await);
    } else {
        // V1 tries a few times, and then clears the Machine.
        assert!(!is_configured("w-02").await);
    }
    for machine in ["cp-01", "w-01"] {
        assert!(!is_configured(machine).await);
    }
    // A person who lists it knows what is on it.
    case.world
        .nio()
        .set("w-02", |knobs| knobs.unreachable = false);
    case.cluster("next", listed(&["w-02"], &["w-01"])).await;
    case.ready("next").await;
    case.finish().await;
}

/// Only NIO's finalizer goes, only from the machines that are named; NIO has the others.
async fn a_named_machine_is_forced_and_no_other(generation: Generation) {
    let case = Case::of(generation, &nico().args(&RESYNC)).await;
    let of_nio = finalizer(generation);
    ready(&case).await;
    deaf(&case, &["w-01", "w-02"], true);
    finalizers(&case, "w-01", &[of_nio, FOREIGN]).await;
    case.delete("prod").await;
    left_are(&case, &["w-01", "w-02"]).await;
    // Names that fit nobody, and parts of names, release nobody.
    force(&case, "w-0, prod,w-011,*").await;
    case.two_more_passes().await;
    assert_eq!(case.configurations().await, ["w-01", "w-02"]);
    assert_eq!(
        case.configuration("w-01").await.finalizers(),
        [of_nio, FOREIGN]
    );
    force(&case, "cp-01 , w-01").await;
    wait_event(&case, "Forced", "w-01").await;
    let held = case.configuration("w-01").await;
    assert_eq!(held.finalizers(), [FOREIGN]);
    case.two_more_passes().await;
    assert_eq!(
        case.configuration("w-01").await.resource_version(),
        held.resource_version()
    );
    assert_eq!(case.configuration("w-02").await.finalizers(), [of_nio]);
    // The Secrets stay until the last is gone.
    finalizers(&case, "w-01", &[]).await;
    left_are(&case, &["w-02"]).await;
    assert!(case.secret("prod-worker-token").await.is_some());
    deaf(&case, &["w-02"], false);
    case.wait_gone("prod").await;
    case.nothing_is_left().await;
    case.removed_with_all_files(&["cp-01", "w-02"], std::time::Duration::ZERO);
    let told = events(&case, "Forced").await;
    assert_eq!(told.len(), 1, "{told:?}");
    case.finish().await;
}
