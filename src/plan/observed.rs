//! The snapshot that one pass works on, and the questions that the steps ask of it.

pub mod views;
mod word;

pub use crate::api::workload::{Answer, NodeView, Workload};
pub use word::{Word, node_of};

pub use views::{
    AtHand, Fetch, KnownHostsView, KubeconfigView, LedgerView, NotWorking, Rival, SecretView,
    SshKeyView, Stored, Works,
};

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::names::{CLUSTER_LABEL, FIELD_MANAGER, MANAGED_BY_LABEL, MachineName, ROLE_LABEL};
use crate::api::nio::{Generation, Machine, NixosConfiguration};
use crate::api::spec::ValidSpec;
use crate::api::status::{ClusterStatus, Role};

use super::cluster_nix::held_values;
use super::entered::Entered;
use super::patience::Clock;
use super::writes::{Child, Precondition};

/// The finalizer of a deletion that orphans (Kubernetes, "Garbage collection").
const ORPHAN_FINALIZER: &str = "orphan";

/// Where a snapshot was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// From watch caches: good for choosing whom to try.
    Cached,
    /// From the API server, just now.
    Live,
}

/// Everything that one pass needs to know.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Where it was read.
    pub evidence: Evidence,
    /// The cluster object.
    pub cluster: ClusterView,
    /// Its spec, or what is wrong with it: sentences that name the field and the mend.
    pub spec: Result<Arc<ValidSpec>, Vec<String>>,
    /// Which NIO is there; `None`: its resources are not served.
    pub nio: Option<Generation>,
    /// The ledger.
    pub ledger: LedgerView,
    /// The control plane's token.
    pub join_token: SecretView,
    /// The workers' token.
    pub worker_token: SecretView,
    /// Children of ours from which somebody took NICO's finalizer.
    pub unheld: BTreeMap<Child, Precondition>,
    /// The Secret that `credentialsRef` names; `None` where it names none.
    pub credentials: Option<SecretView>,
    /// By name: all of ours, and those that bear the name of, or name, a machine that matters here.
    pub configurations: BTreeMap<String, Arc<NixosConfiguration>>,
    /// By name: those that the spec lists, that we hold, and while a selector is short those that match it.
    pub machines: BTreeMap<MachineName, Arc<Machine>>,
    /// SSH keys of the machines that we hold or may take, as far as they were looked at.
    pub ssh_keys: BTreeMap<MachineName, SshKeyView>,
    /// By uid: other clusters of the namespace that hold a machine that matters here.
    pub rivals: BTreeMap<String, Rival>,
    /// The kubeconfig, stored and on its way.
    pub kubeconfig: KubeconfigView,
    /// The pinned host keys.
    pub known_hosts: KnownHostsView,
    /// What the cluster says of itself.
    pub word: Word,
    /// Whether it is time to ask it again.
    pub word_is_old: bool,
    /// The entry of the slot under which this plan is made; it was taken before everything else here was read.
    pub entered: Option<Entered>,
    /// Since when each clock of patience runs.
    pub since: BTreeMap<Clock, Timestamp>,
    /// An id that nobody has used: randomness enters the planner as an argument only.
    pub fresh_id: crate::api::names::ClusterId,
}

/// The cluster object, but for its spec.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// Value of the annotation `accept-quorum-loss`.
    pub accept_quorum_loss: Option<String>,
    /// Value of the annotation `force-release`.
    pub force_release: Option<String>,
    /// Status as stored, for what changed and when.
    pub status: ClusterStatus,
}

impl ClusterView {
    /// Whether a person vouches that a machine is off (SPEC 5): it is named, or `all` are while the cluster is being deleted.
    #[must_use]
    pub fn forces(&self, machine: &str) -> bool {
        let named = self.force_release.as_deref().unwrap_or_default();
        named
            .split(',')
            .map(str::trim)
            .any(|name| name == machine || (name == "all" && self.deleting))
    }

    /// The machines that a person names as being off.
    pub fn forced(&self) -> impl Iterator<Item = MachineName> {
        let named = self.force_release.as_deref().unwrap_or_default();
        named
            .split(',')
            .filter_map(|name| MachineName::parse(name.trim()))
    }

    /// Whether the deletion leaves everything behind (Kubernetes, "Garbage collection": orphaned dependents).
    #[must_use]
    pub fn is_orphaning(&self) -> bool {
        self.deleting && self.finalizers.iter().any(|it| it == ORPHAN_FINALIZER)
    }

    /// The version that a write to the cluster object insists on.
    #[must_use]
    pub fn precondition(&self) -> Precondition {
        Precondition {
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
        }
    }
}

/// Who holds a machine, as seen from one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// This cluster, in this role; `true`: its configuration is being deleted.
    Us(Role, bool),
    /// Another `KubernetesCluster`, by name and uid.
    Cluster(String, String),
    /// A configuration that no cluster owns, by name.
    Configuration(String),
}

impl Observed {
    /// Whether a configuration is ours: a controller owner reference with our uid, or one that lost it by hand (SPEC 2.3).
    #[must_use]
    pub fn is_ours(&self, configuration: &NixosConfiguration) -> bool {
        match controller(configuration) {
            Some(owner) => owner.uid == self.cluster.uid,
            None => !self.cluster.deleting && self.bears_our_marks(configuration),
        }
    }

    /// Whether a configuration has us as its controller now: only such a one is written otherwise than to be taken back.
    #[must_use]
    pub fn owns(&self, configuration: &NixosConfiguration) -> bool {
        controller(configuration).is_some_and(|owner| owner.uid == self.cluster.uid)
    }

    /// Whether a configuration bears our labels, our name and the right machine.
    fn bears_our_marks(&self, configuration: &NixosConfiguration) -> bool {
        let own = configuration.metadata.labels.as_ref();
        let name = configuration.metadata.name.as_deref();
        labels(&self.cluster.name)
            .iter()
            .all(|(key, value)| own.and_then(|own| own.get(key)) == Some(value))
            && name.is_some()
            && configuration.spec.machine() == name
    }

    /// Our configurations by machine, terminating ones included.
    pub fn members(&self) -> impl Iterator<Item = (MachineName, &Arc<NixosConfiguration>)> {
        self.configurations
            .iter()
            .filter_map(|(name, configuration)| {
                let machine = MachineName::parse(name)?;
                self.is_ours(configuration)
                    .then_some((machine, configuration))
            })
    }

    /// Our configurations of a role.
    pub fn members_of(
        &self,
        role: Role,
    ) -> impl Iterator<Item = (MachineName, &Arc<NixosConfiguration>)> {
        self.members()
            .filter(move |(_, configuration)| role_of(configuration) == role)
    }

    /// Every configuration with our uid, by name, whatever it says: what a deletion must not leave behind.
    pub fn owned(&self) -> impl Iterator<Item = (&String, &Arc<NixosConfiguration>)> {
        self.configurations
            .iter()
            .filter(|(_, configuration)| self.is_ours(configuration))
    }

    /// Who holds a machine: by a configuration of its name, or one that names it (SPEC 2.1).
    #[must_use]
    pub fn holder(&self, machine: &MachineName) -> Holder {
        let mut holder = Holder::Nobody;
        for (name, configuration) in &self.configurations {
            if name != machine.as_str() && configuration.spec.machine() != Some(machine.as_str()) {
                continue;
            }
            let found = if self.is_ours(configuration) {
                Holder::Us(
                    role_of(configuration),
                    configuration.metadata.deletion_timestamp.is_some(),
                )
            } else {
                match controller(configuration) {
                    Some(owner) if owner.kind == "KubernetesCluster" => {
                        Holder::Cluster(owner.name.clone(), owner.uid.clone())
                    }
                    _ => Holder::Configuration(name.clone()),
                }
            };
            // A foreign configuration beside ours matters more: the machine is not ours alone.
            if !matches!(found, Holder::Us(..)) {
                return found;
            }
            holder = found;
        }
        holder
    }

    /// Machines that configurations which are not ours name, or whose name they bear, with such a configuration: what we hold of
    /// them is not ours alone, and is not written (INVARIANTS I2).
    #[must_use]
    pub fn contested(&self) -> BTreeMap<&str, &str> {
        let foreign = self
            .configurations
            .iter()
            .filter(|(_, configuration)| !self.is_ours(configuration));
        foreign
            .flat_map(|(name, configuration)| {
                let named = configuration.spec.machine();
                [Some(name.as_str()), named].map(|machine| Some((machine?, name.as_str())))
            })
            .flatten()
            .collect()
    }

    /// Whether a Machine exists and NIO can reach it.
    #[must_use]
    pub fn discoverable(&self, machine: &MachineName) -> bool {
        self.machines
            .get(machine)
            .and_then(|machine| machine.status.as_ref())
            .is_some_and(|status| status.discoverable)
    }

    /// How long a clock of patience has run; zero where it has just started.
    #[must_use]
    pub fn elapsed(&self, clock: &Clock, now: Timestamp) -> std::time::Duration {
        self.since
            .get(clock)
            .and_then(|since| std::time::Duration::try_from(now.duration_since(*since)).ok())
            .unwrap_or_default()
    }
}

/// The controller owner reference of a configuration.
#[must_use]
pub fn controller(
    configuration: &NixosConfiguration,
) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference> {
    configuration
        .metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// The role of one of our configurations, by its label and by whether it is given the workers' token (SPEC 3.2). Either can be
/// changed by hand: where they do not agree, what its cluster.nix says of it decides, and the control plane where that says nothing.
#[must_use]
pub fn role_of(configuration: &NixosConfiguration) -> Role {
    let labels = configuration.metadata.labels.as_ref();
    let label = labels
        .and_then(|labels| labels.get(ROLE_LABEL))
        .and_then(|role| Role::parse(role));
    let by_files = if configuration.spec.file("worker-token").is_some() {
        Role::ControlPlane
    } else {
        Role::Worker
    };
    match label {
        Some(label) if label == by_files => label,
        None if by_files == Role::ControlPlane => by_files,
        _ => told_role(configuration).unwrap_or(if label.is_some() {
            Role::ControlPlane
        } else {
            by_files
        }),
    }
}

/// In which list its own cluster.nix has a machine.
fn told_role(configuration: &NixosConfiguration) -> Option<Role> {
    let values = held_values(configuration)?;
    let name = configuration.metadata.name.as_deref()?;
    let lists = [
        (Role::ControlPlane, &values.control_plane),
        (Role::Worker, &values.workers),
    ];
    let mut lists = lists.into_iter();
    lists
        .find(|(_, nodes)| nodes.iter().any(|node| node.name == name))
        .map(|(role, _)| role)
}

/// The version that a write to a configuration insists on.
#[must_use]
pub fn precondition(configuration: &NixosConfiguration) -> Precondition {
    Precondition {
        uid: configuration.metadata.uid.clone().unwrap_or_default(),
        resource_version: configuration
            .metadata
            .resource_version
            .clone()
            .unwrap_or_default(),
    }
}

/// The labels of every child (SPEC 3.2).
#[must_use]
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY_LABEL.to_owned(), FIELD_MANAGER.to_owned()),
        (CLUSTER_LABEL.to_owned(), cluster.to_owned()),
    ])
}
