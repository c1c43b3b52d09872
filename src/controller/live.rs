//! Machines and configurations as they are now, at a cost that follows what a pass needs and not how many objects its namespace has.
//!
//! Before a decision, a pass reads the configurations of its own cluster and the Machines that the planner names. A LIST by the label
//! `cluster` shows the configurations of the cluster, also those that the watch does not show yet. Labels can be taken off by hand:
//! so each configuration that the watch has shown as the cluster's, or that bears the name of a machine that matters, is read by name
//! where the LIST does not show it. One that neither shows is nobody's member, and a Node without a configuration counts against the
//! quorum. A foreign configuration may have any name and any label. One that the watch has shown on a machine that matters is read by
//! name, and before the first configuration of a machine is made, and before the cluster's finalizer goes, all are read. Before any
//! other write that a foreign configuration of the machine forbids, they are counted: where the watch has fallen silent and the
//! namespace has more or fewer than it has shown, all are read. While it is silent, two changes stay unseen: one that is made in the
//! place of one that was deleted, and one whose `machineRef` is edited.
//!
//! What is read is as new as a LIST without resourceVersion. An object of which a LIST of metadata shows the uid and the
//! resourceVersion of the watch's one is that one: so the LIST by the label shows no more than metadata where a cluster has many.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::ListParams;
use kube::core::Selector;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt as _};

use super::calls::{self, CallError, Object};
use super::stores::{
    JobStores, Store, Stores, configuration_keys, label_key, machine_key, owned_keys, owner_key,
};
use crate::api::names::{CLUSTER_LABEL, MachineName};
use crate::api::nio::{CronJob, Job, Machine, NixCronJob, NixJob, NixosConfiguration};
use crate::plan::action::Scope;
use crate::plan::facts::Facts;
use crate::plan::observed::ClusterView;
use crate::plan::writes::Precondition;

/// A kind of which a namespace has at most so many objects is listed as a whole, in one request.
const FEW: usize = 64;
/// Objects are read by name where that is at most one read for so many objects of the namespace. Else they are found on pages.
const OBJECTS_FOR_A_READ: usize = 16;
/// Objects read by name at the same time.
pub(super) const READS_AT_A_TIME: usize = 16;

/// Where a pass takes Machines and configurations from: what was read for it, and for all else what the watches have shown.
pub struct Sources<'a> {
    machines: Live<'a, Machine>,
    configurations: Live<'a, NixosConfiguration>,
    jobs: LiveJobs<'a>,
    /// The configurations that were asked for.
    scope: Scope,
}

impl<'a> Sources<'a> {
    /// What the watches have shown, and nothing else.
    #[must_use]
    pub fn cached(cached: &'a Stores, namespace: &str) -> Self {
        Self {
            machines: Live::new(&cached.machines, namespace.to_owned(), |_| Vec::new()),
            configurations: Live::new(
                &cached.configurations,
                namespace.to_owned(),
                configuration_keys,
            ),
            jobs: LiveJobs::cached(&cached.work, namespace),
            scope: Scope::Cluster,
        }
    }

    /// Nothing, where NIO's resources are not served.
    #[must_use]
    pub fn none(cached: &'a Stores, namespace: &str) -> Self {
        let mut none = Self::cached(cached, namespace);
        (none.machines.all, none.configurations.all) = (true, true);
        none
    }

    /// Reads the configurations of a scope now. Machines are read when the planner names them.
    pub async fn live(
        client: &Client,
        cached: &'a Stores,
        cluster: &ClusterView,
        scope: Scope,
    ) -> Result<Self, CallError> {
        let namespace = &cluster.namespace;
        let mut sources = Self::cached(cached, namespace);
        sources.scope = scope;
        sources.machines.api = Some(Api::namespaced(client.clone(), namespace));
        let api = Api::namespaced(client.clone(), namespace);
        sources.configurations.api = Some(api.clone());
        let (live, cached) = (&mut sources.configurations, &cached.configurations);
        if scope == Scope::Namespace || !cached.holds_more_than(namespace, FEW) {
            live.read(None).await?;
            return Ok(sources);
        }
        let keys = [owner_key(&cluster.uid), label_key(&cluster.name)];
        let known = keys.iter().flat_map(|key| cached.find(namespace, key));
        let known: BTreeSet<String> = known.map(|held| held.name_any()).collect();
        let label = format!("{CLUSTER_LABEL}={}", cluster.name);
        let labelled = ListParams::default().labels(&label);
        if known.len() > FEW {
            // Each of them lists all machines: those that the watch has shown as they are stay where they are.
            let others = live.read_pages(&api, &labelled, None).await?;
            live.read_by_name(&api, others).await?;
        } else {
            live.take(calls::list_where(&api, &labelled).await?);
        }
        live.read(Some(known)).await?;
        if scope == Scope::NoOthers && !live.all {
            let count = calls::count(&api).await?;
            if count != Some(cached.count(namespace)) {
                live.read(None).await?;
            }
        }
        Ok(sources)
    }

    /// Reads all Jobs of the namespace, and whose they are: they bear no label by which those of a cluster could be told.
    pub async fn read_jobs(&mut self, client: &Client) -> Result<(), CallError> {
        self.jobs.read(client).await
    }

    /// The Jobs that apply a configuration.
    #[must_use]
    pub fn jobs(&self, configuration: &NixosConfiguration) -> Vec<Arc<Job>> {
        let uid = configuration.metadata.uid.as_deref();
        uid.map(|uid| self.jobs.of(uid)).unwrap_or_default()
    }

    /// Whether what was read serves a plan of this scope.
    #[must_use]
    pub fn shows(&self, scope: Scope) -> bool {
        self.configurations.all || scope <= self.scope
    }

    /// The configurations under an index key of the store.
    #[must_use]
    pub fn configurations(&self, index_key: &str) -> Vec<Arc<NixosConfiguration>> {
        self.configurations.find(index_key)
    }

    /// Machines, with every configuration that bears the name of one or names it.
    pub async fn look_up(
        &mut self,
        machines: BTreeSet<MachineName>,
        facts: &mut Facts,
    ) -> Result<(), CallError> {
        let names: BTreeSet<String> = machines.iter().map(ToString::to_string).collect();
        self.machines.read(Some(names.clone())).await?;
        let shown = |name: &String| self.configurations.shown(&machine_key(name));
        let naming = names.iter().flat_map(shown).map(|held| held.name_any());
        let on = naming.chain(names.iter().cloned()).collect();
        self.configurations.read(Some(on)).await?;
        for machine in machines {
            self.show(machine, facts);
        }
        Ok(())
    }

    /// All Machines that match a selector, as the watches have shown them: one that is chosen is looked up then.
    pub fn candidates(&self, selector: &Selector, facts: &mut Facts) {
        for machine in self.machines.matching(selector) {
            let name = machine.name_any();
            let Some(name) = MachineName::parse(&name) else {
                facts.misnamed.insert(name, machine);
                continue;
            };
            // One that was looked up stays as it was read.
            if !facts.machines.contains_key(&name) {
                self.show(name, facts);
            }
        }
    }

    fn show(&self, name: MachineName, facts: &mut Facts) {
        let machine = name.as_str();
        facts.add_configurations(self.configurations.get(machine));
        facts.add_configurations(self.configurations(&machine_key(machine)));
        let found = self.machines.get(machine);
        if self.machines.api.is_some() && !self.machines.covers(machine) {
            facts.from_watch.insert(name.clone());
        } else {
            facts.from_watch.remove(&name);
        }
        facts.machines.insert(name, found);
    }
}

/// The Jobs of a namespace, and the objects between them and the configurations.
struct LiveJobs<'a> {
    jobs: Live<'a, Job>,
    cron_jobs: Live<'a, CronJob>,
    nix_cron_jobs: Live<'a, NixCronJob>,
    nix_jobs: Live<'a, NixJob>,
}

impl<'a> LiveJobs<'a> {
    fn cached(cached: &'a JobStores, namespace: &str) -> Self {
        Self {
            jobs: Live::new(&cached.jobs, namespace.to_owned(), owned_keys),
            cron_jobs: Live::new(&cached.cron_jobs, namespace.to_owned(), owned_keys),
            nix_cron_jobs: Live::new(&cached.nix_cron_jobs, namespace.to_owned(), owned_keys),
            nix_jobs: Live::new(&cached.nix_jobs, namespace.to_owned(), owned_keys),
        }
    }

    async fn read(&mut self, client: &Client) -> Result<(), CallError> {
        self.nix_cron_jobs.read_all(client).await?;
        self.nix_jobs.read_all(client).await?;
        self.cron_jobs.read_all(client).await?;
        // The Jobs last: what owns one of them was made before it.
        self.jobs.read_all(client).await
    }

    /// Those of a configuration's uid, by the uids of their controllers.
    fn of(&self, configuration: &str) -> Vec<Arc<Job>> {
        let key = owner_key(configuration);
        let recurring = uids(self.nix_cron_jobs.find(&key));
        let cron_jobs = recurring.iter().map(|uid| owner_key(uid));
        let cron_jobs = cron_jobs.flat_map(|key| uids(self.cron_jobs.find(&key)));
        let once = uids(self.nix_jobs.find(&key)).into_iter();
        let owners: Vec<String> = cron_jobs.chain(once).chain(recurring.clone()).collect();
        let jobs = owners.iter().map(|uid| owner_key(uid));
        jobs.flat_map(|key| self.jobs.find(&key)).collect()
    }
}

fn uids<K: kube::Resource>(objects: Vec<Arc<K>>) -> Vec<String> {
    let uids = objects.into_iter().filter_map(|it| it.meta().uid.clone());
    uids.collect()
}

/// Objects of one kind in one namespace: what was read of them, beside what the watch has shown.
struct Live<'a, K: kube::Resource<DynamicType = ()>> {
    /// The API server; `None`: nothing is read.
    api: Option<Api<K>>,
    cached: &'a Store<K>,
    namespace: String,
    store: Store<K>,
    /// What was asked for by name, also where there is no such object, and what was listed.
    names: BTreeSet<String>,
    /// Whether all objects of the namespace were read.
    all: bool,
}

impl<'a, K: Object> Live<'a, K> {
    fn new(cached: &'a Store<K>, namespace: String, index: fn(&K) -> Vec<String>) -> Self {
        Self {
            api: None,
            cached,
            namespace,
            store: Store::new(index),
            names: BTreeSet::new(),
            all: false,
        }
    }

    fn covers(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }

    fn get(&self, name: &str) -> Option<Arc<K>> {
        let store = if self.covers(name) {
            &self.store
        } else {
            self.cached
        };
        store.get(&self.namespace, name)
    }

    fn find(&self, index_key: &str) -> Vec<Arc<K>> {
        let mut found = self.store.find(&self.namespace, index_key);
        if !self.all {
            let shown = self.shown(index_key).into_iter();
            found.extend(shown.filter(|shown| !self.names.contains(&shown.name_any())));
        }
        found
    }

    /// What the watch has shown under an index key.
    fn shown(&self, index_key: &str) -> Vec<Arc<K>> {
        self.cached.find(&self.namespace, index_key)
    }

    fn matching(&self, selector: &Selector) -> Vec<Arc<K>> {
        let store = if self.all { &self.store } else { self.cached };
        store.matching(&self.namespace, selector)
    }

    fn take(&mut self, objects: Vec<K>) {
        for object in objects {
            self.names.insert(object.name_any());
            self.store.put(&Arc::new(object));
        }
    }

    /// Reads the objects of these names, or all of the namespace, in the cheapest way. What was read before is not read again.
    async fn read(&mut self, names: Option<BTreeSet<String>>) -> Result<(), CallError> {
        let Some(api) = self.api.clone() else {
            return Ok(());
        };
        let names = names.map(|mut names| {
            names.retain(|name| !self.names.contains(name));
            names
        });
        if self.all || names.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok(());
        }
        let has_more = |most| self.cached.holds_more_than(&self.namespace, most);
        if !has_more(FEW) {
            self.take(calls::list_where(&api, &ListParams::default()).await?);
            self.all = true;
            return Ok(());
        }
        let one_by_one = match &names {
            Some(names) if has_more(names.len().saturating_mul(OBJECTS_FOR_A_READ)) => {
                names.clone()
            }
            _ => {
                let all = ListParams::default();
                self.read_pages(&api, &all, names.as_ref()).await?
            }
        };
        self.read_by_name(&api, one_by_one).await?;
        self.all |= names.is_none();
        self.names.extend(names.into_iter().flatten());
        Ok(())
    }

    async fn read_all(&mut self, client: &Client) -> Result<(), CallError>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        self.api = Some(Api::namespaced(client.clone(), &self.namespace));
        self.read(None).await
    }

    async fn read_by_name(
        &mut self,
        api: &Api<K>,
        names: BTreeSet<String>,
    ) -> Result<(), CallError> {
        let (cached, namespace) = (self.cached, &self.namespace);
        let reads = futures::stream::iter(names).map(async |name| {
            let shown = cached.get(namespace, &name);
            let found = calls::list_one(api, &name).await?;
            Ok::<_, CallError>((name, shown, found.map(Arc::new)))
        });
        let read: Vec<_> = reads.buffered(READS_AT_A_TIME).try_collect().await?;
        for (name, shown, found) in read {
            // The next pass begins with what this one learned.
            match (found, shown) {
                (Some(found), _) => {
                    cached.saw(Arc::clone(&found));
                    self.store.put(&found);
                }
                // One of its name that the watch has shown since stays.
                (None, Some(shown)) => drop(cached.apply(Event::Delete((*shown).clone()))),
                (None, None) => {}
            }
            self.names.insert(name);
        }
        Ok(())
    }

    /// Goes through pages of metadata, of these names or all. Returns the names of the objects that the watch has not shown as they are.
    async fn read_pages(
        &mut self,
        api: &Api<K>,
        which: &ListParams,
        names: Option<&BTreeSet<String>>,
    ) -> Result<BTreeSet<String>, CallError> {
        let mut others = BTreeSet::new();
        calls::list_metadata(api, which, |meta| {
            let version = Precondition::of(&meta);
            let name = meta.name.unwrap_or_default();
            if names.is_some_and(|names| !names.contains(&name)) || self.names.contains(&name) {
                return;
            }
            let shown = self.cached.get(&self.namespace, &name);
            match shown.filter(|shown| Precondition::of(shown.meta()) == version) {
                Some(shown) => {
                    self.store.put(&shown);
                    self.names.insert(name);
                }
                None => drop(others.insert(name)),
            }
        })
        .await?;
        Ok(others)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
