//! The machines of the sandbox: an SSH server each, a Machine object, and the Secret with its key.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use rig::machines::{HostOptions, KeyPair, MachineHost, MachinePool};
use rig::nio::Nio;
use rig::workload::Flake;
use rig::{crds, deploy};
use serde_json::{Value, json};

use crate::Failure;
use crate::management::Management;
use crate::session::APPLY;

/// Names and the label `role`. Five are for the cluster of the sandbox, two are left to play with.
const MACHINES: [(&str, Option<&str>); 7] = [
    ("cp-01", Some("control-plane")),
    ("cp-02", Some("control-plane")),
    ("cp-03", Some("control-plane")),
    ("worker-01", Some("worker")),
    ("worker-02", Some("worker")),
    ("worker-03", Some("worker")),
    ("edge-01", None),
];
/// By how much each takes longer than the one before it, so that one sees them come up one after the other.
const STEP: Duration = Duration::from_millis(400);

/// The running machines; they end with this.
pub(crate) struct Machines {
    hosts: Vec<(&'static str, MachineHost)>,
}

impl Machines {
    /// One line that names them.
    pub(crate) fn line(&self) -> String {
        let all: Vec<String> = self
            .hosts
            .iter()
            .map(|(name, host)| format!("{name} {}", host.ip()))
            .collect();
        format!("machines: {}", all.join(", "))
    }
}

/// Starts the machines and makes their objects.
pub(crate) async fn make(
    management: &Management,
    pool: &Arc<MachinePool>,
    flake: &Flake,
    nio: &Nio,
    one_by_one: bool,
) -> Result<Machines, Failure> {
    let key = KeyPair::generate();
    let mut hosts = vec![];
    let mut delay = Duration::ZERO;
    for (name, role) in MACHINES {
        let host = pool.host(HostOptions::new(&key)).await;
        flake.add(name, host.clone());
        if one_by_one {
            delay += STEP;
            nio.set(name, |knobs| knobs.delay = Some(APPLY + delay));
        }
        objects(management, name, role, &host, &key).await?;
        hosts.push((name, host));
    }
    Ok(Machines { hosts })
}

async fn objects(
    management: &Management,
    name: &str,
    role: Option<&str>,
    host: &MachineHost,
    key: &KeyPair,
) -> Result<(), Failure> {
    let (client, namespace) = (management.client(), management.namespace());
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("ssh-{name}")},
        "stringData": {"ssh-privatekey": key.private_pem()}});
    let labels: Value = role.map_or_else(|| json!({}), |role| json!({"role": role}));
    let machine = json!({"apiVersion": "nio.homystack.com/v1alpha1", "kind": "Machine",
        "metadata": {"name": name, "labels": labels},
        "spec": {"hostname": name, "ipAddress": host.ip().to_string(), "sshUser": "nixos",
            "sshKeySecretRef": {"name": format!("ssh-{name}"), "namespace": namespace}}});
    for object in [secret, machine] {
        deploy::apply_value(client, namespace, object).await?;
    }
    let status = json!({"status": {"discoverable": true, "hasConfiguration": false}});
    crds::machines(client, namespace)
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await?;
    Ok(())
}
