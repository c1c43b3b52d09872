//! What people and tools see: the first status of a generation, the printer columns, the events.

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use rig::proxy::{Call, Effect, Fault, Moment};
use rig::wait::wait_for;
use rig::world::condition;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::{RESYNC, resyncs};
use crate::common::{DEADLINE, five, listed, nico, three_and_two};

/// The statuses that NICO wrote, each with all that it held then.
fn statuses(case: &Case) -> Vec<Value> {
    let mut held = json!({});
    let mut seen = Vec::new();
    for call in case.proxy.writes() {
        if call.resource == "kubernetesclusters"
            && call.subresource == "status"
            && call.code == Some(200)
        {
            let body = call.body.unwrap();
            for (field, value) in body["status"].as_object().unwrap() {
                held[field] = value.clone();
            }
            seen.push(held.clone());
        }
    }
    seen
}

/// What follows the object in Git never sees a green that is not true, nor a red where nothing is to be done.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_word_on_a_generation_is_ready_only_where_nothing_is_to_be_done() {
    let case = Case::start().await;
    case.world.machine("cp-01").await;
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    case.ready("prod").await;
    case.edit("prod", json!({"rollout": {"maxUnavailable": 2}}))
        .await;
    let second = |status: &Value| {
        condition(status, "Ready")["status"] == "True" && status["observedGeneration"] == 2
    };
    case.world
        .wait_status("prod", "Ready still", DEADLINE, second)
        .await;
    let other = json!({"gitRepo": "https://git.example.com/new.git"});
    case.edit("prod", other).await;
    let third = |status: &Value| {
        condition(status, "Ready")["status"] == "True" && status["observedGeneration"] == 3
    };
    case.world
        .wait_status("prod", "Ready again", DEADLINE, third)
        .await;
    let first_write = &case.proxy.writes()[0];
    assert_eq!(first_write.rule_resource(), "kubernetesclusters/status");
    let seen = statuses(&case);
    let unchanged: Vec<_> = seen
        .iter()
        .filter(|status| status["observedGeneration"] == 2)
        .collect();
    assert!(!unchanged.is_empty());
    for status in unchanged {
        assert_eq!(condition(status, "Ready")["status"], "True", "{status}");
    }
    for generation in [1, 3] {
        let first = seen
            .iter()
            .find(|status| status["observedGeneration"] == generation)
            .unwrap();
        for (kind, wanted) in [
            ("Ready", "False"),
            ("Reconciling", "True"),
            ("Stalled", "False"),
        ] {
            let found = condition(first, kind);
            assert_eq!(found["status"], wanted, "{kind} {generation}: {first}");
            assert_eq!(found["observedGeneration"], generation, "{first}");
        }
    }
    for status in &seen {
        let current = &status["observedGeneration"];
        let conditions = status["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 9);
        assert!(
            conditions
                .iter()
                .all(|found| found["observedGeneration"] == *current),
            "{status}"
        );
        let ready = condition(status, "Ready")["status"] == "True";
        assert_eq!(status["phase"] == "Ready", ready, "{status}");
    }
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_it_in_columns() {
    let case = Case::start().await;
    case.world.machines_named(&["cp-01", "w-01"]).await;
    case.cluster("prod", listed(&["cp-01"], &["w-01"])).await;
    case.ready("prod").await;
    let kubectl = |arguments: &'static [&'static str]| {
        let namespace = format!("--namespace={}", case.world.namespace());
        let control_plane = &case.world.environment().control_plane;
        async move {
            let mut all = arguments.to_vec();
            all.push(&namespace);
            let output = control_plane.kubectl(&all).await.unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        }
    };
    let shown = kubectl(&["get", "kcluster"]).await;
    let mut lines = shown.lines();
    let words = |line: &str| {
        line.split("  ")
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        words(lines.next().unwrap()),
        [
            "NAME",
            "READY",
            "PHASE",
            "CONTROL PLANE",
            "WORKERS",
            "UPDATED",
            "PAUSED",
            "REVISION",
            "AGE"
        ]
    );
    let row = words(lines.next().unwrap());
    assert_eq!(
        row[..7],
        ["prod", "True", "Ready", "1/1", "1/1", "2/2", "False"]
    );
    assert_eq!(
        row[7],
        case.world.status("prod").await["revision"]
            .as_str()
            .unwrap()
    );
    let wide = kubectl(&["get", "k8scluster", "-o", "wide"]).await;
    let mut lines = wide.lines();
    assert_eq!(words(lines.next().unwrap())[9..], ["KUBECONFIG", "MESSAGE"]);
    assert_eq!(
        words(lines.next().unwrap())[9..],
        [
            "prod-kubeconfig",
            "every machine is up to date and the kubeconfig works"
        ]
    );
    case.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_what_happened() {
    let case = Case::start().await;
    case.world.machines_named(&["cp-01", "w-01"]).await;
    let cluster = case.cluster("prod", listed(&["cp-01"], &["w-01"])).await;
    case.ready("prod").await;
    let events: Api<Event> = Api::namespaced(case.world.client().clone(), case.world.namespace());
    let told = || async {
        let found = events.list(&ListParams::default()).await.ok()?.items;
        let reasons: Vec<_> = found
            .iter()
            .filter_map(|event| event.reason.clone())
            .collect();
        let all = ["Claimed", "Confirmed", "KubeconfigStored", "Ready"];
        all.iter()
            .all(|reason| reasons.iter().any(|found| found == reason))
            .then_some(found)
    };
    let found = wait_for("the events are there", DEADLINE, told).await;
    for event in &found {
        let about = event.regarding.as_ref().unwrap();
        assert_eq!(about.kind.as_deref(), Some("KubernetesCluster"));
        assert_eq!(about.name.as_deref(), Some("prod"));
        assert_eq!(about.uid, cluster.metadata.uid);
        assert_eq!(event.type_.as_deref(), Some("Normal"), "{event:?}");
        assert!(
            event
                .reporting_controller
                .as_deref()
                .is_some_and(|name| name.ends_with("/nico"))
        );
    }
    let notes: Vec<_> = found
        .iter()
        .filter_map(|event| event.note.clone())
        .collect();
    assert!(
        notes.contains(&"cp-01 assigned as control plane machine".to_owned()),
        "{notes:?}"
    );
    case.finish().await;
}

/// NIO annotates a configuration just after it has applied it. The mark that this makes stale is made again at once, from a fresh
/// read, and the pass goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_nio_crosses_is_made_again_and_ends_no_pass() {
    let case = Case::start().await;
    five(&case.world).await;
    let confirms = |call: &Call| {
        let annotations = call
            .body
            .as_ref()
            .map(|body| &body["metadata"]["annotations"]);
        call.verb == "patch"
            && call.name == "w-01"
            && annotations.is_some_and(|it| it["nico.homystack.com/confirmed"].is_string())
    };
    let crossed = Fault::on(confirms, Moment::Before, Effect::Status(409)).times(1);
    case.proxy.fault(crossed);
    case.cluster("prod", three_and_two()).await;
    case.ready("prod").await;
    let writes = case.proxy.writes();
    let marks: Vec<_> = writes.iter().filter(|call| confirms(call)).collect();
    assert!(marks.len() >= 2, "{}", case.proxy.write_lines());
    let log = case.nico.output();
    let mut early = log
        .lines()
        .filter(|line| line.contains("the pass ends early"));
    let crossed = early.find(|line| line.contains("NixosConfiguration w-01 changed"));
    assert_eq!(crossed, None, "{}", case.proxy.write_lines());
    case.finish().await;
}

/// Two operators with other flags disagree about a cluster for ever: they do not write its status without pause, and say so.
#[tokio::test(flavor = "multi_thread")]
async fn operators_that_disagree_do_not_flip_a_status_without_pause() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let other = case.world.proxy().await;
    let repository = ["--default-git-repo", "https://git.example.com/flakes.git"];
    let second = case.world.nico(&nico().args(&repository), &other).await;
    let mut spec = listed(&["cp-01"], &[]);
    spec.as_object_mut().unwrap().remove("gitRepo");
    case.cluster("prod", spec).await;
    let events: Api<Event> = Api::namespaced(case.world.client().clone(), case.world.namespace());
    let said = || async {
        let found = events.list(&ListParams::default()).await.ok()?.items;
        let mut reasons = found.iter().filter_map(|event| event.reason.as_deref());
        reasons
            .any(|reason| reason == "StatusContested")
            .then_some(())
    };
    wait_for("an event names the other program", DEADLINE, said).await;
    let before = statuses(&case).len();
    let looks = resyncs(&case.proxy, "prod");
    looks.more("looks at the cluster", 8, DEADLINE).await;
    let more = statuses(&case).len() - before;
    assert!(
        more <= 4,
        "{more} writes of the status: {}",
        case.proxy.write_lines()
    );
    drop(second);
}
