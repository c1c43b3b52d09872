//! Builders of specs and machines.

use std::collections::BTreeMap;

use nico::api::names::MachineName;
use nico::api::nio::{Machine, MachineSpec, MachineStatus, SecretRef};
use nico::api::parsed::Parsed;
use serde_json::{Value, json};

/// A builder for a spec.
#[derive(Clone)]
pub struct ClusterBuilder(pub Value);

pub fn cluster() -> ClusterBuilder {
    ClusterBuilder(json!({ "gitRepo": "https://example.com/flake.git", "controlPlane": {} }))
}

impl ClusterBuilder {
    pub fn control_plane<const N: usize>(mut self, machines: [&str; N]) -> Self {
        self.0["controlPlane"] = json!({ "machines": machines.as_slice() });
        self
    }

    pub fn workers<const N: usize>(mut self, machines: [&str; N]) -> Self {
        self.0["dataPlane"] = json!({ "machines": machines.as_slice() });
        self
    }

    /// Selects the control plane by the label `role=cp`.
    pub fn select_control_plane(mut self, count: usize) -> Self {
        self.0["controlPlane"] = selected("cp", count);
        self
    }

    /// Selects workers by the label `role=worker`.
    pub fn select_workers(mut self, count: usize) -> Self {
        self.0["dataPlane"] = selected("worker", count);
        self
    }

    pub fn set(mut self, field: &str, value: Value) -> Self {
        self.0[field] = value;
        self
    }
}

pub fn selected(role: &str, count: usize) -> Value {
    json!({ "machineSelector": { "matchLabels": { "role": role } }, "count": count })
}

/// A builder for a machine. By default it is discoverable and free, and has a key and an address.
#[derive(Clone)]
pub struct MachineBuilder {
    pub name: MachineName,
    pub object: Machine,
    pub key: bool,
}

pub fn machine(name: &str) -> MachineBuilder {
    let mut object = Machine {
        spec: MachineSpec {
            ip_address: Some(Parsed::of(&format!("ip-of-{name}"))),
            hostname: Some(Parsed::of(name)),
            ssh_key_secret_ref: Some(SecretRef {
                name: Some(Parsed::of(&format!("ssh-{name}"))),
                namespace: Some(Parsed::of("default")),
            }),
            ..MachineSpec::default()
        },
        status: Some(MachineStatus {
            discoverable: true,
            ..MachineStatus::default()
        }),
        ..Machine::default()
    };
    object.metadata.name = Some(name.to_owned());
    MachineBuilder {
        name: MachineName::parse(name).unwrap(),
        object,
        key: true,
    }
}

impl MachineBuilder {
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.object
            .metadata
            .labels
            .get_or_insert_default()
            .insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds the label of the control plane's selector.
    pub fn cp(self) -> Self {
        self.label("role", "cp")
    }

    /// Adds the label of the workers' selector.
    pub fn worker(self) -> Self {
        self.label("role", "worker")
    }

    pub fn undiscoverable(mut self) -> Self {
        self.object.status = Some(MachineStatus::default());
        self
    }

    /// NIO reports that it has a configuration.
    pub fn configured(mut self) -> Self {
        self.object.status.get_or_insert_default().has_configuration = true;
        self
    }

    pub fn released(mut self) -> Self {
        self.object.metadata.annotations = Some(BTreeMap::from([(
            "nico.homystack.com/release".to_owned(),
            "true".to_owned(),
        )]));
        self
    }

    pub fn without_address(mut self) -> Self {
        (self.object.spec.ip_address, self.object.spec.hostname) = (None, None);
        self
    }

    pub fn without_key(mut self) -> Self {
        self.key = false;
        self
    }
}
