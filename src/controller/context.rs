//! What all passes share: the stores, the memory, and which clusters a change affects. Correctness does not depend on it: it may be lost at
//! any time.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::runtime::reflector::{ObjectRef, Store as ClusterStore};
use kube::runtime::watcher::Event;
use kube::{Client, ResourceExt as _};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tracing::{info, warn};

use super::background::Background;
use super::calls;
use super::detect::{self, Detected};
use super::events::Events;
use super::interest::Interests;
use super::memory::Memories;
use super::metrics::Metrics;
use super::named::NamedReads;
use super::readiness::{Readiness, mark};
use super::schedule::{
    CONCURRENT_PASSES, DEFINITIONS_CHECK_PAUSE, NIO_CHECK_PAUSE, PASSES_KEPT_FOR_FIRST_LOOKS,
};
use super::settings::OperatorSettings;
use super::stores::{JobStores, Store, Stores, uid_key};
use super::writes::Writes;
use crate::api::cluster::RawCluster;
use crate::api::metadata::labels;
use crate::api::names::CLUSTER_LABEL;
use crate::api::nio::{Generation, Machine, NixosConfiguration};
use crate::plan::nio;
use crate::plan::observed::controller;
use crate::remote::gate::{Class, Gate};
use crate::remote::lock::lock;
use crate::remote::offload::of_namespace;

/// What all passes share.
pub struct Context {
    /// When this process started.
    pub(crate) started: Instant,
    /// The API server.
    pub client: Client,
    /// The settings from the flags.
    pub settings: OperatorSettings,
    /// Objects from the watches.
    pub stores: Stores,
    /// Objects read by name.
    pub named: Arc<NamedReads>,
    /// Background work: SSH, workload clusters and git servers.
    pub background: Background,
    /// Decides which pass begins next.
    pub(crate) gate: Gate,
    /// Kubernetes Events.
    pub events: Events,
    /// Metrics.
    pub(crate) metrics: Arc<Metrics>,
    /// The writes that are on their way.
    pub(crate) writes: Writes,
    /// The memory of each cluster.
    pub(crate) memories: Arc<Memories>,
    /// Which clusters a change of a Machine affects.
    pub(crate) interests: Interests,
    wake: UnboundedSender<ObjectRef<RawCluster>>,
    clusters: ClusterStore<RawCluster>,
    health: Arc<Readiness>,
    detected: Mutex<Detected>,
    /// Held during a lookup of NIO.
    detecting: tokio::sync::Mutex<()>,
    restarts: watch::Sender<u64>,
    /// Whether a generation of NIO was found that applies by Jobs.
    by_jobs: watch::Sender<bool>,
}

impl Context {
    /// An empty context. `wake` triggers a pass for a cluster, `clusters` is the Controller's own store.
    #[must_use]
    pub fn new(
        client: Client,
        settings: OperatorSettings,
        health: Arc<Readiness>,
        metrics: Arc<Metrics>,
        writes: Writes,
        clusters: ClusterStore<RawCluster>,
        wake: UnboundedSender<ObjectRef<RawCluster>>,
    ) -> Self {
        let gate = Gate::new(CONCURRENT_PASSES, PASSES_KEPT_FOR_FIRST_LOOKS);
        let memories = Arc::new(Memories::default());
        metrics.show_clusters(clusters.clone(), Arc::clone(&memories));
        metrics.show_queue("passes", gate.clone());
        let memory = settings.read_memory();
        Self {
            background: Background::new(client.clone(), memory, wake.clone(), &metrics)
                .asking_from(settings.reach),
            events: Events::new(client.clone()),
            gate,
            started: Instant::now(),
            named: Arc::new(NamedReads::new(client.clone(), settings.read_memory())),
            stores: Stores::default(),
            interests: Interests::default(),
            clusters,
            health,
            metrics,
            writes,
            detected: Mutex::default(),
            detecting: tokio::sync::Mutex::default(),
            restarts: watch::Sender::new(0),
            by_jobs: watch::Sender::new(false),
            memories,
            wake,
            client,
            settings,
        }
    }

    /// Another cluster, from the watch.
    #[must_use]
    pub fn cluster(&self, namespace: &str, name: &str) -> Option<Arc<RawCluster>> {
        self.clusters.get(&ObjectRef::new(name).within(namespace))
    }

    /// Triggers a pass for a cluster.
    pub fn wake(&self, cluster: ObjectRef<RawCluster>) {
        // The receiver lives as long as the controller.
        let _ = self.wake.send(cluster);
    }

    /// The installed generation of NIO, as it was at most a resync ago.
    pub(crate) async fn nio(&self) -> Result<Option<Generation>, calls::CallError> {
        self.nio_within(self.settings.resync).await
    }

    /// The installed generation of NIO, as it was at most this long ago. While there is none it is looked up more often.
    async fn nio_within(&self, longest: Duration) -> Result<Option<Generation>, calls::CallError> {
        let longest = longest.min(self.settings.resync);
        let recent = || lock(&self.detected).recent(longest);
        if let Some(recent) = recent() {
            return recent;
        }
        // Only one lookup runs at a time. Callers that wait use its result.
        let _turn = self.detecting.lock().await;
        if let Some(recent) = recent() {
            return recent;
        }
        let known = lock(&self.detected).definitions.clone();
        let found = detect::detect(&self.client, self.settings.nio, known.as_ref());
        // All passes wait for it, so it does not use the share of the one that happens to be the first.
        let found = of_namespace("", found).await;
        let (change, generation) = {
            let mut detected = lock(&self.detected);
            (detected.take(found)?, detected.generation())
        };
        self.health.set(mark::CRDS, generation.is_some());
        let named = generation.map(nio::for_generation);
        if change.generation {
            if let Some(nio) = named {
                info!(nio = nio.name(), "NIO found");
            } else {
                warn!(
                    "no NIO found: the API server serves none of its resources, or not those of the NIO that --nio names"
                );
            }
        }
        let by_jobs = named.is_some_and(nio::Nio::works_by_jobs);
        self.by_jobs
            .send_if_modified(|it| std::mem::replace(it, by_jobs) != by_jobs);
        self.show_jobs();
        if change.restart {
            self.restarts.send_modify(|restarts| *restarts += 1);
        }
        if change.restart || change.generation {
            for cluster in self.clusters.state() {
                self.wake(ObjectRef::from_obj(&*cluster));
            }
        }
        self.tidy();
        Ok(generation)
    }

    /// Changes whenever the watches of NIO's objects have to restart. 0: no NIO was found yet.
    pub(super) fn restarts(&self) -> watch::Receiver<u64> {
        self.restarts.subscribe()
    }

    /// Forgets clusters whose deletion was not seen, and expired reads by name.
    fn tidy(&self) {
        let live: BTreeSet<String> = self
            .clusters
            .state()
            .iter()
            .filter_map(|cluster| cluster.uid())
            .collect();
        self.memories.retain(&live);
        self.background.retain(&live);
        self.named.expire();
    }

    /// Applies a watch event of a cluster.
    pub(super) fn on_cluster(&self, event: &Event<RawCluster>) {
        let spec =
            |cluster: &RawCluster| lock(&self.memories.for_cluster(cluster)).spec(cluster).ok();
        self.interests.apply(event, spec);
        if let Event::Apply(cluster) = event
            && Class::of_pass(cluster) == Class::First
        {
            let namespace = cluster.namespace().unwrap_or_default();
            self.gate.promote(&namespace, &cluster.name_any());
        }
    }

    /// Applies a watch event of a Machine; returns the affected clusters.
    pub(super) fn on_machine(&self, event: Event<Machine>) -> Vec<ObjectRef<RawCluster>> {
        let touched = self.stores.machines.apply(event);
        self.health
            .set(mark::MACHINES, self.stores.machines.is_ready());
        each_once(touched.iter().map(|machine| self.of_machine(machine)))
    }

    /// Applies a watch event of a configuration; returns the affected clusters.
    pub(super) fn on_configuration(
        &self,
        event: Event<NixosConfiguration>,
    ) -> Vec<ObjectRef<RawCluster>> {
        let touched = self.stores.configurations.apply(event);
        self.health
            .set(mark::CONFIGURATIONS, self.stores.configurations.is_ready());
        each_once(
            touched
                .iter()
                .map(|configuration| self.of_configuration(configuration)),
        )
    }

    /// Whether a generation of NIO is found that applies by Jobs. Other generations do not create Jobs, and their definitions lack the
    /// objects that own them.
    pub(super) fn by_jobs(&self) -> watch::Receiver<bool> {
        self.by_jobs.subscribe()
    }

    /// Applies a watch event of a Job, or of an object between it and its configuration, or the end of that watch (`None`); returns the
    /// affected clusters.
    pub(super) fn on_work<K: kube::Resource<DynamicType = ()> + PartialEq>(
        &self,
        store: fn(&JobStores) -> &Store<K>,
        event: Option<Event<K>>,
    ) -> Vec<ObjectRef<RawCluster>> {
        let work = &self.stores.work;
        let touched = store(work).follow(event);
        self.show_jobs();
        each_once(touched.iter().map(|object| {
            let namespace = object.meta().namespace.clone().unwrap_or_default();
            let Some(owner) = controller(object.meta()) else {
                return Vec::new();
            };
            let uid = work.configuration_over(&namespace, &owner.uid);
            let configurations = self.stores.configurations.find(&namespace, &uid_key(&uid));
            let owners = configurations
                .iter()
                .filter_map(|configuration| owner_of(configuration));
            owners.collect()
        }))
    }

    fn show_jobs(&self) {
        self.health.set_to(mark::JOBS, || {
            !*self.by_jobs.borrow() || self.stores.work.not_listed().next().is_none()
        });
    }

    /// Sets the readiness marks that no event sets, and looks for other definitions of NIO. Never ends. Neither must depend on a cluster
    /// being there, whose passes would do it.
    pub(super) async fn watch_readiness(&self) {
        if self.clusters.wait_until_ready().await.is_ok() {
            self.health.set(mark::CLUSTERS, true);
        }
        loop {
            let found = self.nio_within(DEFINITIONS_CHECK_PAUSE).await;
            let pause = match found {
                Ok(Some(_)) => DEFINITIONS_CHECK_PAUSE,
                Ok(None) | Err(_) => NIO_CHECK_PAUSE,
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn of_machine(&self, machine: &Machine) -> Vec<ObjectRef<RawCluster>> {
        let namespace = machine.namespace().unwrap_or_default();
        self.concerned(&namespace, &machine.name_any(), labels(&machine.metadata))
    }

    fn of_configuration(&self, configuration: &NixosConfiguration) -> Vec<ObjectRef<RawCluster>> {
        let namespace = configuration.namespace().unwrap_or_default();
        let of_its_name = Some(configuration.name_any());
        let named_in_it = configuration.spec.machine().map(str::to_owned);
        let machines = of_its_name.into_iter().chain(named_in_it);
        let concerned = machines.flat_map(|machine| {
            let object = self.stores.machines.get(&namespace, &machine);
            let labels = object
                .as_ref()
                .and_then(|machine| labels(&machine.metadata));
            self.concerned(&namespace, &machine, labels)
        });
        concerned.chain(owner_of(configuration)).collect()
    }

    /// The clusters that a change of a Machine affects: those that wait for it, and the one to which it belongs.
    fn concerned(
        &self,
        namespace: &str,
        machine: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Vec<ObjectRef<RawCluster>> {
        let mut clusters = self.interests.concerned(namespace, machine, labels);
        let configuration = self.stores.configurations.get(namespace, machine);
        clusters.extend(configuration.and_then(|configuration| owner_of(&configuration)));
        clusters
    }
}

/// Removes duplicates: a list of thousands of Machines affects the same few clusters.
fn each_once(
    concerned: impl Iterator<Item = Vec<ObjectRef<RawCluster>>>,
) -> Vec<ObjectRef<RawCluster>> {
    let mut clusters = HashSet::new();
    concerned.for_each(|some| clusters.extend(some));
    clusters.into_iter().collect()
}

fn owner_of(configuration: &NixosConfiguration) -> Option<ObjectRef<RawCluster>> {
    let owner = controller(&configuration.metadata);
    let name = match owner {
        Some(owner) if owner.kind == "KubernetesCluster" => &owner.name,
        Some(_) => return None,
        // If someone removed the owner reference, the label still names the cluster.
        None => configuration.labels().get(CLUSTER_LABEL)?,
    };
    Some(ObjectRef::new(name).within(&configuration.namespace().unwrap_or_default()))
}

#[cfg(test)]
mod tests;
