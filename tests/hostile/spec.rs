//! Hostile and good specs, each put before a real API server with our definition and before the check in code,
//! which must say the same: an object that an older definition let through is judged as a new one is.

mod cases;
mod good;
mod older;
mod structure;
mod texts;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use nico::api::cluster::{RawCluster, crd};
use nico::api::validate::validate;
use rig::control_plane::{ControlPlane, Options, shared};
use rig::crds::{cluster_resource, clusters, install_crd_text};
use rig::wait::wait_for;
use serde_json::{Value, json};

/// How long anything may take.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(120);

/// The API server with our definition installed.
async fn server() -> (&'static ControlPlane, Client) {
    let control_plane = shared(Options::default())
        .await
        .expect("a control plane starts");
    let client = control_plane.client();
    let text = serde_yaml::to_string(&crd()).expect("the definition can be written as YAML");
    install_crd_text(&client, &text).await;
    (control_plane, client)
}

fn object(name: &str, spec: &Value) -> DynamicObject {
    let mut object = DynamicObject::new(name, &cluster_resource());
    object.data = json!({ "spec": spec });
    object
}

/// Creates it without keeping it: what would be stored, or fields and messages of what is refused.
async fn create(
    api: &Api<DynamicObject>,
    name: &str,
    spec: &Value,
) -> Result<Value, Vec<(String, String)>> {
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match api.create(&dry_run, &object(name, spec)).await {
        Ok(created) => Ok(created.data["spec"].clone()),
        Err(kube::Error::Api(status)) => {
            let causes = status.details.clone().map(|details| details.causes);
            Err(causes
                .unwrap_or_default()
                .into_iter()
                .map(|cause| (cause.field, cause.message))
                .collect())
        }
        Err(error) => panic!("{name}: the API server does not answer: {error}"),
    }
}

/// Whether a refusal of the API server names a field. A rule of the whole object has no path and names it in its message; a key of a
/// map stands in brackets.
fn names((path, message): &(String, String), field: &str) -> bool {
    let keyed = path.replace('[', ".").replace(']', "");
    path == field || keyed == field || path == "<nil>" && message.contains(field)
}

#[tokio::test]
async fn hostile_specs_are_refused_by_the_api_server_and_by_the_code_naming_the_field() {
    let (_, client) = server().await;
    let api = clusters(&client, "default");
    let cases = cases::hostile();
    let mut wrong = Vec::new();
    for case in &cases {
        let cases::Case {
            what,
            name,
            spec,
            field,
        } = case;
        match create(&api, name, spec).await {
            Ok(_) => wrong.push(format!("{what}: the API server takes it")),
            Err(refusals) => {
                if !refusals.iter().any(|refusal| names(refusal, field)) {
                    wrong.push(format!(
                        "{what}: the API server names {refusals:?}, not {field}"
                    ));
                }
                // A `pattern` beside a rule would refuse the same value once more, with a regular expression for a message.
                if refusals.iter().any(|it| it.1.contains("should match")) {
                    wrong.push(format!("{what}: a pattern refuses it: {refusals:?}"));
                }
            }
        }
        match validate(name, spec) {
            Ok(_) => wrong.push(format!("{what}: the code takes it")),
            Err(errors) => {
                if !errors.iter().any(|error| error.field == *field) {
                    wrong.push(format!("{what}: the code names {errors:?}, not {field}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() >= 60, "{} cases", cases.len());
    println!("{} hostile specs, each refused twice", cases.len());
}

#[tokio::test]
async fn good_specs_are_taken_by_both_and_mean_the_same_before_and_after_the_defaults() {
    let (_, client) = server().await;
    let api = clusters(&client, "default");
    let good = good::good();
    let mut wrong = Vec::new();
    for (what, spec) in &good {
        let before = validate("prod", spec);
        match (create(&api, "prod", spec).await, &before) {
            (Ok(stored), Ok(_)) => {
                if validate("prod", &stored) != before {
                    wrong.push(format!("{what}: means something else as stored: {stored}"));
                }
            }
            (Err(causes), _) => {
                wrong.push(format!("{what}: the API server refuses it: {causes:?}"));
            }
            (_, Err(errors)) => wrong.push(format!("{what}: the code refuses it: {errors:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} good specs, each taken twice", good.len());
}

#[tokio::test]
async fn a_password_in_a_url_is_not_repeated_by_the_api_server() {
    let (_, client) = server().await;
    let api = clusters(&client, "default");
    for repo in [
        "https://user:hunter2@host/repo",
        "https://hunter2@host/repo",
        "user:hunter2@host:repo",
        "https://user:hunter2@host/re po",
    ] {
        let spec = cases::with(json!({ "gitRepo": repo }));
        let causes = create(&api, "prod", &spec)
            .await
            .expect_err("a password is refused");
        assert!(
            !format!("{causes:?}").contains("hunter2"),
            "{repo}: {causes:?}"
        );
    }
}

#[tokio::test]
async fn the_definition_is_structural_established_and_explained() {
    let (control_plane, client) = server().await;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let stored = api
        .get("kubernetesclusters.nico.homystack.com")
        .await
        .expect("the definition is there");
    let conditions = stored
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let holds = |kind: &str| {
        conditions
            .iter()
            .any(|condition| condition.type_ == kind && condition.status == "True")
    };
    assert!(holds("Established") && holds("NamesAccepted"));
    assert!(!holds("NonStructuralSchema"), "{conditions:?}");

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/kubernetescluster.yaml");
    let applied = control_plane
        .kubectl(&["apply", "--server-side", "--dry-run=server", "-f", path])
        .await
        .expect("kubectl runs");
    let words = String::from_utf8_lossy(&applied.stderr);
    assert!(applied.status.success() && words.is_empty(), "{words}");

    // The API server publishes a definition's OpenAPI some time after it is established.
    let explained = || async {
        let explained = control_plane
            .kubectl(&["explain", "kcluster.spec.rollout.maxUnavailable"])
            .await
            .expect("kubectl runs");
        String::from_utf8_lossy(&explained.stdout)
            .contains("Workers updated at a time")
            .then_some(())
    };
    wait_for("kubectl explains the field", DEADLINE, explained).await;
}

#[tokio::test]
async fn an_object_that_nobody_has_looked_at_is_not_done() {
    let (_, client) = server().await;
    let api = clusters(&client, "default");
    let new = object("unseen", &cases::with(json!({})));
    api.create(&PostParams::default(), &new)
        .await
        .expect("a good spec is taken");
    let generation = async || {
        let read = api.get("unseen").await.expect("it is there");
        read.data["status"]["observedGeneration"].clone()
    };
    assert_eq!(generation().await, json!(-1));
    // Also where somebody left nothing else of the status, or wiped it.
    for status in [json!({ "phase": "Ready" }), Value::Null] {
        let parameters = PatchParams::default();
        let patch = Patch::Merge(json!({ "status": status }));
        let written = api.patch_status("unseen", &parameters, &patch).await;
        written.expect("a status is taken");
        assert_eq!(generation().await, json!(-1));
    }
    let read: Api<RawCluster> = Api::namespaced(client.clone(), "default");
    let read = read.get("unseen").await.expect("it decodes");
    let status = read.status.expect("it has the default");
    assert_eq!(status.observed_generation, Some(-1));
}

#[tokio::test]
async fn kubectl_shows_the_columns() {
    let (control_plane, client) = server().await;
    let api = clusters(&client, "default");
    api.create(
        &PostParams::default(),
        &object("shown", &cases::with(json!({}))),
    )
    .await
    .expect("a good spec is taken");
    let status = json!({ "status": {
        "phase": "Provisioning",
        "controlPlane": { "ready": 0, "total": 1, "updated": 0, "summary": "0/1" },
        "dataPlane": { "ready": 0, "total": 0, "updated": 0, "summary": "0/0" },
        "updated": "0/1",
        "revision": "0123456789ab",
        "kubeconfigSecret": "shown-kubeconfig",
        "conditions": [
            { "type": "Ready", "status": "False", "reason": "Progressing", "message": "waits for cp-01" },
            { "type": "Paused", "status": "False", "reason": "NotPaused", "message": "" },
        ],
    } });
    api.patch_status("shown", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .expect("what NICO writes as status is taken");
    // The server side of the table comes a moment after the definition is established.
    let shown = || async {
        let shown = control_plane
            .kubectl(&[
                "get",
                "kcluster",
                "shown",
                "--namespace=default",
                "--output=wide",
            ])
            .await
            .expect("kubectl runs");
        let words = String::from_utf8_lossy(&shown.stdout).into_owned();
        words.contains("CONTROL PLANE").then_some(words)
    };
    let words = wait_for("kubectl shows the columns", DEADLINE, shown).await;
    println!("{words}");
    let mut lines = words.lines();
    let mut next = || -> Vec<&str> {
        lines
            .next()
            .unwrap_or_default()
            .split("   ")
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect()
    };
    let columns = [
        "NAME",
        "READY",
        "PHASE",
        "CONTROL PLANE",
        "WORKERS",
        "UPDATED",
        "PAUSED",
        "REVISION",
        "AGE",
        "KUBECONFIG",
        "MESSAGE",
    ];
    assert_eq!(next(), columns);
    let values = next();
    assert_eq!(
        values[..8],
        [
            "shown",
            "False",
            "Provisioning",
            "0/1",
            "0/0",
            "0/1",
            "False",
            "0123456789ab"
        ]
    );
    assert_eq!(values[9..], ["shown-kubeconfig", "waits for cp-01"]);
}

#[test]
fn the_watch_reads_any_spec_and_any_status() {
    for (spec, status) in [
        (json!(null), json!(null)),
        (json!([1, "x"]), json!("nonsense")),
        (json!({ "controlPlane": 7 }), json!({ "conditions": 3 })),
        (json!("text"), json!({ "phase": "NoSuchPhase" })),
    ] {
        let raw = json!({
            "apiVersion": "nico.homystack.com/v1alpha1",
            "kind": "KubernetesCluster",
            "metadata": { "name": "old" },
            "spec": spec,
            "status": status,
        });
        let cluster: RawCluster = serde_json::from_value(raw).expect("any object decodes");
        assert_eq!(cluster.status, None);
        assert!(validate("old", &cluster.spec).is_err());
    }
}
