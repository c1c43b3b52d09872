//! Live reads of Machines and configurations. Their cost depends on what a pass needs, and not on how many objects its namespace has.
//!
//! Before a decision, a pass reads the configurations of its own cluster and the Machines that the planner names. A LIST by the label
//! `cluster` returns the configurations of the cluster, including those that the watch has not shown yet. Labels can be removed by hand. So
//! a configuration that the LIST does not return is read by name if the watch has shown it as the cluster's, or if it has the name of a
//! machine that matters. A configuration that neither of these finds does not count as a member; its Node, which then has no configuration,
//! counts against the quorum. A foreign configuration may have any name and any label. If the watch has shown one on a machine that
//! matters, it is read by name. Before the first configuration of a machine is created, and before the cluster's finalizer is removed, all
//! configurations are read. Before any other write that a foreign configuration of the machine forbids, the configurations are counted: if
//! the namespace has more or fewer than the watch has shown, the watch has stalled, and all are read. Two changes stay unseen while it has
//! stalled: a configuration that was created when another was deleted, and one whose `machineRef` was edited.
//!
//! These reads are as fresh as a LIST without resourceVersion. For a large cluster, the LIST by the label returns only metadata: an object
//! with the same uid and resourceVersion as the watch's copy is the same.

mod jobs;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::Selector;
use kube::{Api, Client, ResourceExt as _};

use super::calls::{self, CallError, Object};
use super::stores::{Store, Stores, configuration_keys, label_key, machine_key, owner_key};
use crate::api::names::{CLUSTER_LABEL, MachineName};
use crate::api::nio::{Job, Machine, NixosConfiguration};
use crate::plan::action::Scope;
use crate::plan::facts::Facts;
use crate::plan::observed::ClusterView;
use crate::plan::writes::Precondition;
use jobs::LiveJobs;

/// A kind of which a namespace has at most this many objects is listed completely, in one request.
const FEW: usize = 64;
/// Objects are read by name if that is at most one read per this many objects of the namespace. Else all pages are listed.
const OBJECTS_FOR_A_READ: usize = 16;
/// How many objects are read by name at the same time.
pub(super) const READS_AT_A_TIME: usize = 16;

/// The Machines and configurations for a pass: live reads, and the watches' copies of all that was not read.
pub struct Sources<'a> {
    machines: Live<'a, Machine>,
    configurations: Live<'a, NixosConfiguration>,
    jobs: LiveJobs<'a>,
    /// The scope of the configurations that were read.
    scope: Scope,
    /// The index keys of the cluster's configurations; none where nothing is read.
    own: Vec<String>,
}

impl<'a> Sources<'a> {
    /// Uses only what the watches have shown.
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
            own: Vec::new(),
        }
    }

    /// Contains nothing, for the case that NIO's resources are not served.
    #[must_use]
    pub fn none(cached: &'a Stores, namespace: &str) -> Self {
        let mut none = Self::cached(cached, namespace);
        (none.machines.all, none.configurations.all) = (true, true);
        none
    }

    /// Reads the configurations of a scope. Machines are read when the planner names them. Fails as the first read that does.
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
        let keys = [owner_key(&cluster.uid), label_key(&cluster.name)];
        sources.own = keys.to_vec();
        let (live, cached) = (&mut sources.configurations, &cached.configurations);
        if scope == Scope::Namespace || !cached.holds_more_than(namespace, FEW) {
            live.read(None).await?;
            return Ok(sources);
        }
        let known = keys.iter().flat_map(|key| cached.find(namespace, key));
        let known: BTreeSet<String> = known
            .map(|configuration| configuration.name_any())
            .collect();
        let label = format!("{CLUSTER_LABEL}={}", cluster.name);
        let labelled = ListParams::default().labels(&label);
        if known.len() > FEW {
            // Each configuration of a large cluster lists all machines and is long, so those that the watch shows unchanged are not read.
            let others = live.read_pages(&api, &labelled, |_| true).await?;
            live.read_by_name(&api, others).await?;
        } else {
            live.insert(calls::list_where(&api, &labelled).await?);
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

    /// Reads the Jobs that apply the cluster's configurations.
    pub async fn read_jobs(&mut self, client: &Client) -> Result<(), CallError> {
        let own = self.own.iter().flat_map(|key| self.configurations(key));
        let own = own.filter_map(|configuration| configuration.metadata.uid.clone());
        let own = own.collect();
        self.jobs.read(client, own).await
    }

    /// The Jobs that apply a configuration.
    #[must_use]
    pub fn jobs(&self, configuration: &NixosConfiguration) -> Vec<Arc<Job>> {
        let uid = configuration.metadata.uid.as_deref();
        uid.map(|uid| self.jobs.owned_by(uid)).unwrap_or_default()
    }

    /// Whether enough was read for a plan of this scope.
    #[must_use]
    pub fn shows(&self, scope: Scope) -> bool {
        self.configurations.all || scope <= self.scope
    }

    /// The configurations under an index key of the store.
    #[must_use]
    pub fn configurations(&self, index_key: &str) -> Vec<Arc<NixosConfiguration>> {
        self.configurations.find(index_key)
    }

    /// Looks up Machines, with every configuration that has the name of one or refers to it.
    pub async fn look_up(
        &mut self,
        machines: BTreeSet<MachineName>,
        facts: &mut Facts,
    ) -> Result<(), CallError> {
        let names: BTreeSet<String> = machines.iter().map(ToString::to_string).collect();
        self.machines.read(Some(names.clone())).await?;
        let shown = |name: &String| self.configurations.shown(&machine_key(name));
        let naming = names
            .iter()
            .flat_map(shown)
            .map(|configuration| configuration.name_any());
        let on = naming.chain(names.iter().cloned()).collect();
        self.configurations.read(Some(on)).await?;
        for machine in machines {
            self.show(machine, facts);
        }
        Ok(())
    }

    /// Adds all Machines that match a selector, as the watches have shown them. The chosen ones are looked up later.
    pub fn candidates(&self, selector: &Selector, facts: &mut Facts) {
        for machine in self.machines.matching(selector) {
            let name = machine.name_any();
            let Some(name) = MachineName::parse(&name) else {
                facts.misnamed.insert(name, machine);
                continue;
            };
            // A Machine that was looked up keeps what was read.
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

/// Objects of one kind in one namespace: those that were read, and the watch's copies.
struct Live<'a, K: kube::Resource<DynamicType = ()>> {
    /// `None`: nothing is read.
    api: Option<Api<K>>,
    cached: &'a Store<K>,
    namespace: String,
    store: Store<K>,
    /// The names that were read or listed, including those that do not exist.
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

    /// The watch's copies under an index key.
    fn shown(&self, index_key: &str) -> Vec<Arc<K>> {
        self.cached.find(&self.namespace, index_key)
    }

    fn matching(&self, selector: &Selector) -> Vec<Arc<K>> {
        let store = if self.all { &self.store } else { self.cached };
        store.matching(&self.namespace, selector)
    }

    fn insert(&mut self, objects: Vec<K>) {
        for object in objects {
            self.names.insert(object.name_any());
            self.store.put(&Arc::new(object));
        }
    }

    /// Reads the objects with these names, or all of the namespace, in the cheapest way. Objects that were read before are not read again.
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
            self.insert(calls::list_where(&api, &ListParams::default()).await?);
            self.all = true;
            return Ok(());
        }
        let one_by_one = match &names {
            Some(names) if has_more(names.len().saturating_mul(OBJECTS_FOR_A_READ)) => {
                names.clone()
            }
            _ => {
                let all = ListParams::default();
                let is_asked = |meta: &ObjectMeta| {
                    let name = meta.name.as_ref();
                    let names = names.as_ref().zip(name);
                    names.is_none_or(|(names, name)| names.contains(name))
                };
                self.read_pages(&api, &all, is_asked).await?
            }
        };
        self.read_by_name(&api, one_by_one).await?;
        self.all |= names.is_none();
        self.names.extend(names.into_iter().flatten());
        Ok(())
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
            // Updates the store, so that the next pass starts from what this one read.
            match (found, shown) {
                (Some(found), _) => {
                    cached.saw(Arc::clone(&found));
                    self.store.put(&found);
                }
                (None, Some(shown)) => cached.miss(&shown),
                (None, None) => {}
            }
            self.names.insert(name);
        }
        Ok(())
    }

    /// Lists pages of metadata. Of the objects that `is_asked` accepts, it keeps the watch's copies, and returns the names of those that
    /// differ from them.
    async fn read_pages(
        &mut self,
        api: &Api<K>,
        which: &ListParams,
        is_asked: impl Fn(&ObjectMeta) -> bool,
    ) -> Result<BTreeSet<String>, CallError> {
        let mut others = BTreeSet::new();
        calls::list_metadata(api, which, |meta| {
            let version = Precondition::of(&meta);
            let asked = is_asked(&meta);
            let name = meta.name.unwrap_or_default();
            if !asked || self.names.contains(&name) {
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
