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
use super::stores::{Store, Stores, configuration_keys, label_key, machine_key, owner_key};
use crate::api::names::{CLUSTER_LABEL, MachineName};
use crate::api::nio::{Machine, NixosConfiguration};
use crate::plan::action::Scope;
use crate::plan::facts::Facts;
use crate::plan::observed::ClusterView;

/// A kind of which a namespace has at most so many objects is listed as a whole, in one request.
const FEW: usize = 64;
/// Objects are read by name where that is at most one read for so many objects of the namespace. Else they are found on pages.
const OBJECTS_FOR_A_READ: usize = 16;
/// Objects read by name at the same time.
pub(super) const READS_AT_A_TIME: usize = 16;

/// Where a pass takes Machines and configurations from: what was read for it, and for all else what the watches have shown.
pub struct Sources<'a> {
    /// The API server, in a pass from live reads.
    client: Option<Client>,
    namespace: String,
    cached: &'a Stores,
    machines: Live<Machine>,
    configurations: Live<NixosConfiguration>,
    /// The configurations that were asked for.
    scope: Scope,
}

impl<'a> Sources<'a> {
    /// What the watches have shown, and nothing else.
    #[must_use]
    pub fn cached(cached: &'a Stores, namespace: String) -> Self {
        Self {
            client: None,
            namespace,
            cached,
            machines: Live::new(|_| Vec::new()),
            configurations: Live::new(configuration_keys),
            scope: Scope::Cluster,
        }
    }

    /// Nothing, where NIO's resources are not served.
    #[must_use]
    pub fn none(cached: &'a Stores, namespace: String) -> Self {
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
        let mut sources = Self::cached(cached, cluster.namespace.clone());
        let api = Api::namespaced(client.clone(), &sources.namespace);
        sources.client = Some(client.clone());
        sources.scope = scope;
        let (live, cached) = (&mut sources.configurations, &cached.configurations);
        let all = scope == Scope::Namespace;
        let known = if all || !cached.holds_more_than(&cluster.namespace, FEW) {
            None
        } else {
            let keys = [owner_key(&cluster.uid), label_key(&cluster.name)];
            let known = keys
                .iter()
                .flat_map(|key| cached.find(&cluster.namespace, key));
            let known: BTreeSet<String> = known.map(|held| held.name_any()).collect();
            let label = format!("{CLUSTER_LABEL}={}", cluster.name);
            let labelled = ListParams::default().labels(&label);
            if known.len() > FEW {
                // Each of them lists all machines: those that the watch has shown as they are stay where they are.
                live.read_listed(&api, cached, &sources.namespace, &labelled)
                    .await?;
            } else {
                live.take(calls::list_where(&api, &labelled).await?);
            }
            Some(known)
        };
        live.read(&api, cached, &sources.namespace, known).await?;
        if scope == Scope::NoOthers && !live.all {
            let count = calls::count(&api).await?;
            if count != Some(cached.count(&sources.namespace)) {
                live.read(&api, cached, &sources.namespace, None).await?;
            }
        }
        Ok(sources)
    }

    /// Whether what was read serves a plan of this scope.
    #[must_use]
    pub fn shows(&self, scope: Scope) -> bool {
        self.configurations.all || scope <= self.scope
    }

    /// The configurations under an index key of the store.
    #[must_use]
    pub fn configurations(&self, index_key: &str) -> Vec<Arc<NixosConfiguration>> {
        let cached = &self.cached.configurations;
        self.configurations.find(cached, &self.namespace, index_key)
    }

    /// Machines, with every configuration that bears the name of one or names it.
    pub async fn look_up(
        &mut self,
        machines: BTreeSet<MachineName>,
        facts: &mut Facts,
    ) -> Result<(), CallError> {
        if let Some(client) = self.client.clone() {
            let names = || machines.iter().map(ToString::to_string);
            let api = Api::namespaced(client.clone(), &self.namespace);
            let cached = &self.cached.machines;
            let read = self
                .machines
                .read(&api, cached, &self.namespace, Some(names().collect()));
            read.await?;
            let api = Api::namespaced(client, &self.namespace);
            let cached = &self.cached.configurations;
            let naming = machines
                .iter()
                .flat_map(|machine| cached.find(&self.namespace, &machine_key(machine.as_str())));
            let on = names().chain(naming.map(|held| held.name_any())).collect();
            let live = &mut self.configurations;
            live.read(&api, cached, &self.namespace, Some(on)).await?;
        }
        for machine in machines {
            self.show(machine, facts);
        }
        Ok(())
    }

    /// All Machines that match a selector, as the watches have shown them: one that is chosen is looked up then.
    pub fn candidates(&self, selector: &Selector, facts: &mut Facts) {
        let machines = if self.machines.all {
            &self.machines.store
        } else {
            &self.cached.machines
        };
        for machine in machines.matching(&self.namespace, selector) {
            let Some(name) = MachineName::parse(&machine.name_any()) else {
                continue;
            };
            // One that was looked up stays as it was read.
            if !facts.machines.contains_key(&name) {
                self.show(name, facts);
            }
        }
    }

    fn show(&self, name: MachineName, facts: &mut Facts) {
        let (cached, namespace) = (self.cached, &self.namespace);
        let (live, machine) = (&self.configurations, name.as_str());
        let of_its_name = live.get(&cached.configurations, namespace, machine);
        facts.add_configurations(of_its_name);
        facts.add_configurations(self.configurations(&machine_key(machine)));
        let found = self.machines.get(&cached.machines, namespace, machine);
        if self.client.is_some() && !self.machines.covers(machine) {
            facts.from_watch.insert(name.clone());
        } else {
            facts.from_watch.remove(&name);
        }
        facts.machines.insert(name, found);
    }
}

/// What was read of one kind.
struct Live<K> {
    store: Store<K>,
    /// What was asked for by name, also where there is no such object, and what was listed.
    names: BTreeSet<String>,
    /// Whether all objects of the namespace were read.
    all: bool,
}

impl<K: Object> Live<K> {
    fn new(index: fn(&K) -> Vec<String>) -> Self {
        Self {
            store: Store::new(index),
            names: BTreeSet::new(),
            all: false,
        }
    }

    fn covers(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }

    fn get(&self, cached: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>> {
        let store = if self.covers(name) {
            &self.store
        } else {
            cached
        };
        store.get(namespace, name)
    }

    fn find(&self, cached: &Store<K>, namespace: &str, index_key: &str) -> Vec<Arc<K>> {
        let mut found = self.store.find(namespace, index_key);
        if !self.all {
            let shown = cached.find(namespace, index_key).into_iter();
            found.extend(shown.filter(|shown| !self.names.contains(&shown.name_any())));
        }
        found
    }

    fn take(&mut self, objects: Vec<K>) {
        for object in objects {
            self.names.insert(object.name_any());
            self.store.put(&Arc::new(object));
        }
    }

    /// Reads the objects of these names, or all of the namespace, in the cheapest way. What was read before is not read again.
    async fn read(
        &mut self,
        api: &Api<K>,
        cached: &Store<K>,
        namespace: &str,
        names: Option<BTreeSet<String>>,
    ) -> Result<(), CallError> {
        let names = names.map(|mut names| {
            names.retain(|name| !self.names.contains(name));
            names
        });
        if self.all || names.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok(());
        }
        if !cached.holds_more_than(namespace, FEW) {
            self.take(calls::list_where(api, &ListParams::default()).await?);
            self.all = true;
            return Ok(());
        }
        let is_few = |names: &BTreeSet<String>| {
            cached.holds_more_than(namespace, names.len().saturating_mul(OBJECTS_FOR_A_READ))
        };
        let one_by_one = match &names {
            Some(names) if is_few(names) => names.clone(),
            _ => {
                let all = ListParams::default();
                self.read_pages(api, cached, namespace, &all, names.as_ref())
                    .await?
            }
        };
        self.read_by_name(api, cached, namespace, one_by_one)
            .await?;
        self.all |= names.is_none();
        self.names.extend(names.into_iter().flatten());
        Ok(())
    }

    /// Reads what a LIST of metadata shows, and of that by name what the watch has not shown as it is.
    async fn read_listed(
        &mut self,
        api: &Api<K>,
        cached: &Store<K>,
        namespace: &str,
        which: &ListParams,
    ) -> Result<(), CallError> {
        let others = self.read_pages(api, cached, namespace, which, None).await?;
        self.read_by_name(api, cached, namespace, others).await
    }

    async fn read_by_name(
        &mut self,
        api: &Api<K>,
        cached: &Store<K>,
        namespace: &str,
        names: BTreeSet<String>,
    ) -> Result<(), CallError> {
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

    /// Goes through pages of metadata. Returns the names of the objects that the watch has not shown as they are.
    async fn read_pages(
        &mut self,
        api: &Api<K>,
        cached: &Store<K>,
        namespace: &str,
        which: &ListParams,
        names: Option<&BTreeSet<String>>,
    ) -> Result<BTreeSet<String>, CallError> {
        let mut others = BTreeSet::new();
        calls::list_metadata(api, which, |meta| {
            let name = meta.name.unwrap_or_default();
            if names.is_some_and(|names| !names.contains(&name)) || self.names.contains(&name) {
                return;
            }
            let shown = cached.get(namespace, &name).filter(|shown| {
                let shown = shown.meta();
                shown.uid == meta.uid && shown.resource_version == meta.resource_version
            });
            match shown {
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
