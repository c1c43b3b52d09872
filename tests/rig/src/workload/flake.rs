//! The flake: what machines do with their cluster.nix. A machine that founded a cluster, or joined a founded one, has a kubeconfig and a
//! Ready Node, and a control plane machine serves its API port. As with k3s, a new machine does not start if a Node with its name still
//! exists.

mod computers;
mod knobs;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use self::computers::{Asked, Computers, Fate, Step};
use super::lease::Lease;
use super::{KUBECONFIG_PATH, NodeSpec, Workload};
use crate::machines::MachineHost;
use crate::nio::{Aftermath, Applied, Hook};
use crate::runtime;

/// Pause before a refused machine retries, as its service manager would.
const RESTART: Duration = Duration::from_millis(200);

/// A founding: a machine found its own name under `bootstrap`, and had no data of that `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// The cluster's name in cluster.nix.
    pub cluster: String,
    /// The founding's id in cluster.nix.
    pub id: String,
    /// The machine.
    pub machine: String,
}

/// Who shares the workload API server. This determines names and labels of Nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenancy {
    /// One world, with one cluster at a time. Nodes have the machines' names, and control plane Nodes have the label.
    Alone,
    /// One world, with several clusters at a time. There is no label, since Nodes would count as another cluster's control plane.
    Clusters,
    /// Several worlds. Names have this prefix, and there is no label.
    Worlds(String),
}

/// The simulated machines. Clones share them.
#[derive(Clone)]
pub struct Flake {
    inner: Arc<Inner>,
}

struct Inner {
    workload: Arc<Workload>,
    tenancy: Tenancy,
    /// Only one machine starts or stops at a time, since NIO may apply twice at once.
    turn: tokio::sync::Mutex<()>,
    computers: Mutex<Computers>,
    /// Returned when no more Nodes are written. A running apply may still write them after its world has ended.
    _lease: Option<Lease>,
}

impl Flake {
    /// A flake whose clusters use the API server of `workload`.
    #[must_use]
    pub fn new(workload: Arc<Workload>, tenancy: Tenancy) -> Self {
        Self::with(workload, tenancy, None)
    }

    /// A flake whose cluster uses a leased API server.
    #[must_use]
    pub fn leased(lease: Lease) -> Self {
        Self::with(lease.workload(), Tenancy::Alone, Some(lease))
    }

    fn with(workload: Arc<Workload>, tenancy: Tenancy, lease: Option<Lease>) -> Self {
        Self {
            inner: Arc::new(Inner {
                workload,
                tenancy,
                turn: tokio::sync::Mutex::default(),
                computers: Mutex::default(),
                _lease: lease,
            }),
        }
    }

    /// The API server of the clusters.
    #[must_use]
    pub fn workload(&self) -> &Arc<Workload> {
        &self.inner.workload
    }

    /// The name of a machine's Node.
    #[must_use]
    pub fn node_name(&self, machine: &str) -> String {
        match &self.inner.tenancy {
            Tenancy::Alone | Tenancy::Clusters => machine.to_owned(),
            Tenancy::Worlds(prefix) => format!("{prefix}-{machine}"),
        }
    }

    /// Adds a machine with the name of its Machine object.
    pub fn add(&self, name: &str, host: MachineHost) {
        self.lock(|computers| computers.of(name).host = Some(host));
    }

    /// All foundings, in order. Two with the same name and id, or two live ids with the same name, are a split.
    #[must_use]
    pub fn foundings(&self) -> Vec<Founding> {
        self.lock(|computers| computers.foundings.clone())
    }

    /// Foundings of a cluster that already existed: another machine had data of that name (I14).
    #[must_use]
    pub fn splits(&self) -> Vec<Founding> {
        self.lock(|computers| computers.splits.clone())
    }

    /// The machines that were refused since a Node with their name still existed, once for each refusal. Such a machine starts soon after
    /// the Node is gone.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.lock(|computers| computers.refused.clone())
    }

    /// The hook for the simulated NIO.
    #[must_use]
    pub fn hook(&self) -> Hook {
        let flake = self.clone();
        Arc::new(move |applied| flake.clone().applied(applied))
    }

    fn lock<T>(&self, use_it: impl FnOnce(&mut Computers) -> T) -> T {
        let computers = &self.inner.computers;
        use_it(&mut computers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn applied(self, applied: Applied) -> BoxFuture<'static, Aftermath> {
        async move {
            let _turn = self.inner.turn.lock().await;
            let machine = applied.machine.as_str();
            if applied.removal {
                self.removed(machine).await;
                return Aftermath::Done;
            }
            let Some(cluster) = applied.cluster() else {
                return Aftermath::Done;
            };
            let asked = asked(machine, &cluster);
            let fate = self.lock(|computers| computers.apply(machine, asked, &applied.git_repo));
            if fate == Fate::Comes {
                self.come_up(machine).await;
                return Aftermath::Done;
            }
            self.show(machine).await;
            if fate == Fate::CutOff {
                Aftermath::CutOff
            } else {
                Aftermath::Done
            }
        }
        .boxed()
    }

    /// Starts a machine if possible, and after a founding those that waited for it.
    async fn come_up(&self, machine: &str) {
        if self.try_up(machine).await {
            for other in self.lock(|computers| computers.waiting_for(machine)) {
                self.try_up(&other).await;
            }
        }
    }

    /// Tries to start a machine; returns whether it founded a cluster.
    async fn try_up(&self, machine: &str) -> bool {
        match self.lock(|computers| computers.step(machine)) {
            Step::Stays => return false,
            Step::Resumes => {}
            Step::Founds { left } => {
                // A new cluster has an empty store, so Nodes of an earlier one are deleted.
                for old in left {
                    self.inner.workload.delete_node(&self.node_name(&old)).await;
                }
                self.start(machine).await;
                return true;
            }
            Step::Joins { anew } => {
                let name = self.node_name(machine);
                let old = self.inner.workload.has_node(&name).await;
                if !anew && old.unwrap_or(false) {
                    if self.lock(|computers| computers.refuse(machine)) {
                        self.restart_until_it_joins(machine.to_owned());
                    }
                    return false;
                }
                self.lock(|computers| computers.join(machine));
            }
        }
        self.start(machine).await;
        false
    }

    async fn start(&self, machine: &str) {
        let Some((host, control_plane)) = self.lock(|computers| computers.start(machine)) else {
            return;
        };
        if control_plane {
            let kubeconfig = self.inner.workload.kubeconfig(host.api_port());
            host.put_file(KUBECONFIG_PATH, kubeconfig);
        }
        host.serve_api(control_plane);
        if control_plane && self.lock(|computers| computers.without_kubelets) {
            return;
        }
        let (ready, kubelet) = self.lock(|computers| computers.kubelet(machine));
        let node = NodeSpec {
            name: self.node_name(machine),
            ip: host.ip(),
            ready,
            control_plane: control_plane && self.inner.tenancy == Tenancy::Alone,
            kubelet,
        };
        // Errors are ignored, since the shared API server may be slow. A test that needs the Node notices if it is missing.
        let _ = self.inner.workload.set_node(&node).await;
    }

    async fn removed(&self, machine: &str) {
        let host = self.lock(|computers| computers.remove(machine));
        if let Some(host) = host {
            host.remove_file(KUBECONFIG_PATH);
        }
        self.show(machine).await;
    }

    /// Updates port and Node to the machine's state. A deleted Node is not created again.
    async fn show(&self, machine: &str) {
        self.show_port(machine);
        let (ready, kubelet) = self.lock(|computers| computers.kubelet(machine));
        let name = self.node_name(machine);
        let workload = &self.inner.workload;
        workload
            .refresh_node(&name, ready, kubelet.as_deref())
            .await;
    }

    fn show_port(&self, machine: &str) {
        let (host, serves) = self.lock(|computers| {
            let computer = computers.of(machine);
            (computer.host.clone(), computer.serves())
        });
        if let Some(host) = host {
            host.serve_api(serves);
        }
    }

    /// Retries while the machine is refused, as long as the world exists.
    fn restart_until_it_joins(&self, machine: String) {
        let weak = Arc::downgrade(&self.inner);
        runtime().spawn(async move {
            loop {
                tokio::time::sleep(RESTART).await;
                let Some(inner) = weak.upgrade() else {
                    return;
                };
                let flake = Self { inner };
                let _turn = flake.inner.turn.lock().await;
                if !flake.lock(|computers| computers.of(&machine).refused) {
                    return;
                }
                flake.come_up(&machine).await;
            }
        });
    }
}

/// What a cluster.nix requests of a machine.
fn asked(machine: &str, cluster: &Value) -> Asked {
    let text = |key: &str| cluster[key].as_str().unwrap_or_default().to_owned();
    let mut members = cluster["controlPlane"].as_array().into_iter().flatten();
    Asked {
        cluster: text("name"),
        id: text("id"),
        control_plane: members.any(|member| member["name"] == json!(machine)),
        founds: cluster["bootstrap"] == json!(machine),
    }
}
