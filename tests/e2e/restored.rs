//! A cluster after its objects were lost: restored from a backup by the very commands of `deploy/OPERATIONS.md`, or orphaned and applied
//! again. It goes on as it was, and no machine gets another revision.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PropagationPolicy};
use rig::crds::Generation;
use rig::scratch::Scratch;
use rig::wait::{wait_describing, wait_for};
use rig::world::condition;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, five, nico, over_both, three_and_two};

const PAGE: &str = include_str!("../../deploy/OPERATIONS.md");
const MACHINES: [&str; 5] = ["cp-01", "cp-02", "cp-03", "w-01", "w-02"];
const EVERYTHING: &str = "secrets,configmaps,machines.nio.homystack.com,nixosconfigurations.nio.homystack.com,kubernetesclusters";

over_both![
    a_cluster_restored_by_the_commands_of_the_page_goes_on_as_it_was,
    an_orphaned_cluster_that_is_applied_paused_goes_on_as_it_was,
];

/// The commands of the chapter.
fn commands() -> Vec<&'static str> {
    let (_, chapter) = PAGE.split_once("\n## Back up and restore\n").unwrap();
    let (chapter, _) = chapter.split_once("\n## ").unwrap();
    let blocks = chapter.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split_once("```").unwrap().0)
        .collect()
}

/// Runs commands as a person does whose kubectl is set up for this namespace.
fn run(case: &Case, directory: &Scratch, commands: &str) -> String {
    let kubectl = case.world.environment().control_plane.kubectl_command();
    let mut words = format!("'{}'", kubectl.get_program().display());
    for word in kubectl.get_args() {
        let _ = write!(words, " '{}'", word.display());
    }
    let namespace = case.world.namespace();
    let script = format!("set -e\nkubectl() {{ {words} -n {namespace} \"$@\"; }}\n{commands}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(directory.path());
    let output = tokio::task::block_in_place(|| shell.output()).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}\n{said}{complaint}");
    said
}

/// What must be as before: what each machine is told, the id, the tokens and the kubeconfig.
async fn kept(case: &Case) -> Value {
    let mut all = BTreeMap::new();
    for machine in MACHINES {
        let held = case.configuration(machine).await;
        all.insert(machine.to_owned(), held.data["spec"].clone());
    }
    for (secret, key) in [
        ("prod-join-token", "token"),
        ("prod-worker-token", "token"),
        ("prod-kubeconfig", "value"),
    ] {
        let value = case.secret_value(secret, key).await;
        all.insert(secret.to_owned(), json!(value));
    }
    let ledger = case.map("prod-nico").await;
    all.insert("id".to_owned(), json!([ledger["id"], ledger["founded"]]));
    let hosts = case.map("prod-known-hosts").await;
    all.insert("hosts".to_owned(), json!(hosts));
    json!(all)
}

/// A Ready cluster with its fullest ledger, and what is to be kept of it.
async fn ready(generation: Generation) -> (Case, Value) {
    let case = Case::of(generation, &nico().args(&RESYNC)).await;
    five(&case.world).await;
    case.world.cluster("prod", three_and_two()).await.unwrap();
    case.ready("prod").await;
    case.settled("prod").await;
    let kept = kept(&case).await;
    (case, kept)
}

/// Waits until the paused cluster owns everything again and would change nothing.
async fn taken_back(case: &Case) {
    let nothing = |status: &Value| {
        let paused = condition(status, "Paused");
        let message = paused["message"].as_str().unwrap_or_default();
        paused["status"] == "True" && message.contains("nothing would change; takes back ")
    };
    let what = "nothing would change";
    case.world
        .wait_status("prod", what, DEADLINE, nothing)
        .await;
    let cluster = case.world.clusters().get("prod").await.unwrap();
    let uid = cluster.uid().unwrap();
    let owned = || async {
        let mut owners = Vec::new();
        for machine in MACHINES {
            owners.push(
                case.configuration(machine)
                    .await
                    .owner_references()
                    .to_vec(),
            );
        }
        for secret in ["prod-join-token", "prod-worker-token", "prod-kubeconfig"] {
            owners.push(case.secret(secret).await?.owner_references().to_vec());
        }
        for map in ["prod-nico", "prod-known-hosts"] {
            let map = case.maps().get(map).await.ok()?;
            owners.push(map.owner_references().to_vec());
        }
        let are_ours = owners
            .iter()
            .all(|owners| owners.len() == 1 && owners[0].uid == uid);
        are_ours.then_some(())
    };
    wait_describing("all has its owner", DEADLINE, owned, || {
        case.world.describe()
    })
    .await;
    for token in ["prod-join-token", "prod-worker-token"] {
        let token = case.secret(token).await.unwrap();
        assert_eq!(token.finalizers(), ["nico.homystack.com/in-use"]);
    }
}

/// Each machine got what it had before, and nothing else.
fn nothing_new_was_applied(case: &Case, since: Duration) {
    for machine in MACHINES {
        let applies = case.world.nio().applies(machine);
        let (after, before): (Vec<_>, Vec<_>) =
            applies.iter().partition(|apply| apply.began >= since);
        let last = &before.last().unwrap().applied;
        for apply in after {
            assert_eq!(apply.applied.files, last.files, "{machine}");
            assert_eq!(apply.applied.marker, last.marker, "{machine}");
            assert_eq!(apply.applied.skipped, Vec::<String>::new(), "{machine}");
        }
    }
}

/// The pause ends: the cluster is Ready, as it was.
async fn goes_on(case: Case, before: &Value, since: Duration) {
    let status = case.ready("prod").await;
    assert_eq!(status["controlPlane"]["ready"], 3, "{status}");
    case.two_more_passes().await;
    assert_eq!(kept(&case).await, *before);
    nothing_new_was_applied(&case, since);
    assert_eq!(case.world.flake().foundings().len(), 1);
    case.finish().await;
}

async fn a_cluster_restored_by_the_commands_of_the_page_goes_on_as_it_was(generation: Generation) {
    if rig::tools::on_path("the restore of the page", "jq").is_none() {
        return;
    }
    let (mut case, before) = ready(generation).await;
    let directory = Scratch::new("restore");
    let commands = commands();
    // The others are those of Velero.
    let [back_up, restore, go_on, ..] = commands[..] else {
        panic!("{commands:?}");
    };
    run(&case, &directory, back_up);
    let nio = case.world.nio().clone();
    nio.pause(true);
    case.nico.terminate().await;
    case.nico.wait_exit(DEADLINE).await;
    run(
        &case,
        &directory,
        &format!(
            "for one in $(kubectl get -o name {EVERYTHING}); do
                kubectl patch $one --type=merge -p '{{\"metadata\":{{\"finalizers\":null}}}}' || true
                kubectl delete --ignore-not-found $one
            done"
        ),
    );
    let gone = || async {
        let secrets = case.world.secrets().list(&ListParams::default()).await;
        let is_empty = secrets.ok()?.items.is_empty() && case.children().await.is_empty();
        (is_empty && case.configurations().await.is_empty()).then_some(())
    };
    wait_for("all is gone", DEADLINE, gone).await;
    let since = nio.now();
    // Both are at work while the objects come back, one after the other.
    case.nico = case.world.nico(&nico().args(&RESYNC), &case.proxy).await;
    nio.pause(false);
    run(&case, &directory, restore);
    taken_back(&case).await;
    for machine in MACHINES {
        let configured = || async {
            let status = case.machine_status(machine).await;
            (status["hasConfiguration"] == true).then_some(())
        };
        wait_for("NIO has applied it", DEADLINE, configured).await;
    }
    let said = run(&case, &directory, go_on);
    assert!(said.contains("prod: spec.paused is true"), "{said}");
    goes_on(case, &before, since).await;
}

/// The same name, once more.
async fn an_orphaned_cluster_that_is_applied_paused_goes_on_as_it_was(generation: Generation) {
    let (case, before) = ready(generation).await;
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    let clusters = case.world.clusters();
    clusters.delete("prod", &orphan).await.unwrap();
    case.wait_gone("prod").await;
    let since = case.world.nio().now();
    case.world.cluster("prod", three_and_two()).await.unwrap();
    let message = case.stalled("prod", "SecretConflict").await;
    assert!(message.contains("set spec.paused to true"), "{message}");
    case.edit("prod", json!({"paused": true})).await;
    taken_back(&case).await;
    case.edit("prod", json!({"paused": false})).await;
    goes_on(case, &before, since).await;
}
