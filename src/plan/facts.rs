//! What was read for one pass, as plain data. `assemble.rs` evaluates it. A Secret's facts never contain its value.

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

/// How recent an answer is, or has to be.
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
    /// The object; `None` if there is none with that name.
    pub found: Option<T>,
    /// How recent the answer is.
    pub freshness: Freshness,
}

/// The metadata of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFacts {
    /// The precondition of a write to it.
    pub version: Precondition,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Uid of its controller.
    pub controller: Option<String>,
    /// Whether it has NICO's finalizer.
    pub in_use: bool,
    /// Value of the annotation `adopt`.
    pub adopt: Option<String>,
    /// The cluster whose labels it has, if no other object owns it.
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

    /// Whether the object with this uid is its controller.
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
    /// Keys, with the SHA-256 digest of each value; `None` if the value is empty. Of many keys, the first two and those that NICO reads.
    pub keys: BTreeMap<String, Option<String>>,
    /// Fingerprint of its SSH key; an error if the key cannot be used. Absent if there is no such key.
    pub fingerprint: Option<Result<String, String>>,
    /// Whether it has the type of a kubeconfig Secret.
    pub is_kubeconfig: bool,
    /// The parts of its kubeconfig that are not secret, if it is unchanged since NICO wrote it.
    pub kubeconfig: Option<KubeconfigFacts>,
}

/// A ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFacts {
    /// Its metadata.
    pub object: ObjectFacts,
    /// The values of the keys that NICO reads.
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

/// The question to the background work on the kubeconfig: which one is stored, and how another would be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeconfigQuestion {
    /// The founding, the kubeconfig's settings in the spec, and the machines that it is fetched from.
    pub circumstances: String,
    /// The machines whose host keys should be pinned.
    pub hosts: ControlPlaneHosts,
    /// SHA-256 of the stored one, if it belongs to the cluster.
    pub stored: Option<String>,
    /// Whether the stored one is unchanged since NICO wrote it.
    pub as_written: bool,
}

/// The answer of the background work on the kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeconfigAnswer {
    /// Whether the stored one works.
    pub works: Works,
    /// How often in a row it failed.
    pub failures: u32,
    /// Whether the next verification is due.
    pub try_again: bool,
    /// State of the fetch.
    pub fetch: Fetch,
}

/// Everything that was read for one pass. An object that was read and does not exist is `None`; one that was not read yet is missing.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The cluster object.
    pub cluster: ClusterView,
    /// Its spec, or its errors.
    pub spec: Result<Arc<ValidSpec>, Vec<String>>,
    /// The installed generation of NIO; `None` if its resources are not served.
    pub nio: Option<Generation>,
    /// Whether the cluster, Machines and configurations were read for this pass, and not copied from the watches.
    pub live: bool,
    /// Machines whose configurations will be written: objects that these refer to are read for this pass.
    pub writes: BTreeSet<MachineName>,
    /// Configurations by name: those that this cluster controls, that have its label, and those of the machines that were looked up.
    pub configurations: Arc<Configurations>,
    /// The Jobs of its configurations, if NIO applies by Jobs.
    pub jobs: Arc<Jobs>,
    /// Machines that were looked up, together with the configurations that have their name or refer to them.
    pub machines: BTreeMap<MachineName, Option<Arc<Machine>>>,
    /// By name: Machines that match the selector of a role but cannot be members, because their names are not DNS labels.
    pub misnamed: BTreeMap<String, Arc<Machine>>,
    /// Machines that come from the watch although everything else was read for this pass. They are looked up before they are chosen.
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
    /// The last question about the kubeconfig, and its answer.
    pub kubeconfig: Option<(KubeconfigQuestion, KubeconfigAnswer)>,
    /// The last question to the git server, and its answer.
    pub resolved: Option<GitAnswer>,
    /// The last result of the workload health probe.
    pub workload: WorkloadHealth,
    /// Whether the next probe is due.
    pub workload_is_old: bool,
    /// When each clock of patience started.
    pub since: BTreeMap<Clock, Timestamp>,
    /// An unused id.
    pub fresh_id: ClusterId,
    /// The machines whose entries were taken, and the version of the ledger after that write.
    pub(super) taken: Option<(Vec<MachineName>, Precondition)>,
}

impl Facts {
    /// The facts if only the cluster object was read.
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

    /// Configurations that were read and exist.
    pub fn add_configurations(&mut self, read: impl IntoIterator<Item = Arc<NixosConfiguration>>) {
        let all = Arc::make_mut(&mut self.configurations);
        for configuration in read {
            all.insert(configuration.name_any(), configuration);
        }
    }

    /// Notes a configuration that was read and does not exist.
    pub fn drop_configuration(&mut self, name: &str) {
        Arc::make_mut(&mut self.configurations).remove(name);
    }

    /// The ledger that was read for this pass.
    pub fn add_ledger(&mut self, found: Option<MapFacts>) {
        let freshness = Freshness::Live;
        let name = ledger_name(&self.cluster.name);
        self.maps.insert(name, Read { found, freshness });
    }

    /// Whether the entries that were taken are still valid. They were taken before everything else was read, and the ledger was read last:
    /// they are valid if it still has the version that the take returned.
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

/// What must still be read before the facts can be evaluated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// ConfigMaps by name.
    pub maps: BTreeMap<String, Freshness>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Freshness>,
    /// Machines, with the configurations that have their name or refer to them.
    pub machines: BTreeSet<MachineName>,
    /// All Machines that match the selector of a role.
    pub candidates: BTreeMap<Role, Selector>,
    /// Other clusters by name.
    pub clusters: BTreeSet<String>,
    /// Whether these uids control any configuration.
    pub controllers: BTreeSet<String>,
    /// The answer to this question about the kubeconfig.
    pub kubeconfig: Option<KubeconfigQuestion>,
}

impl Needs {
    /// Whether everything was read.
    #[must_use]
    pub fn are_met(&self) -> bool {
        *self == Self::default()
    }
}
