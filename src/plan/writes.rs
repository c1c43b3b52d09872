//! The parts of writes: preconditions, the bodies of configurations, and the children.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use serde_json::Value;

use crate::api::names::{
    MachineName, Marker, join_token_name, known_hosts_name, kubeconfig_name, ledger_name,
    worker_token_name,
};
use crate::api::status::Role;

use super::cluster_nix::ClusterNix;
use super::desired::First;

/// One token Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token {
    /// `<cluster>-join-token`, for the control plane.
    Join,
    /// `<cluster>-worker-token`, for workers.
    Worker,
}

/// The precondition of a write: the version of the object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Precondition {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
}

impl Precondition {
    /// The version of an object as it was read.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// A configuration to create.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The machine, and so the configuration's name.
    pub machine: MachineName,
    /// Its role.
    pub role: Role,
    /// The attempt in its marker.
    pub marker: Marker,
    /// The complete object, without the fields that the API server sets.
    pub body: First,
}

impl Claim {
    /// Whether the machine founds the cluster.
    #[must_use]
    pub fn founds(&self) -> bool {
        self.body.target.nix.bootstrap.as_deref() == Some(self.machine.as_str())
    }
}

/// The update of a configuration. cluster.nix lists every machine, so its text is rendered only when it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// The JSON, without the text of the first additional file.
    pub(super) rest: Value,
    /// The values of that text.
    pub(super) nix: Arc<ClusterNix>,
}

impl Body {
    /// The complete JSON.
    #[must_use]
    pub fn render(&self) -> Value {
        with_text(self.rest.clone(), &self.nix)
    }
}

/// The JSON of a configuration, with the text of its first additional file.
pub(super) fn with_text(mut rest: Value, nix: &ClusterNix) -> Value {
    if let Some(text) = rest.pointer_mut("/spec/additionalFiles/0/inline") {
        *text = Value::String(nix.render());
    }
    rest
}

/// The update of a configuration: a merge patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    /// The machine.
    pub machine: MachineName,
    /// Its precondition.
    pub version: Precondition,
    /// The attempt in its marker.
    pub marker: Marker,
    /// Fields and annotations; null removes one.
    pub body: Body,
}

/// Which kubeconfig is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first one: the machines are read again and again until one has it.
    First,
    /// A replacement for one that no longer works. Each machine is read once, as for the variants below.
    Any,
    /// One that works.
    Working,
    /// One that works, and whose client certificate expires after this time.
    Later(jiff::Timestamp),
}

/// A child that is deleted with the cluster, in the order of deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Child {
    /// `<cluster>-join-token`.
    JoinToken,
    /// `<cluster>-worker-token`.
    WorkerToken,
    /// `<cluster>-kubeconfig`.
    Kubeconfig,
    /// `<cluster>-known-hosts`.
    KnownHosts,
    /// `<cluster>-nico`, the last of all.
    Ledger,
}

impl From<Token> for Child {
    fn from(token: Token) -> Self {
        match token {
            Token::Join => Self::JoinToken,
            Token::Worker => Self::WorkerToken,
        }
    }
}

impl Child {
    /// Its kind and name, for a cluster with that name.
    #[must_use]
    pub fn named(self, cluster: &str) -> String {
        let (kind, name) = match self {
            Self::JoinToken => ("Secret", join_token_name(cluster)),
            Self::WorkerToken => ("Secret", worker_token_name(cluster)),
            Self::Kubeconfig => ("Secret", kubeconfig_name(cluster)),
            Self::KnownHosts => ("ConfigMap", known_hosts_name(cluster)),
            Self::Ledger => ("ConfigMap", ledger_name(cluster)),
        };
        format!("{kind} {name}")
    }

    /// All children but the configurations, in the order of their deletion.
    pub const ALL: [Self; 5] = [
        Self::JoinToken,
        Self::WorkerToken,
        Self::Kubeconfig,
        Self::KnownHosts,
        Self::Ledger,
    ];
}
