//! The cluster that the machines make up: one more real API server, which all machines of a test binary share, and the flake's
//! part of a bring-up: what a machine does once NIO has applied a configuration to it.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the rig stops with a sentence where it cannot go on"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::control_plane::{self, ControlPlane, Options};
use crate::machines::{MachineHost, all_addresses};
use crate::nio::{Applied, Hook};

/// Where k3s writes its admin kubeconfig, the first place at which NICO looks.
pub const KUBECONFIG_PATH: &str = "/etc/rancher/k3s/k3s.yaml";

/// The workload API server.
pub struct Workload {
    control_plane: ControlPlane,
    client: Client,
    address: SocketAddr,
}

impl Workload {
    /// Starts one; its certificate covers every machine's address.
    ///
    /// Call it on the rig's runtime, so that its client outlives a test.
    pub async fn start() -> Self {
        Self::try_start()
            .await
            .expect("the workload's control plane starts")
    }

    /// As [`Workload::start`], with the reason where there is none.
    pub async fn try_start() -> Result<Self, control_plane::Error> {
        let options = Options {
            extra_sans: all_addresses(),
            ..Options::default()
        };
        let control_plane = ControlPlane::start(options).await?;
        let port = control_plane
            .url()
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        let address = (
            Ipv4Addr::LOCALHOST,
            port.expect("the API server's URL names its port"),
        );
        let client = control_plane.client();
        Ok(Self {
            control_plane,
            client,
            address: address.into(),
        })
    }

    /// Where the API server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The control plane itself.
    #[must_use]
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// The administrator's kubeconfig as k3s writes it on a machine: the server is loopback at the machine's API port, the rest
    /// is embedded.
    #[must_use]
    pub fn kubeconfig(&self, api_port: u16) -> String {
        let text = self.control_plane.admin_kubeconfig();
        let mut config: Value = serde_yaml::from_str(text).expect("our own kubeconfig parses");
        config["clusters"][0]["name"] = json!("default");
        config["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{api_port}"));
        config["users"][0]["name"] = json!("default");
        config["contexts"] =
            json!([{"name": "default", "context": {"cluster": "default", "user": "default"}}]);
        config["current-context"] = json!("default");
        serde_yaml::to_string(&config).expect("a kubeconfig can be written")
    }

    /// Makes the Node of a machine, or changes it: its address, and whether it is Ready.
    pub async fn set_node(&self, name: &str, ip: Ipv4Addr, ready: bool) -> kube::Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        let force = PatchParams::apply("rig").force();
        nodes.patch(name, &force, &Patch::Apply(&node)).await?;
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": ip.to_string()}, {"type": "Hostname", "address": name}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
                "reason": "KubeletReady", "message": "",
                "lastHeartbeatTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}],
        }});
        nodes
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await?;
        Ok(())
    }

    /// Deletes the Node of a machine.
    pub async fn delete_node(&self, name: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let _ = nodes.delete(name, &DeleteParams::default()).await;
    }
}

/// A machine that founded a cluster: it found its own name under `bootstrap`, and had no data of that `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// The cluster's name in cluster.nix.
    pub cluster: String,
    /// The founding's id in cluster.nix.
    pub id: String,
    /// The machine.
    pub machine: String,
}

/// The flake: what machines make of their cluster.nix. The kubeconfig lies on a control plane machine, and its Node is Ready,
/// once the machine founded a cluster or joined one that was founded.
#[derive(Clone)]
pub struct Flake {
    workload: Arc<Workload>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    hosts: BTreeMap<String, MachineHost>,
    /// The cluster's name and the id whose data lie on a machine.
    data: BTreeMap<String, (String, String)>,
    foundings: Vec<Founding>,
    splits: Vec<Founding>,
    /// Machines that wait for the founding of an id, with whether they are of the control plane.
    waiting: BTreeMap<String, (String, bool)>,
    /// Machines that do not come up, though NIO's apply succeeds.
    dead: BTreeSet<String>,
}

impl Flake {
    /// A flake whose clusters are served by `workload`.
    #[must_use]
    pub fn new(workload: Arc<Workload>) -> Self {
        Self {
            workload,
            state: Arc::default(),
        }
    }

    /// Makes a machine known by the name that its Machine object has.
    pub fn add(&self, name: &str, host: MachineHost) {
        self.lock(|state| drop(state.hosts.insert(name.to_owned(), host)));
    }

    /// Whether a machine's units fail to come up, whatever is applied: it founds nothing, joins nothing, and serves nothing.
    pub fn dead(&self, machine: &str, dead: bool) {
        self.lock(|state| {
            if dead {
                state.dead.insert(machine.to_owned());
            } else {
                state.dead.remove(machine);
            }
        });
    }

    /// Every cluster that machines founded, in order: two for one name and id, or two ids alive under one name, are a split.
    #[must_use]
    pub fn foundings(&self) -> Vec<Founding> {
        self.lock(|state| state.foundings.clone())
    }

    /// Foundings of a cluster that lived already: another machine had data of that name (I14).
    #[must_use]
    pub fn splits(&self) -> Vec<Founding> {
        self.lock(|state| state.splits.clone())
    }

    /// The hook for NIO's stand-in.
    #[must_use]
    pub fn hook(&self) -> Hook {
        let flake = self.clone();
        Arc::new(move |applied| flake.clone().applied(applied))
    }

    fn lock<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn applied(self, applied: Applied) -> BoxFuture<'static, ()> {
        async move {
            if applied.removal {
                self.removed(&applied.machine).await;
                return;
            }
            let Some(cluster) = applied.cluster() else {
                return;
            };
            for (machine, control_plane) in self.decide(&applied.machine, &cluster) {
                self.come_up(&machine, control_plane).await;
            }
        }
        .boxed()
    }

    /// Which machines come up because of this apply: the machine itself, and with a founder those that waited for it.
    fn decide(&self, machine: &str, cluster: &Value) -> Vec<(String, bool)> {
        let id = cluster["id"].as_str().unwrap_or_default().to_owned();
        let control_plane = cluster["controlPlane"].as_array().is_some_and(|members| {
            members
                .iter()
                .any(|member| member["name"] == json!(machine))
        });
        self.lock(|state| {
            if state.dead.contains(machine) {
                return vec![];
            }
            let name = cluster["name"].as_str().unwrap_or_default().to_owned();
            let data = (name.clone(), id.clone());
            let founds = cluster["bootstrap"] == json!(machine);
            if founds && state.data.get(machine) != Some(&data) {
                let founding = Founding {
                    cluster: name.clone(),
                    id: id.clone(),
                    machine: machine.to_owned(),
                };
                let mut others = state.data.iter().filter(|(other, _)| *other != machine);
                if others.any(|(_, (other, _))| *other == name) {
                    state.splits.push(founding.clone());
                }
                state.foundings.push(founding);
            }
            let founded = state.foundings.iter().any(|founding| founding.id == id);
            if !founded {
                state
                    .waiting
                    .insert(machine.to_owned(), (id, control_plane));
                return vec![];
            }
            state.data.insert(machine.to_owned(), data.clone());
            let mut up = vec![(machine.to_owned(), control_plane)];
            let waited: Vec<_> = state
                .waiting
                .iter()
                .filter(|(_, (other, _))| *other == id)
                .collect();
            up.extend(
                waited
                    .into_iter()
                    .map(|(name, (_, role))| (name.clone(), *role)),
            );
            for (name, _) in &up {
                state.waiting.remove(name);
                state.data.insert(name.clone(), data.clone());
            }
            up
        })
    }

    async fn come_up(&self, machine: &str, control_plane: bool) {
        let Some(host) = self.lock(|state| state.hosts.get(machine).cloned()) else {
            return;
        };
        if control_plane {
            host.put_file(KUBECONFIG_PATH, self.workload.kubeconfig(host.api_port()));
        }
        // The shared API server may be slow; a Node that is not made shows in the test that looks for it.
        let _ = self.workload.set_node(machine, host.ip(), true).await;
    }

    async fn removed(&self, machine: &str) {
        let host = self.lock(|state| {
            state.data.remove(machine);
            state.waiting.remove(machine);
            state.hosts.get(machine).cloned()
        });
        if let Some(host) = host {
            host.remove_file(KUBECONFIG_PATH);
            let _ = self.workload.set_node(machine, host.ip(), false).await;
        }
    }
}
