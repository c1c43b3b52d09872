//! Nodes of the workload API server, written as kubelets would do. No kubelet runs here.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::Workload;

/// The label of control plane Nodes.
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";

/// A Node as its kubelet registers it.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Its only `InternalIP`.
    pub ip: Ipv4Addr,
    /// Whether it is Ready.
    pub ready: bool,
    /// Whether it has [`CONTROL_PLANE_LABEL`].
    pub control_plane: bool,
    /// The kubelet's version; `None`: the API server's.
    pub kubelet: Option<String>,
}

impl Workload {
    /// All Nodes.
    pub(super) fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// Creates or updates a Node. Fields that kubelets do not own (a cordon, annotations) stay.
    pub async fn set_node(&self, node: &NodeSpec) -> kube::Result<()> {
        let name = &node.name;
        let mut labels = json!({"kubernetes.io/hostname": name});
        if node.control_plane {
            labels[CONTROL_PLANE_LABEL] = json!("true");
        }
        let object = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": labels}});
        let force = PatchParams::apply("rig").force();
        self.nodes()
            .patch(name, &force, &Patch::Apply(&object))
            .await?;
        let mut status = self.condition(node.ready, node.kubelet.as_deref());
        status["status"]["addresses"] = json!([{"type": "InternalIP", "address": node.ip.to_string()},
            {"type": "Hostname", "address": name}]);
        self.nodes()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await?;
        Ok(())
    }

    /// Updates readiness and kubelet version of a Node. A missing Node is not created.
    pub async fn refresh_node(&self, name: &str, ready: bool, kubelet: Option<&str>) {
        let status = Patch::Merge(self.condition(ready, kubelet));
        let params = PatchParams::default();
        let _ = self.nodes().patch_status(name, &params, &status).await;
    }

    fn condition(&self, ready: bool, kubelet: Option<&str>) -> Value {
        let now = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let (status, reason) = if ready {
            ("True", "KubeletReady")
        } else {
            ("False", "KubeletNotReady")
        };
        json!({"status": {
            "conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "",
                "lastHeartbeatTime": now, "lastTransitionTime": now}],
            // The API server requires all of these.
            "nodeInfo": {"kubeletVersion": kubelet.unwrap_or(&self.version), "kubeProxyVersion": "",
                "architecture": "amd64", "operatingSystem": "linux", "osImage": "NixOS", "kernelVersion": "6.12.0",
                "containerRuntimeVersion": "containerd://2.1.4", "machineID": "", "systemUUID": "", "bootID": ""},
        }})
    }

    /// Whether a Node with this name exists.
    pub async fn has_node(&self, name: &str) -> kube::Result<bool> {
        Ok(self.nodes().get_opt(name).await?.is_some())
    }

    /// Deletes the Node of a machine.
    pub async fn delete_node(&self, name: &str) {
        let _ = self.nodes().delete(name, &DeleteParams::default()).await;
    }

    /// Deletes every Node with this `InternalIP`, which an earlier machine with this address may have left.
    pub async fn delete_nodes_at(&self, ip: Ipv4Addr) {
        let all = self.nodes().list(&ListParams::default()).await;
        for node in all.map(|list| list.items).unwrap_or_default() {
            if has_address(&node, &ip.to_string()) {
                self.delete_node(&node.name_any()).await;
            }
        }
    }
}

impl Workload {
    /// Deletes what a world left behind: Nodes, and the Pods and budgets of its drain tests.
    pub(super) async fn clear(&self) -> kube::Result<()> {
        let (all, now) = (
            ListParams::default(),
            DeleteParams::default().grace_period(0),
        );
        let pods: Api<Pod> = Api::all(self.client.clone());
        for pod in pods.list(&all).await? {
            let pods: Api<Pod> =
                Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
            pods.delete(&pod.name_any(), &now).await?;
        }
        let budgets: Api<PodDisruptionBudget> = Api::all(self.client.clone());
        for budget in budgets.list(&all).await? {
            let namespace = budget.namespace().unwrap_or_default();
            let budgets: Api<PodDisruptionBudget> =
                Api::namespaced(self.client.clone(), &namespace);
            budgets.delete(&budget.name_any(), &now).await?;
        }
        self.nodes().delete_collection(&now, &all).await?;
        Ok(())
    }
}

fn has_address(node: &Node, ip: &str) -> bool {
    let status = node.status.as_ref();
    let mut addresses = status
        .and_then(|status| status.addresses.as_ref())
        .into_iter();
    addresses.any(|list| list.iter().any(|entry| entry.address == ip))
}
