//! What to do with the sandbox from another terminal, and what `--once` does of it by itself.

use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use rig::process::Nico;
use rig::workload::Workload;

use crate::Failure;
use crate::home::Home;
use crate::management::Management;
use crate::session::DEMO_NAME;
use crate::story::{PLAY, say};

/// Prints the commands to play with.
pub(crate) fn print(home: &Home) {
    let path = home.quoted();
    let enter = format!("cd {path} && . ./env");
    say(&format!(
        "
In another terminal, first:

    {enter}

The management cluster, in which NICO runs:

    kubectl get kcluster,machines,nixosconfigurations
    kubectl describe kcluster demo
    kubectl get kcluster demo -o jsonpath='{{range .status.machines[*]}}{{.name}}{{\"\\t\"}}{{.state}}{{\"\\t\"}}{{.message}}{{\"\\n\"}}{{end}}'
    # (Confirmed: NIO has applied exactly what the machine should have. Outdated: it has something else.)
    kubectl explain kcluster.spec

The cluster that it created:

    kubectl get secret demo-kubeconfig -o jsonpath='{{.data.value}}' | base64 -d > demo.kubeconfig
    kubectl --kubeconfig demo.kubeconfig get nodes

Things to try (results appear in this window):

    # Watch the clusters:
    kubectl get kcluster -w
    # A second cluster, of the free machine edge-01:
    kubectl apply -f edge.yaml
    # Add a worker: worker-03 joins, then the other machines are updated one by one:
    kubectl patch kcluster demo --type merge -p '{{\"spec\":{{\"dataPlane\":{{\"count\":3}}}}}}'
    # From here on, wait until `kubectl get kcluster` says Ready before the next one. A control plane machine that is changed again while
    # it is being updated holds up the others for an hour: this NIO does not say when it has given up the older configuration.
    # Roll out another repository: workers first, then the control plane, one machine at a time:
    kubectl patch kcluster demo --type merge -p '{{\"spec\":{{\"gitRepo\":\"https://git.example.com/other.git\"}}}}'
    # See what a change would do, without doing it: Paused and status.machines say it. Then go on:
    kubectl patch kcluster demo --type merge -p '{{\"spec\":{{\"paused\":true,\"gitRepo\":\"https://git.example.com/next.git\"}}}}'
    kubectl patch kcluster demo --type merge -p '{{\"spec\":{{\"paused\":false}}}}'
    # Every configuration fails on worker-01. The next rollout stops there, and half a minute later the cluster is Stalled:
    kubectl annotate machine worker-01 {PLAY}=broken
    kubectl patch kcluster demo --type merge -p '{{\"spec\":{{\"gitRepo\":\"https://git.example.com/third.git\"}}}}'
    # Repair it, and the rollout goes on:
    kubectl annotate machine worker-01 {PLAY}-
    # A machine goes away, and comes back:
    kubectl annotate machine worker-02 {PLAY}=off
    kubectl annotate machine worker-02 {PLAY}-
    # Delete a cluster: all its machines become free again:
    kubectl delete kcluster demo
    # Create the same cluster again:
    kubectl apply -f demo.yaml
    # What NICO logs:
    tail -f nico.log

All clusters of the sandbox share one API server: `get nodes` shows the machines of all.
Ctrl-C here ends the sandbox; nothing is left behind but files that you put into {path}.
"
    ));
}

/// Lists the new cluster's nodes with kubectl through the kubeconfig that NICO stored, and fails unless five are Ready.
pub(crate) async fn check_nodes(home: &Home, management: &Management) -> Result<(), Failure> {
    let secrets: Api<Secret> = Api::namespaced(management.client().clone(), management.namespace());
    let secret = secrets.get(&format!("{DEMO_NAME}-kubeconfig")).await?;
    let value = secret.data.and_then(|mut data| data.remove("value"));
    let value = value.ok_or("the kubeconfig Secret has no key `value`")?;
    home.write("demo.kubeconfig", 0o600, &String::from_utf8(value.0)?)?;
    say("\n$ kubectl --kubeconfig demo.kubeconfig get nodes");
    let output = home
        .kubectl()
        .args(["--kubeconfig", "demo.kubeconfig", "get", "nodes"])
        .stdin(Stdio::null())
        .output()
        .await?;
    let nodes = String::from_utf8_lossy(&output.stdout).into_owned();
    say(nodes.trim_end());
    let ready = nodes
        .lines()
        .filter(|line| line.split_whitespace().nth(1) == Some("Ready"))
        .count();
    if !output.status.success() || ready != 5 {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{ready} of 5 nodes are Ready; kubectl says: {said}").into());
    }
    Ok(())
}

/// Prints the figures of a bring-up.
pub(crate) fn print_figures(
    ready: Duration,
    nico: &Nico,
    management: &Management,
    workload: &Workload,
) {
    let megabytes = |bytes: u64| bytes / 1_000_000;
    say(&format!(
        "\nfrom apply to Ready: {:.1} s",
        ready.as_secs_f64()
    ));
    if let (Some(memory), Some(ticks)) = (nico.rss_bytes(), nico.cpu_ticks()) {
        say(&format!(
            "NICO: {} MB of memory, {} ms of CPU time",
            megabytes(memory),
            ticks * 10
        ));
    }
    for (cluster, processes) in [
        ("management", management.memory()),
        ("workload", workload.control_plane().rss()),
    ] {
        for (name, bytes) in processes {
            say(&format!(
                "{name} of the {cluster} cluster: {} MB",
                megabytes(bytes)
            ));
        }
    }
    say("");
}
