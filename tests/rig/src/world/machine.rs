//! The machines of a world: a host, its Machine object and the Secret with its SSH key.

use std::collections::BTreeMap;

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::World;
use crate::crds::Generation;
use crate::deploy;
use crate::machines::{HostOptions, MachineHost};

/// The specification of a machine.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    name: String,
    labels: BTreeMap<String, String>,
    discoverable: bool,
}

impl MachineSpec {
    /// A machine of this name, discoverable, without labels.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            discoverable: true,
        }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Makes it unreachable for NIO until the test changes its knob.
    #[must_use]
    pub fn undiscoverable(mut self) -> Self {
        self.discoverable = false;
        self
    }
}

impl World {
    /// Creates a discoverable machine: its host, its Machine object, and the Secret `ssh-<name>` with only its key.
    pub async fn machine(&self, name: &str) -> MachineHost {
        self.machine_with(MachineSpec::new(name)).await
    }

    /// Creates several machines.
    pub async fn machines_named(&self, names: &[&str]) -> Vec<MachineHost> {
        let made = names.iter().map(|name| self.machine(name));
        futures::future::join_all(made).await
    }

    /// Creates a machine by its specification.
    pub async fn machine_with(&self, spec: MachineSpec) -> MachineHost {
        let workload = self.flake.workload();
        let options = HostOptions::new(&self.key).api_target(workload.address());
        let host = self.environment.pool.host(options).await;
        // An earlier machine with this address may have left Nodes.
        workload.delete_nodes_at(host.ip()).await;
        self.flake.add(&spec.name, host.clone());
        self.machine_objects(&spec, &host.ip().to_string()).await;
        host
    }

    /// Creates the objects of a machine at this address without a host, for tests without log-ins.
    pub async fn machine_objects(&self, spec: &MachineSpec, ip: &str) {
        let (name, namespace) = (&spec.name, &self.namespace);
        self.nio
            .set(name, |knobs| knobs.unreachable = !spec.discoverable);
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("ssh-{name}")},
            "stringData": {"ssh-privatekey": self.key.private_pem()}});
        let key = format!("ssh-{name}");
        let (machine, status) = match self.nio.generation() {
            Generation::Classic => (
                json!({"hostname": name, "ipAddress": ip, "sshUser": "nixos",
                    "sshKeySecretRef": {"name": key, "namespace": namespace}}),
                json!({"discoverable": spec.discoverable, "hasConfiguration": false}),
            ),
            // v1 omits false fields.
            Generation::V1 => (
                json!({"host": ip, "sshUser": "nixos", "sshKeySecretRef": {"name": key}}),
                json!({"discoverable": spec.discoverable.then_some(true)}),
            ),
        };
        let machine = json!({"apiVersion": "nio.homystack.com/v1alpha1", "kind": "Machine",
            "metadata": {"name": name, "labels": spec.labels}, "spec": machine});
        for object in [secret, machine] {
            deploy::apply_value(&self.client, namespace, object)
                .await
                .expect("a machine's objects can be made");
        }
        let status = json!({ "status": status });
        self.machines()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .expect("a machine's status can be written");
    }
}
