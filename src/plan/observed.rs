//! The snapshot that one pass works on, and the questions that the steps ask of it.

mod configurations;
mod left;
mod member;
pub mod views;
mod workload;

pub use crate::api::workload::{Answer, NodeView, Nodes, Workload};
pub use configurations::Configurations;
pub use left::{Left, PAUSE, left_by};
use member::role;
pub use member::{MACHINE_SSH_KEY, Member, WORKER_TOKEN};
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

/// Everything that one pass needs to know.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The cluster object.
    pub cluster: ClusterView,
    /// Its spec, or what is wrong with it: sentences that name the field and the mend.
    pub spec: Result<Arc<ValidSpec>, Vec<String>>,
    /// Whether all that `Ready` rests on was read from the API server just now, and from no cache.
    pub live: bool,
    /// Which NIO is there; `None`: its resources are not served.
    pub nio: Option<Generation>,
    /// The ledger.
    pub ledger: LedgerView,
    /// The control plane's token.
    pub join_token: SecretView,
    /// The workers' token.
    pub worker_token: SecretView,
    /// Children of ours from which somebody took NICO's finalizer.
    pub without_finalizer: BTreeMap<Child, Precondition>,
    /// What an earlier cluster of this name left.
    pub left: Left,
    /// The Secret that `credentialsRef` names; `None` where it names none.
    pub credentials: Option<SecretView>,
    /// By name: all of ours, and those that bear the name of, or name, a machine that matters here.
    pub configurations: Arc<Configurations>,
    /// Those of its configurations, where NIO applies by Jobs.
    pub jobs: Arc<Jobs>,
    /// By name: those that the spec lists, that we hold, and while a selector is short those that match it.
    pub machines: BTreeMap<MachineName, Arc<Machine>>,
    /// By name: those that match a selector and whose names are no DNS labels, so that they cannot be members.
    pub misnamed: BTreeMap<String, Arc<Machine>>,
    /// SSH keys of the machines that we hold or may take, as far as they were looked at.
    pub ssh_keys: BTreeMap<MachineName, SshKeyView>,
    /// By uid: other clusters of the namespace that hold a machine that matters here.
    pub rivals: BTreeMap<String, Rival>,
    /// The kubeconfig, stored and on its way.
    pub kubeconfig: KubeconfigView,
    /// The pinned host keys.
    pub known_hosts: KnownHostsView,
    /// What the git server was last asked, and what it answered.
    pub resolved: Option<GitAnswer>,
    /// What the cluster says of itself.
    pub workload: WorkloadHealth,
    /// Whether it is time to ask it again.
    pub workload_is_old: bool,
    /// Whether no Node is the control plane's, though Nodes were listed: see [`Self::has_no_control_plane_node`].
    pub(super) control_plane_has_no_nodes: bool,
    /// The entries of the slot under which this plan is made; they were taken, in one write, before everything else here was read.
    pub entered: Vec<Entered>,
    /// Since when each clock of patience runs.
    pub since: BTreeMap<Clock, Timestamp>,
    /// An id that nobody has used: randomness enters the planner as an argument only.
    pub fresh_id: ClusterId,
    /// The machines by canonical address, once somebody asked for it.
    pub(super) by_address: OnceLock<BTreeMap<String, Vec<MachineName>>>,
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
    /// Whether the cluster is a configuration's controller now.
    #[must_use]
    pub fn controls(&self, configuration: &NixosConfiguration) -> bool {
        controller(&configuration.metadata).is_some_and(|owner| owner.uid == self.cluster.uid)
    }

    /// Whether a configuration is one of the cluster's: it controls it, or did until somebody took the owner off by hand, which
    /// left our labels, our name and the right machine.
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

    /// Every configuration of the cluster's, by name, whatever that is: what a deletion must not leave behind.
    pub fn belongings(&self) -> impl Iterator<Item = (&String, &NixosConfiguration)> {
        let all = self.configurations.iter();
        all.map(|(name, held)| (name, &**held))
            .filter(|(_, held)| self.belongs(held))
    }

    /// The members: every configuration of the cluster's that bears a machine's name, terminating ones included.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        let members = self.configurations.members();
        members
            .filter(|(_, _, held)| self.belongs(held))
            .map(|(name, role, held)| self.with_machine(name.clone(), role, held))
    }

    /// The members of a role.
    pub fn members_of(&self, role: Role) -> impl Iterator<Item = Member<'_>> {
        self.members().filter(move |member| member.role() == role)
    }

    /// The control plane.
    pub fn control_plane(&self) -> impl Iterator<Item = Member<'_>> {
        self.members_of(Role::ControlPlane)
    }

    /// The machines of the control plane whose host keys are to be known.
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

    /// The member of a name.
    #[must_use]
    pub fn member(&self, name: &MachineName) -> Option<Member<'_>> {
        let (role, held) = self.configurations.member(name)?;
        self.belongs(held)
            .then(|| self.with_machine(name.clone(), role, held))
    }

    /// The member of a name, where the cluster controls it now.
    #[must_use]
    pub fn controlled(&self, name: &MachineName) -> Option<Member<'_>> {
        self.member(name).filter(|member| member.controlled)
    }

    /// A configuration as it was just read, as a member, where it is one.
    #[must_use]
    pub fn as_member<'a>(&'a self, configuration: &'a NixosConfiguration) -> Option<Member<'a>> {
        let name = MachineName::parse(configuration.metadata.name.as_deref()?)?;
        let role = role(name.as_str(), configuration);
        self.belongs(configuration)
            .then(|| self.with_machine(name, role, configuration))
    }

    fn with_machine<'a>(
        &'a self,
        name: MachineName,
        role: Role,
        held: &'a NixosConfiguration,
    ) -> Member<'a> {
        Member {
            role,
            machine: self.machine(&name),
            controlled: self.controls(held),
            nio: self.nio,
            jobs: self.jobs_of(held),
            name,
            held,
        }
    }

    fn jobs_of(&self, held: &NixosConfiguration) -> &[Arc<Job>] {
        let uid = held.metadata.uid.as_ref();
        let jobs = uid.and_then(|uid| self.jobs.get(uid));
        jobs.map_or(&[], Vec::as_slice)
    }

    /// Whether the ledger says that the cluster was founded.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        self.ledger.ours().is_some_and(|ledger| ledger.founded)
    }

    /// Whether the spec says that nothing is to be changed.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.spec.as_ref().is_ok_and(|spec| spec.paused)
    }

    /// A Machine.
    #[must_use]
    pub fn machine(&self, name: &MachineName) -> Option<&Machine> {
        self.machines.get(name).map(|machine| &**machine)
    }

    /// Whether another member than this machine has that address, in its canonical form, too.
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

    /// Who holds a machine: by a configuration of its name, or one that names it.
    #[must_use]
    pub fn holder(&self, machine: &MachineName) -> Holder {
        // A foreign configuration beside ours matters more: the machine is not ours alone.
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

    /// A configuration that is not ours and names a machine, or bears its name: what we hold of that machine is not ours alone,
    /// and is not written (I2).
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

    /// The entries of the slot that stand.
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

    /// How long a clock of patience has run; zero where it has just started.
    #[must_use]
    pub fn elapsed(&self, clock: &Clock, now: Timestamp) -> Duration {
        self.since
            .get(clock)
            .map(|since| elapsed(*since, now))
            .unwrap_or_default()
    }
}

/// How long ago something was; zero where it is still to come.
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

/// Whether an object bears the labels of a cluster's children.
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
