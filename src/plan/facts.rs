//! What was read for one pass: plain data and no judgement. `assemble.rs` judges it. Of a Secret there are facts, never a value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::core::Selector;

use crate::api::kubeconfig::KubeconfigFacts;
use crate::api::names::{ADOPT_ANNOTATION, ClusterId, IN_USE_FINALIZER, MachineName, ledger_name};
use crate::api::nio::{Generation, Machine, NixosConfiguration};
use crate::api::spec::ValidSpec;
use crate::api::status::Role;

use super::observed::{
    ClusterView, Configurations, ControlPlaneHosts, Fetch, GitAnswer, Jobs, WorkloadHealth, Works,
    controller, left_by,
};
use super::patience::Clock;
use super::writes::Precondition;

/// How new an answer is, or has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// At most as old as a resync.
    Remembered,
    /// A few seconds old.
    Recent,
    /// Read for this pass.
    Live,
}

/// The answer to a read by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// The object; `None` where there is none of that name.
    pub found: Option<T>,
    /// How new the answer is.
    pub freshness: Freshness,
}

/// The metadata of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Version to insist on.
    pub version: Precondition,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Uid of its controller.
    pub controller: Option<String>,
    /// Whether NICO's finalizer holds it.
    pub in_use: bool,
    /// Value of the annotation `adopt`.
    pub adopt: Option<String>,
    /// The cluster whose labels it bears, where no other object owns it.
    pub left_by: Option<String>,
}

impl ObjectFacts {
    /// The facts of an object.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        let annotations = meta.annotations.as_ref();
        let mut finalizers = meta.finalizers.iter().flatten();
        Self {
            version: Precondition::of(meta),
            deleting: meta.deletion_timestamp.is_some(),
            controller: controller(meta).map(|owner| owner.uid.clone()),
            in_use: finalizers.any(|it| it == IN_USE_FINALIZER),
            adopt: annotations.and_then(|all| all.get(ADOPT_ANNOTATION).cloned()),
            left_by: left_by(meta).map(str::to_owned),
        }
    }

    /// Whether the object of this uid is its controller.
    #[must_use]
    pub fn is_controlled_by(&self, uid: &str) -> bool {
        self.controller.as_deref() == Some(uid)
    }
}

/// A Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFacts {
    /// Its metadata.
    pub object: ObjectFacts,
    /// Keys, with the SHA-256 digest of each value; `None` where it is empty. Of many keys the first two and those that are read.
    pub keys: BTreeMap<String, Option<String>>,
    /// Fingerprint of the public half of its SSH key; `Err` says why there is none. Absent where there is no such key.
    pub fingerprint: Option<Result<String, String>>,
    /// Whether it is of the type of kubeconfigs.
    pub is_kubeconfig: bool,
    /// What its kubeconfig says that is no secret, where that is as NICO wrote it.
    pub kubeconfig: Option<KubeconfigFacts>,
}

/// A ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFacts {
    /// Its metadata.
    pub object: ObjectFacts,
    /// Its data, of the keys that are read.
    pub data: BTreeMap<String, String>,
}

/// Another cluster of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFacts {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
}

/// What the background work on the kubeconfig is asked about: which one is stored, and under what another would be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeconfigQuestion {
    /// The founding, what the spec says of the kubeconfig, and the machines that it is fetched from.
    pub circumstances: String,
    /// The machines whose host keys are to be known.
    pub hosts: ControlPlaneHosts,
    /// SHA-256 of the one that is stored, where it is ours.
    pub stored: Option<String>,
    /// Whether that one is as NICO wrote it.
    pub as_written: bool,
}

/// What the background work on the kubeconfig last learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeconfigAnswer {
    /// Whether the stored one works.
    pub works: Works,
    /// How often in a row it did not.
    pub failures: u32,
    /// Whether it is time to verify it again.
    pub try_again: bool,
    /// How the fetch stands.
    pub fetch: Fetch,
}

/// Everything that was read for one pass. What is not read yet is not in here; what was read and is not there is `None`.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The cluster object.
    pub cluster: ClusterView,
    /// Its spec, or what is wrong with it.
    pub spec: Result<Arc<ValidSpec>, Vec<String>>,
    /// Which NIO is there; `None`: its resources are not served.
    pub nio: Option<Generation>,
    /// Whether the cluster, Machines and configurations were read for this pass, and not taken from the watches.
    pub live: bool,
    /// Machines whose configurations are to be written: what these refer to is read afresh.
    pub writes: BTreeSet<MachineName>,
    /// Configurations by name: those that this cluster controls, that bear its label, and those of the machines looked up.
    pub configurations: Arc<Configurations>,
    /// The Jobs of its configurations, where NIO applies by Jobs.
    pub jobs: Arc<Jobs>,
    /// Machines that were looked up, together with the configurations that bear their name, or name them.
    pub machines: BTreeMap<MachineName, Option<Arc<Machine>>>,
    /// Machines that match the selector of a role and cannot be members, since their names are no DNS labels; by name.
    pub misnamed: BTreeMap<String, Arc<Machine>>,
    /// Machines that the watch alone has shown though all else is live: one of these that is chosen is looked up first.
    pub from_watch: BTreeSet<MachineName>,
    /// Roles for which all Machines that match their selector were looked up.
    pub candidates: BTreeSet<Role>,
    /// Other clusters, by name.
    pub clusters: BTreeMap<String, Option<ClusterFacts>>,
    /// By uid: whether it is the controller of any configuration.
    pub controllers: BTreeMap<String, bool>,
    /// Secrets of the cluster's namespace, by name.
    pub secrets: BTreeMap<String, Read<SecretFacts>>,
    /// ConfigMaps of the cluster's namespace, by name.
    pub maps: BTreeMap<String, Read<MapFacts>>,
    /// What was last asked about the kubeconfig, and the answer.
    pub kubeconfig: Option<(KubeconfigQuestion, KubeconfigAnswer)>,
    /// What the git server was last asked, and what it answered.
    pub resolved: Option<GitAnswer>,
    /// What the cluster last said of itself.
    pub workload: WorkloadHealth,
    /// Whether it is time to ask it again.
    pub workload_is_old: bool,
    /// Since when each clock of patience runs.
    pub since: BTreeMap<Clock, Timestamp>,
    /// An id that nobody has used.
    pub fresh_id: ClusterId,
    /// The machines whose entries were taken, and the ledger as that left it.
    pub(super) taken: Option<(Vec<MachineName>, Precondition)>,
}

impl Facts {
    /// Nothing but the cluster object was read.
    #[must_use]
    pub fn new(
        cluster: ClusterView,
        spec: Result<Arc<ValidSpec>, Vec<String>>,
        fresh_id: ClusterId,
    ) -> Self {
        Self {
            cluster,
            spec,
            nio: None,
            live: false,
            writes: BTreeSet::new(),
            configurations: Arc::default(),
            jobs: Arc::default(),
            machines: BTreeMap::new(),
            misnamed: BTreeMap::new(),
            from_watch: BTreeSet::new(),
            candidates: BTreeSet::new(),
            clusters: BTreeMap::new(),
            controllers: BTreeMap::new(),
            secrets: BTreeMap::new(),
            maps: BTreeMap::new(),
            kubeconfig: None,
            resolved: None,
            workload: WorkloadHealth::NotProbed,
            workload_is_old: true,
            since: BTreeMap::new(),
            fresh_id,
            taken: None,
        }
    }

    /// Configurations that were read.
    pub fn add_configurations(&mut self, read: impl IntoIterator<Item = Arc<NixosConfiguration>>) {
        let all = Arc::make_mut(&mut self.configurations);
        for configuration in read {
            all.insert(configuration.name_any(), configuration);
        }
    }

    /// A configuration that was read, and is not there.
    pub fn drop_configuration(&mut self, name: &str) {
        Arc::make_mut(&mut self.configurations).remove(name);
    }

    /// The ledger as it was read for this pass.
    pub fn add_ledger(&mut self, found: Option<MapFacts>) {
        let freshness = Freshness::Live;
        let name = ledger_name(&self.cluster.name);
        self.maps.insert(name, Read { found, freshness });
    }

    /// Entries were taken before all of this was read, the ledger after all of it: the entries stand where that is still the ledger
    /// that the take returned.
    pub fn enter(
        &mut self,
        machines: &[MachineName],
        taken: &Precondition,
        ledger: Option<MapFacts>,
    ) {
        self.taken = Some((machines.to_vec(), taken.clone()));
        self.add_ledger(ledger);
    }
}

/// What is still to be read before a cluster can be judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// ConfigMaps by name.
    pub maps: BTreeMap<String, Freshness>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Freshness>,
    /// Machines, and the configurations that bear their name or name them.
    pub machines: BTreeSet<MachineName>,
    /// All Machines that match the selector of a role.
    pub candidates: BTreeMap<Role, Selector>,
    /// Other clusters by name.
    pub clusters: BTreeSet<String>,
    /// Whether these uids control any configuration.
    pub controllers: BTreeSet<String>,
    /// How the background work on the kubeconfig stands.
    pub kubeconfig: Option<KubeconfigQuestion>,
}

impl Needs {
    /// Whether all was read.
    #[must_use]
    pub fn are_met(&self) -> bool {
        *self == Self::default()
    }
}
