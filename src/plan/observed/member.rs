//! A configuration of the cluster, and its content. NIO's proof is in `confirmed.rs`.

use std::sync::Arc;

use jiff::Timestamp;

use crate::api::names::{MachineName, REWRITTEN_ANNOTATION, ROLE_LABEL, WRITTEN_ANNOTATION};
use crate::api::nio::{Generation, Job, Machine, NixosConfiguration};
use crate::api::status::Role;
use crate::plan::cluster_nix::{Values, held_values};
use crate::plan::writes::Precondition;

/// The file with a machine's SSH key.
pub const MACHINE_SSH_KEY: &str = "machine-ssh-key";
/// The file with the workers' token, on the control plane.
pub const WORKER_TOKEN: &str = "worker-token";

/// A configuration of the cluster.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// Its name, which is also the name of its machine.
    pub name: MachineName,
    /// Its role: see [`role`].
    pub(super) role: Role,
    /// Its Machine, if it exists.
    pub machine: Option<&'a Machine>,
    /// The object.
    pub held: &'a NixosConfiguration,
    /// Whether the cluster is its controller now. If not, the only write to it restores the owner.
    pub controlled: bool,
    /// The generation of NIO that applies it.
    pub nio: Option<Generation>,
    /// The Jobs that apply it, if NIO applies by Jobs.
    pub jobs: &'a [Arc<Job>],
}

impl<'a> Member<'a> {
    /// Reads any configuration; `None` if its name is not a valid machine name.
    #[must_use]
    pub fn of(held: &'a NixosConfiguration) -> Option<Self> {
        let name = MachineName::parse(held.metadata.name.as_deref()?)?;
        Some(Self {
            role: role(name.as_str(), held),
            name,
            machine: None,
            held,
            controlled: false,
            nio: None,
            jobs: &[],
        })
    }

    /// The precondition of a write to it.
    #[must_use]
    pub fn version(&self) -> Precondition {
        Precondition::of(&self.held.metadata)
    }

    /// Whether it is being deleted.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.held.metadata.deletion_timestamp.is_some()
    }

    /// Whether NIO can reach its machine.
    #[must_use]
    pub fn is_discoverable(&self) -> bool {
        let status = self.machine.and_then(|machine| machine.status.as_ref());
        status.is_some_and(|status| status.discoverable)
    }

    pub(in crate::plan) fn annotation(&self, name: &str) -> Option<&'a str> {
        let annotations = self.held.metadata.annotations.as_ref()?;
        annotations.get(name).map(String::as_str)
    }

    /// When it was last written, by its annotation.
    #[must_use]
    pub fn written(&self) -> Option<Timestamp> {
        self.annotation(WRITTEN_ANNOTATION)?.parse().ok()
    }

    /// When it was created.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        let created = self.held.metadata.creation_timestamp.as_ref();
        created.map(|time| time.0)
    }

    /// When it was written over an attempt that was not confirmed; `None` if it was not, or if the time is unknown.
    #[must_use]
    pub fn rewritten(&self) -> Option<Option<Timestamp>> {
        let rewritten = self.annotation(REWRITTEN_ANNOTATION)?;
        Some(rewritten.parse().ok())
    }

    /// The values of its cluster.nix; `None` if NICO did not write it.
    #[must_use]
    pub fn values(&self) -> Option<&'a Values> {
        held_values(self.held)
    }

    /// The Secret with the SSH key that its machine gets.
    #[must_use]
    pub fn key_secret(&self) -> Option<&'a str> {
        self.held.spec.file(MACHINE_SSH_KEY)?.secret()?.as_str()
    }

    /// Its role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }
}

/// The role of a machine, by the label of its configuration and by whether it gets the workers' token. Users can change either. If the two
/// disagree, the machine's cluster.nix decides; if that does not list the machine, it counts as control plane.
pub(super) fn role(machine: &str, held: &NixosConfiguration) -> Role {
    let labels = held.metadata.labels.as_ref();
    let label = labels
        .and_then(|labels| labels.get(ROLE_LABEL))
        .and_then(|role| Role::parse(role));
    let by_files = if held.spec.file(WORKER_TOKEN).is_some() {
        Role::ControlPlane
    } else {
        Role::Worker
    };
    match label {
        Some(label) if label == by_files => label,
        None if by_files == Role::ControlPlane => by_files,
        _ => listed_role(machine, held).unwrap_or(if label.is_some() {
            Role::ControlPlane
        } else {
            by_files
        }),
    }
}

/// The list of its own cluster.nix that contains the machine.
fn listed_role(machine: &str, held: &NixosConfiguration) -> Option<Role> {
    let values = held_values(held)?;
    let lists = [
        (Role::ControlPlane, &values.control_plane),
        (Role::Worker, &values.workers),
    ];
    let mut lists = lists.into_iter();
    lists
        .find(|(_, nodes)| nodes.iter().any(|node| node.name == machine))
        .map(|(role, _)| role)
}
