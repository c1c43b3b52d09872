//! The sandbox as a person starts it, so that it cannot rot: it brings a cluster up, and leaves nothing behind however it ends, in a
//! cluster of its own and in one that exists.

mod session;

use std::fs;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams};
use rig::control_plane::{ControlPlane, Options, prepare};
use rig::crds::{Generation, install_crds};
use rig::wait::wait_for;
use tokio::sync::Mutex;

use session::{Sandbox, left, play};

/// How long processes may take to see that the sandbox was killed.
const SOON: Duration = Duration::from_secs(20);
/// Each session is a gigabyte of API servers: one at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn once_it_brings_a_cluster_up_and_leaves_nothing_behind() {
    let _alone = ALONE.lock().await;
    prepare().await.unwrap();
    let sandbox = Sandbox::start(&["--once"], None);
    let mark = sandbox.mark();
    let (well, told, complaint) = sandbox.finish();
    println!("{told}");
    assert!(well, "{told}{complaint}");
    let mut machines = ["cp-01", "cp-02", "cp-03", "worker-01", "worker-02"].iter();
    assert!(
        machines.all(|machine| {
            let line = |what: &str| told.contains(&format!("s  demo: {machine} {what}"));
            line("assigned as") && line("applied by NIO") && line("up to date")
        }),
        "{told}"
    );
    for line in [
        "s  demo: KubernetesCluster applied",
        "s  demo: kubeconfig read over SSH and stored in Secret demo-kubeconfig",
        "s  demo: Ready, control plane 3/3, workers 2/2",
        "from apply to Ready: ",
        "s  nothing is left behind",
    ] {
        assert!(told.contains(line), "{line:?} is missing:\n{told}");
    }
    assert_eq!(left(&mark), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn its_commands_work_and_sigterm_ends_it() {
    let _alone = ALONE.lock().await;
    prepare().await.unwrap();
    let mut sandbox = Sandbox::start(&[], None);
    sandbox.read_until("nothing is left behind");
    let enter = sandbox
        .told
        .lines()
        .find(|line| line.ends_with("&& . ./env"))
        .unwrap();
    // As printed, but for those that change something or do not end.
    let commands: Vec<&str> = sandbox
        .told
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("kubectl "))
        .filter(|line| {
            !["patch", "delete", "apply", "annotate", " -w"]
                .iter()
                .any(|word| line.contains(word))
        })
        .collect();
    assert_eq!(commands.len(), 6, "{commands:?}");
    let script = format!(
        "set -e; {}; {}; kubectl apply -f demo.yaml; head -n 1 nico.log; stat -c %a demo.kubeconfig",
        enter.trim(),
        commands.join("; ")
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{complaint}");
    for text in [
        "KIND:       KubernetesCluster",
        "worker-02   Ready",
        "edge-01",
        "worker-02\tConfirmed\t",
        "\n600\n",
    ] {
        assert!(said.contains(text), "{text:?} is missing:\n{said}");
    }
    assert_eq!(complaint, "", "kubectl warns of nothing");
    let home = sandbox.home();
    // The user's own files stay, and one of the sandbox's that the user has changed.
    fs::write(home.join("mine.yaml"), "mine").unwrap();
    fs::write(home.join("edge.yaml"), "changed").unwrap();
    play(
        &mut sandbox,
        "kubectl annotate machine edge-01 sandbox/is=off",
    );
    sandbox.read_until("Machine edge-01 goes away");
    // NIO cannot free what it has no Machine object of.
    play(&mut sandbox, "kubectl delete machine worker-02");
    sandbox.read_until("Machine worker-02 deleted");
    let one = r#"kubectl patch kcluster demo --type merge -p '{"spec":{"dataPlane":{"count":1}}}'"#;
    let force = "kubectl annotate kcluster demo nico.homystack.com/force-release=worker-02";
    play(&mut sandbox, &format!("{force} && {one}"));
    sandbox.read_until("demo: worker-02 is released without NIO: its Machine object is gone");
    play(&mut sandbox, "kubectl apply -f mistake.yaml");
    sandbox.read_until("oops: not Ready: Machine egde-01 does not exist");
    let mark = sandbox.mark();
    sandbox.signal("-TERM");
    let (well, told, complaint) = sandbox.finish();
    assert!(well, "{told}{complaint}");
    assert_eq!(left(&mark), Vec::<String>::new());
    let kept =
        "kept, since they are yours: demo.kubeconfig, edge.yaml, mine.yaml, mistake.yaml in ";
    assert!(told.contains(kept), "{told}");
    let end = told.lines().last().unwrap_or_default();
    assert!(end.ends_with("  nothing else is left behind"), "{told}");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 4);
    fs::remove_dir_all(home).unwrap();
}

/// The printed commands under the comment that begins so.
fn under(told: &str, comment: &str) -> Vec<String> {
    let mut lines = told.lines().map(str::trim);
    assert!(lines.any(|line| line.starts_with(comment)), "{told}");
    let commands = lines.take_while(|line| line.starts_with("kubectl "));
    commands.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_breaks_or_is_off_is_told_and_stops_no_more_than_it_must() {
    let _alone = ALONE.lock().await;
    prepare().await.unwrap();
    let mut sandbox = Sandbox::start(&[], None);
    sandbox.read_until("nothing is left behind");
    assert!(!sandbox.told.contains("not Ready"), "{}", sandbox.told);
    let told = sandbox.told.clone();
    for command in under(&told, "# Every configuration fails on worker-01") {
        play(&mut sandbox, &command);
    }
    sandbox.read_until(
        "demo: stalled, ProgressDeadlineExceeded: NIO has not applied Machine worker-01",
    );
    for command in under(&told, "# Repair it") {
        play(&mut sandbox, &command);
    }
    sandbox.read_until("demo: worker-01 up to date");
    sandbox.read_until("demo: Ready, control plane 3/3, workers 2/2");

    // A listed machine that is off when its cluster is applied for the first time.
    play(
        &mut sandbox,
        "kubectl annotate machine edge-01 sandbox/is=off && kubectl wait machine edge-01 --for=jsonpath={.status.discoverable}=false && \
         kubectl apply -f edge.yaml",
    );
    sandbox.read_until("edge: not Ready: Machine edge-01 is not discoverable");
    // One that is released while it is off.
    play(
        &mut sandbox,
        "kubectl annotate machine worker-02 sandbox/is=off && \
         kubectl patch kcluster demo --type merge -p '{\"spec\":{\"dataPlane\":{\"count\":1}}}'",
    );
    sandbox.read_until("demo: worker-02 is to be released, and NIO cannot reach it");
    sandbox.read_until("demo: worker-02 is released without #minimal");
    // A deletion that does not end by itself.
    play(
        &mut sandbox,
        "kubectl delete machine worker-01 && kubectl delete kcluster demo --wait=false",
    );
    sandbox.read_until("demo: stalled, MachineMissing: waiting until NIO has released: worker-01");
    play(
        &mut sandbox,
        "kubectl annotate kcluster demo nico.homystack.com/force-release=worker-01",
    );
    sandbox.read_until("demo: deleted");
    sandbox.signal("-TERM");
    let home = sandbox.home();
    let (well, told, complaint) = sandbox.finish();
    assert!(well, "{told}{complaint}");
    fs::remove_dir_all(home).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_it_takes_everything_with_it() {
    let _alone = ALONE.lock().await;
    prepare().await.unwrap();
    let mut sandbox = Sandbox::start(&[], None);
    sandbox.read_until("NICO runs");
    let mark = sandbox.mark();
    assert!(left(&mark).len() > 5);
    sandbox.signal("-KILL");
    wait_for("nothing is left of it", SOON, || async {
        left(&mark).is_empty().then_some(())
    })
    .await;
    // The next one removes its files, NICO's token among them.
    let files = sandbox.directory();
    assert!(files.join("nico.kubeconfig").exists());
    let mut next = Sandbox::start(&[], None);
    next.read_until("NICO runs");
    assert!(!files.exists());
    next.signal("-TERM");
    let (well, told, complaint) = next.finish();
    assert!(well, "{told}{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_existing_cluster_it_removes_what_it_made_and_stays_away_from_a_real_nio() {
    let _alone = ALONE.lock().await;
    let cluster = ControlPlane::start(Options::management()).await.unwrap();
    let kubeconfig = cluster.admin_kubeconfig_path();
    let context = ["--context", "rig"];
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let all = ListParams::default();
    let nothing_is_left = || async {
        assert!(namespaces.get_opt("nico-sandbox").await.unwrap().is_none());
        assert!(definitions.list(&all).await.unwrap().items.is_empty());
    };

    let sandbox = Sandbox::start(
        &[&context[..], &["--once"]].concat(),
        Some(kubeconfig.clone()),
    );
    let (well, told, complaint) = sandbox.finish();
    assert!(well, "{told}{complaint}");
    assert!(
        told.contains("Ready, control plane 3/3, workers 2/2"),
        "{told}"
    );
    nothing_is_left().await;

    // One that is killed leaves its objects there; the next says how to remove them, and that works.
    let mut sandbox = Sandbox::start(&context, Some(kubeconfig.clone()));
    sandbox.read_until(" up to date");
    sandbox.signal("-KILL");
    drop(sandbox);
    let sandbox = Sandbox::start(&context, Some(kubeconfig.clone()));
    let (well, _, complaint) = sandbox.finish();
    assert!(
        !well && complaint.contains("-- --context rig --clean"),
        "{complaint}"
    );
    let clean = [&context[..], &["--clean"]].concat();
    let (well, told, complaint) = Sandbox::start(&clean, Some(kubeconfig.clone())).finish();
    assert!(well, "{told}{complaint}");
    nothing_is_left().await;

    install_crds(&cluster.client(), Generation::V1).await;
    let (well, _, complaint) = Sandbox::start(&context, Some(kubeconfig.clone())).finish();
    assert!(
        !well && complaint.contains("Nothing was changed"),
        "{complaint}"
    );
    let (well, told, complaint) = Sandbox::start(&clean, Some(kubeconfig)).finish();
    assert!(well, "{told}{complaint}");
    assert_eq!(definitions.list(&all).await.unwrap().items.len(), 2);
}
