//! What writes are made of: the versions that they insist on, the bodies of configurations, and the children that they go to.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use serde_json::Value;

use crate::api::names::{
    MachineName, Marker, join_token_name, known_hosts_name, kubeconfig_name, ledger_name,
    worker_token_name,
};
use crate::api::status::Role;

use super::cluster_nix::ClusterNix;

/// One token Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token {
    /// `<cluster>-join-token`, for the control plane.
    Join,
    /// `<cluster>-worker-token`, for workers.
    Worker,
}

/// The version of an object that a write insists on.
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

/// A configuration as it is to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The machine, and so the configuration's name.
    pub machine: MachineName,
    /// Its role.
    pub role: Role,
    /// The attempt that it names.
    pub marker: Marker,
    /// The whole object, but for what the API server fills in.
    pub body: Body,
}

/// What is written of a configuration. cluster.nix lists every machine, so its text is made when it is written: a plan may claim 1,100
/// machines at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// All of it as JSON; the first additional file lacks its text.
    pub(super) rest: Value,
    /// What that text says.
    pub(super) nix: ClusterNix,
}

impl Body {
    /// All of it as JSON.
    #[must_use]
    pub fn render(&self) -> Value {
        let mut whole = self.rest.clone();
        let text = whole.pointer_mut("/spec/additionalFiles/0/inline");
        if let Some(text) = text {
            *text = Value::String(self.nix.render());
        }
        whole
    }
}

/// A configuration that is written again: a merge patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    /// The machine.
    pub machine: MachineName,
    /// The version that it rests on.
    pub version: Precondition,
    /// The attempt that it names.
    pub marker: Marker,
    /// Fields and annotations; null for what is to be absent.
    pub body: Body,
}

/// Which kubeconfig is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first one: the machines are asked again and again until one has it.
    First,
    /// One to replace another that is of no use any more. Each machine is asked once, here and below.
    Any,
    /// One that works.
    Working,
    /// One that works, and whose client certificate ends later than then.
    Later(jiff::Timestamp),
}

/// A child that the cluster's deletion takes away, in the order of deletion.
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
    /// Its kind and name, for a cluster of that name.
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
