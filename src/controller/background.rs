//! Work that a pass must not wait for: fetching and verifying the kubeconfig, probing the cluster, evicting pods, and resolving refs. A
//! broken machine does not delay other work.

mod fetch;
mod hosts;
mod kubeconfig;
mod logins;
mod pace;
mod resolve;
mod task;
mod workload;

pub use fetch::{FetchSource, FetchSpec, Pins};
pub use hosts::MeetSpec;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::UnboundedSender;

use super::clock::now;
use super::metrics::Metrics;
use super::named::secret_value;
use super::schedule::{
    CONCURRENT_LOGINS, CONCURRENT_PROBES, CONCURRENT_RESOLUTIONS, LOGINS_KEPT_FOR_FIRST_ROUNDS,
    PROBES_KEPT_FOR_THE_QUICK, RESOLUTIONS_KEPT_FOR_THE_QUICK, SEARCH_TIMEOUT,
};
use crate::api::cluster::RawCluster;
use crate::api::digest::sha256;
use crate::api::kubeconfig::VALUE_KEY;
use crate::api::names::kubeconfig_name;
use crate::plan::observed::{ClusterView, ControlPlaneHosts, Fetch, WorkloadHealth, Works};
use crate::plan::writes::Wanted;
use crate::remote::gate::{Class, Gate};
use crate::remote::git::Reach;
use crate::remote::lock::lock;
use crate::remote::offload::of_namespace;
use fetch::{Fetched, Memory, fetch_round, lists_nodes};
use kubeconfig::Kubeconfig;
use logins::Logins;
use pace::Paces;
use resolve::Resolution;
use task::Task;

/// The background work for one cluster.
#[derive(Default)]
struct Work {
    kubeconfig: Kubeconfig,
    probing: Task,
    /// The result of the last probe, and when it began.
    probed: Option<(Instant, WorkloadHealth)>,
    resolution: Resolution,
    /// By Node: a blocked drain does not delay another.
    evicting: BTreeMap<String, Task>,
}

type AllWork = Mutex<HashMap<String, Work>>;

/// All background work, by cluster uid. It ends when this is dropped.
pub struct Background {
    client: kube::Client,
    resync: Duration,
    work: Arc<AllWork>,
    wake: UnboundedSender<ObjectRef<RawCluster>>,
    logins: Arc<Logins>,
    /// Limits requests to clusters.
    asking: Arc<Gate>,
    /// Limits requests to git servers.
    resolving: Arc<Gate>,
    reach: Reach,
}

/// Where a task stores its results.
#[derive(Clone)]
struct Notes {
    cluster: ObjectRef<RawCluster>,
    uid: String,
    work: Weak<AllWork>,
    wake: UnboundedSender<ObjectRef<RawCluster>>,
}

impl Notes {
    /// Stores a result. If `take` returns that it is new, the cluster is reconciled. Results for a deleted cluster are dropped.
    fn note(&self, take: impl FnOnce(&mut Work) -> bool) {
        let Some(work) = self.work.upgrade() else {
            return;
        };
        if lock(&work).get_mut(&self.uid).is_some_and(take) {
            let _ = self.wake.send(self.cluster.clone());
        }
    }
}

impl Background {
    /// Without work; `wake` receives each cluster that has a new result.
    #[must_use]
    pub fn new(
        client: kube::Client,
        resync: Duration,
        wake: UnboundedSender<ObjectRef<RawCluster>>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let logins = Gate::new(CONCURRENT_LOGINS, LOGINS_KEPT_FOR_FIRST_ROUNDS);
        let asking = Gate::new(CONCURRENT_PROBES, PROBES_KEPT_FOR_THE_QUICK);
        let resolving = Gate::new(CONCURRENT_RESOLUTIONS, RESOLUTIONS_KEPT_FOR_THE_QUICK);
        metrics.show_queue("logins", logins.clone());
        metrics.show_queue("probes", asking.clone());
        metrics.show_queue("git", resolving.clone());
        Self {
            client,
            resync,
            work: Arc::default(),
            wake,
            logins: Arc::new(Logins::new(logins, Arc::clone(metrics))),
            asking: Arc::new(asking),
            resolving: Arc::new(resolving),
            reach: Reach::default(),
        }
    }

    /// Asks git servers from here.
    #[must_use]
    pub fn asking_from(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// Ends all work for a cluster that is gone.
    pub fn forget(&self, uid: &str) {
        lock(&self.work).remove(uid);
    }

    /// Ends all work but that of these clusters.
    pub fn retain(&self, uids: &BTreeSet<String>) {
        lock(&self.work).retain(|uid, _| uids.contains(uid));
    }

    /// The state of the fetch for a cluster under these circumstances, and of the host keys of these machines.
    #[must_use]
    pub fn fetch(&self, uid: &str, circumstances: &str, hosts: &ControlPlaneHosts) -> Fetch {
        self.with(uid, |work| work.kubeconfig.under(circumstances, hosts))
    }

    /// The kubeconfig that was fetched for a cluster.
    #[must_use]
    pub fn fetched(&self, uid: &str) -> Option<Fetched> {
        self.with(uid, |work| work.kubeconfig.next.fetched.clone())
    }

    /// The host key lines to pin for a cluster; `None` if nothing has to be written.
    #[must_use]
    pub fn host_key_lines(&self, uid: &str) -> Option<Vec<String>> {
        self.with(uid, |work| {
            let hosts = &work.kubeconfig.hosts;
            hosts.to_write().then(|| hosts.lines())
        })
    }

    /// Notes that the host keys are pinned.
    pub fn note_pinned(&self, uid: &str) {
        self.with(uid, |work| work.kubeconfig.note_pinned());
    }

    /// Forgets what was read under other pins.
    pub fn discard_pins(&self, uid: &str) {
        self.with(uid, |work| {
            work.kubeconfig.hosts.discard();
            work.kubeconfig.discard();
        });
    }

    /// Starts to read the host keys of machines, unless that is in progress.
    pub fn start_meet(&self, cluster: &ClusterView, spec: MeetSpec) {
        let (notes, client) = (self.notes(cluster), self.client.clone());
        let logins = Arc::clone(&self.logins);
        self.with(&cluster.uid, |work| {
            let Kubeconfig { hosts, paces, .. } = &mut work.kubeconfig;
            let (met, paces, class) = (hosts.met(), Arc::clone(paces), hosts.class());
            let meet = hosts::meet(client, spec, met, paces, notes, (logins, class));
            hosts.meeting.start(of_namespace(&cluster.namespace, meet));
        });
    }

    /// Forgets the fetched kubeconfig.
    pub fn discard(&self, uid: &str) {
        self.with(uid, |work| work.kubeconfig.discard());
    }

    /// Notes which kubeconfig is stored.
    pub fn note_stored(&self, uid: &str, digest: &str) {
        self.with(uid, |work| work.kubeconfig.note_stored(digest));
    }

    /// Whether the last verification was of another kubeconfig.
    #[must_use]
    pub fn verified_another(&self, uid: &str, digest: &str) -> bool {
        self.with(uid, |work| work.kubeconfig.verified_another(digest))
    }

    /// Whether the stored kubeconfig with this digest works, how often in a row it failed, and whether to verify it again.
    #[must_use]
    pub fn works(&self, uid: &str, digest: &str) -> (Works, u32, bool) {
        self.with(uid, |work| work.kubeconfig.works(digest, self.resync))
    }

    /// Starts to fetch a kubeconfig, unless that is in progress.
    pub fn start_fetch(&self, cluster: &ClusterView, spec: FetchSpec) {
        let (notes, client) = (self.notes(cluster), self.client.clone());
        let logins = Arc::clone(&self.logins);
        self.with(&cluster.uid, |work| {
            let Kubeconfig {
                next, paces, hosts, ..
            } = &mut work.kubeconfig;
            let (class, paces) = (next.class(), Arc::clone(paces));
            let search = search(client, spec, paces, notes, (logins, class));
            let search = of_namespace(&cluster.namespace, search);
            if next.fetching.start(search) {
                hosts.note_search();
                next.began = Some(now());
            }
        });
    }

    /// Starts to verify the stored kubeconfig, unless that is in progress.
    pub fn start_verify(&self, cluster: &ClusterView) {
        let (notes, client) = (self.notes(cluster), self.client.clone());
        let (namespace, secret) = (cluster.namespace.clone(), kubeconfig_name(&cluster.name));
        let turn = self.turn_to_ask(cluster, self.class(cluster));
        let verify = async move {
            let _turn = turn.await;
            let Ok(stored) = secret_value(&client, &namespace, &secret, VALUE_KEY).await else {
                return;
            };
            let (digest, outcome) = match stored {
                Some(kubeconfig) => {
                    let digest = sha256(kubeconfig.expose().as_bytes());
                    (digest, lists_nodes(&kubeconfig).await)
                }
                None => (String::new(), Err(kubeconfig::none_is_stored())),
            };
            notes.note(|work| {
                work.kubeconfig.note_verified(digest, outcome);
                true
            });
        };
        let verify = of_namespace(&cluster.namespace, verify);
        self.with(&cluster.uid, |work| work.kubeconfig.verifying.start(verify));
    }

    fn notes(&self, cluster: &ClusterView) -> Notes {
        Notes {
            cluster: ObjectRef::new(&cluster.name).within(&cluster.namespace),
            uid: cluster.uid.clone(),
            work: Arc::downgrade(&self.work),
            wake: self.wake.clone(),
        }
    }

    fn with<T>(&self, uid: &str, f: impl FnOnce(&mut Work) -> T) -> T {
        f(lock(&self.work).entry(uid.to_owned()).or_default())
    }
}

/// Fetches until a working kubeconfig is found. If one is stored already, one round over the machines is enough.
async fn search(
    client: kube::Client,
    spec: FetchSpec,
    paces: Arc<Mutex<Paces>>,
    notes: Notes,
    (logins, mut class): (Arc<Logins>, Class),
) {
    let mut memory = Memory::default();
    let until = Instant::now() + SEARCH_TIMEOUT;
    loop {
        let round = fetch_round(&client, &spec, &mut memory, &paces, (&logins, class)).await;
        class = Class::Other;
        let ends = round.works() || spec.wanted != Wanted::First;
        let mut unpinned = false;
        notes.note(|work| {
            let kubeconfig = &mut work.kubeconfig;
            // If the search was stopped meanwhile, its result belongs to other pins or another spec.
            kubeconfig.next.fetching.is_current() && {
                unpinned = kubeconfig
                    .hosts
                    .note_unpinned(&round.unpinned, Instant::now());
                let news = kubeconfig.note_round(round);
                unpinned | news | (ends && kubeconfig.next.fetching.finish())
            }
        });
        if unpinned {
            // The machines are met at once. With the pins of before, the next round would have them met once more.
            memory.forget_pins();
        }
        if ends {
            return;
        }
        let machines = spec.sources.iter().map(|source| &source.machine);
        let pause = lock(&paces).pause(machines, Instant::now());
        tokio::time::sleep(pause).await;
        if Instant::now() >= until {
            notes.note(|work| work.kubeconfig.next.fetching.finish());
            return;
        }
    }
}

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod hosts_tests;
#[cfg(test)]
mod search_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
