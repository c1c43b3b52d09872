//! The snapshot on which one pass works, and queries on it.

mod configurations;
mod left;
mod member;
mod roster;
pub mod views;
mod workload;

pub use crate::api::workload::{Answer, NodeView, Nodes, Workload};
pub use configurations::Configurations;
pub use left::{Left, PAUSE, left_by};
use member::role;
pub use member::{MACHINE_SSH_KEY, Member, WORKER_TOKEN};
pub use roster::Roster;
pub use workload::WorkloadHealth;

pub use views::{
    AtHand, ClusterView, ControlPlaneHosts, Fetch, GitAnswer, GitQuestion, HostKeys,
    KnownHostsView, KubeconfigView, LedgerView, NotWorking, Rival, SecretView, SshKeyView, Stored,
    Works, force_release_names,
};

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::ledger::Entry;
use crate::api::names::{CLUSTER_LABEL, ClusterId, FIELD_MANAGER, MANAGED_BY_LABEL, MachineName};
use crate::api::nio::{Generation, Job, Machine, NixosConfiguration};
use crate::api::spec::ValidSpec;
use crate::api::status::Role;

use super::entered::Entered;
use super::patience::Clock;
use super::writes::{Child, Precondition};

/// Jobs by the uid of the configuration that they apply.
pub type Jobs = BTreeMap<String, Vec<Arc<Job>>>;

/// The input of the planner in one pass.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The cluster object.
    pub cluster: ClusterView,
    /// Its spec, or its errors: sentences that name the field and say how to correct it.
    pub spec: Result<Arc<ValidSpec>, Vec<String>>,
    /// Whether everything on which `Ready` depends was read from the API server for this pass, and not from a cache.
    pub live: bool,
    /// The installed generation of NIO; `None` if its resources are not served.
    pub nio: Option<Generation>,
    /// The ledger.
    pub ledger: LedgerView,
    /// The control plane's token.
    pub join_token: SecretView,
    /// The workers' token.
    pub worker_token: SecretView,
    /// Children from which NICO's finalizer was removed.
    pub without_finalizer: BTreeMap<Child, Precondition>,
    /// Objects that an earlier cluster of this name left behind.
    pub left: Left,
    /// The Secret that `credentialsRef` names; `None` if it is not set.
    pub credentials: Option<SecretView>,
    /// By name: those of this cluster, and those that have the name of a relevant machine or refer to one.
    pub configurations: Arc<Configurations>,
    /// The Jobs of its configurations, if NIO applies by Jobs.
    pub jobs: Arc<Jobs>,
    /// By name: those that the spec lists, members, and candidates of a selector that needs more machines.
    pub machines: BTreeMap<MachineName, Arc<Machine>>,
    /// By name: those that match a selector but cannot be members, because their names are not DNS labels.
    pub misnamed: BTreeMap<String, Arc<Machine>>,
    /// SSH keys of members and candidates, as far as they were read.
    pub ssh_keys: BTreeMap<MachineName, SshKeyView>,
    /// By uid: other clusters of the namespace that use a relevant machine.
    pub rivals: BTreeMap<String, Rival>,
    /// The kubeconfig: the stored one, and the fetch.
    pub kubeconfig: KubeconfigView,
    /// The pinned host keys.
    pub known_hosts: KnownHostsView,
    /// The last question to the git server, and its answer.
    pub resolved: Option<GitAnswer>,
    /// The health that the cluster's own API reports.
    pub workload: WorkloadHealth,
    /// Whether it is due to be read again.
    pub workload_is_old: bool,
    /// Whether Nodes were listed and none belongs to the control plane: see [`Self::has_no_control_plane_node`].
    pub(super) control_plane_has_no_nodes: bool,
    /// The entries of the slot under which this plan is made. They were taken in one write, before everything else here was read.
    pub entered: Vec<Entered>,
    /// When each clock of patience started.
    pub since: BTreeMap<Clock, Timestamp>,
    /// An unused id: randomness enters the planner only as input.
    pub fresh_id: ClusterId,
    /// The members among `configurations`.
    pub(super) roster: Roster,
    /// The machines by canonical address, once it was computed.
    pub(super) by_address: OnceLock<BTreeMap<String, Vec<MachineName>>>,
}

/// Which party uses a machine, as seen from one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The machine is free.
    Nobody,
    /// This cluster, in this role; `true`: its configuration is being deleted.
    Us(Role, bool),
    /// Another `KubernetesCluster`, by name and uid.
    Cluster(String, String),
    /// A configuration without a cluster, by name.
    Configuration(String),
}

impl Observed {
    /// Whether the cluster is the controller of a configuration now.
    #[must_use]
    pub fn controls(&self, configuration: &NixosConfiguration) -> bool {
        controller(&configuration.metadata).is_some_and(|owner| owner.uid == self.cluster.uid)
    }

    /// Whether a configuration belongs to the cluster. It is its controller, or was until a user removed the owner: then NICO's labels,
    /// the name and the machine still match.
    #[must_use]
    pub fn belongs(&self, configuration: &NixosConfiguration) -> bool {
        match controller(&configuration.metadata) {
            Some(owner) => owner.uid == self.cluster.uid,
            None => !self.cluster.deleting && self.bears_our_marks(configuration),
        }
    }

    fn bears_our_marks(&self, configuration: &NixosConfiguration) -> bool {
        let name = configuration.metadata.name.as_deref();
        bears_labels(&configuration.metadata, &self.cluster.name)
            && name.is_some()
            && configuration.spec.machine() == name
    }

    /// Every configuration of the cluster, whatever its name: a deletion must not leave any behind.
    pub fn belongings(&self) -> impl Iterator<Item = (&String, &NixosConfiguration)> {
        let all = self.configurations.iter();
        all.map(|(name, held)| (name, &**held))
            .filter(|(_, held)| self.belongs(held))
    }

    /// The control plane machines whose host keys should be pinned.
    #[must_use]
    pub fn control_plane_hosts(&self) -> ControlPlaneHosts {
        let address = |member: &Member<'_>| member.machine?.address().map(str::to_owned);
        let confirmed = self
            .control_plane()
            .filter(|member| member.is_confirmed() && !member.is_deleting());
        ControlPlaneHosts {
            confirmed: confirmed
                .filter_map(|member| Some((member.name.clone(), address(&member)?)))
                .collect(),
            all: self
                .control_plane()
                .map(|member| address(&member))
                .collect(),
        }
    }

    /// The member with this name, if the cluster is its controller now.
    #[must_use]
    pub fn controlled(&self, name: &MachineName) -> Option<Member<'_>> {
        self.member(name).filter(|member| member.controlled)
    }

    /// A configuration that was just read as a member; `None` if it is not one.
    #[must_use]
    pub fn as_member<'a>(&'a self, configuration: &'a NixosConfiguration) -> Option<Member<'a>> {
        let name = MachineName::parse(configuration.metadata.name.as_deref()?)?;
        self.belongs(configuration).then(|| Member {
            role: role(name.as_str(), configuration),
            machine: self.machine(&name),
            controlled: self.controls(configuration),
            nio: self.nio,
            jobs: self.jobs_of(configuration),
            name,
            held: configuration,
        })
    }

    fn jobs_of(&self, held: &NixosConfiguration) -> &[Arc<Job>] {
        if self.jobs.is_empty() {
            return &[];
        }
        let uid = held.metadata.uid.as_ref();
        let jobs = uid.and_then(|uid| self.jobs.get(uid));
        jobs.map_or(&[], Vec::as_slice)
    }

    /// Whether the cluster is founded according to the ledger.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        self.ledger.ours().is_some_and(|ledger| ledger.founded)
    }

    /// Whether `spec.paused` is true.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.spec.as_ref().is_ok_and(|spec| spec.paused)
    }

    /// A Machine.
    #[must_use]
    pub fn machine(&self, name: &MachineName) -> Option<&Machine> {
        self.machines.get(name).map(|machine| &**machine)
    }

    /// Whether another member has the same canonical address as this machine.
    pub(super) fn shares_address(&self, machine: &MachineName, canonical: &str) -> bool {
        let by_address = self.by_address.get_or_init(|| {
            let mut all: BTreeMap<String, Vec<MachineName>> = BTreeMap::new();
            for (name, object) in &self.machines {
                if let Some(address) = object.canonical_address() {
                    all.entry(address).or_default().push(name.clone());
                }
            }
            all
        });
        let mut names = by_address.get(canonical).into_iter().flatten();
        names.any(|name| name != machine && self.member(name).is_some())
    }

    /// Whether a Machine exists and NIO can reach it.
    #[must_use]
    pub fn discoverable(&self, name: &MachineName) -> bool {
        let status = self.machine(name).and_then(|it| it.status.as_ref());
        status.is_some_and(|status| status.discoverable)
    }

    /// Which party uses a machine: by a configuration with its name, or one that refers to it.
    #[must_use]
    pub fn holder(&self, machine: &MachineName) -> Holder {
        // A foreign configuration takes precedence over NICO's own: the machine does not belong to this cluster alone.
        if let Some((name, held)) = self.strangers_on(machine).next() {
            return match controller(&held.metadata) {
                Some(owner) if owner.kind == "KubernetesCluster" => {
                    Holder::Cluster(owner.name.clone(), owner.uid.clone())
                }
                _ => Holder::Configuration(name.clone()),
            };
        }
        let on = self.configurations.on(machine.as_str());
        on.last().map_or(Holder::Nobody, |(_, held)| {
            let is_deleting = held.metadata.deletion_timestamp.is_some();
            Holder::Us(role(machine.as_str(), held), is_deleting)
        })
    }

    /// A foreign configuration that refers to a machine or has its name: the machine does not belong to this cluster alone, and is not
    /// written (I2).
    #[must_use]
    pub fn contested_by(&self, machine: &MachineName) -> Option<&str> {
        let strangers = self.strangers_on(machine).last();
        strangers.map(|(name, _)| name.as_str())
    }

    fn strangers_on<'a>(
        &'a self,
        machine: &MachineName,
    ) -> impl Iterator<Item = (&'a String, &'a NixosConfiguration)> {
        let on = self.configurations.on(machine.as_str());
        on.filter(|(_, held)| !self.belongs(held))
    }

    /// The entries of the slot.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        let ledger = self.ledger.ours();
        ledger.map_or(&[], |ledger| &ledger.slot.entries)
    }

    /// The entry of a machine.
    #[must_use]
    pub fn entry(&self, machine: &MachineName) -> Option<&Entry> {
        self.entries().iter().find(|it| it.machine == *machine)
    }

    /// How long a clock of patience has run; zero if it starts now.
    #[must_use]
    pub fn elapsed(&self, clock: &Clock, now: Timestamp) -> Duration {
        self.since
            .get(clock)
            .map(|since| elapsed(*since, now))
            .unwrap_or_default()
    }
}

/// The time since an event; zero if it is in the future.
#[must_use]
pub fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// A time in whole seconds, the resolution of Kubernetes timestamps.
#[must_use]
pub fn in_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The controller of an object.
#[must_use]
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let mut owners = meta.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true))
}

/// Whether an object has the labels of a cluster's children.
pub(super) fn bears_labels(meta: &ObjectMeta, cluster: &str) -> bool {
    bears_label(meta, MANAGED_BY_LABEL, FIELD_MANAGER) && bears_label(meta, CLUSTER_LABEL, cluster)
}

pub(super) fn bears_label(meta: &ObjectMeta, key: &str, value: &str) -> bool {
    let labels = meta.labels.as_ref();
    labels
        .and_then(|labels| labels.get(key))
        .map(String::as_str)
        == Some(value)
}

/// The labels of every child.
#[must_use]
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY_LABEL.to_owned(), FIELD_MANAGER.to_owned()),
        (CLUSTER_LABEL.to_owned(), cluster.to_owned()),
    ])
}
