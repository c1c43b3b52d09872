//! One pass for one cluster: the object that it begins with, and what is remembered of it.

use std::sync::{Arc, Mutex, MutexGuard};

use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};

use super::context::Context;
use super::gate::Kind;
use super::lock::lock;
use super::memory::Memory;
use crate::api::cluster::RawCluster;

/// One pass.
pub struct Pass<'a> {
    /// What all passes share.
    pub context: &'a Context,
    cluster: Arc<RawCluster>,
    memory: Arc<Mutex<Memory>>,
}

impl<'a> Pass<'a> {
    /// A pass for this cluster.
    #[must_use]
    pub fn new(context: &'a Context, cluster: Arc<RawCluster>) -> Self {
        Self {
            memory: context.memories.of(&cluster),
            context,
            cluster,
        }
    }

    /// Takes what the watch has shown since the pass was called for.
    pub fn refresh(&mut self) {
        let shown = self.context.cluster(&self.namespace(), &self.name());
        if let Some(shown) = shown.filter(|it| it.metadata.uid == self.cluster.metadata.uid) {
            self.cluster = shown;
        }
    }

    /// What the pass is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(&self.cluster())
    }

    /// `metadata.namespace`.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.cluster.namespace().unwrap_or_default()
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> String {
        self.cluster.name_any()
    }

    /// `metadata.uid`.
    #[must_use]
    pub fn uid(&self) -> String {
        self.cluster.uid().unwrap_or_default()
    }

    /// The cluster object: what the watch has shown, or what a write of ours returned, whichever is newer.
    #[must_use]
    pub fn cluster(&self) -> Arc<RawCluster> {
        self.memory().newest(&self.cluster)
    }

    /// What is remembered of the cluster. Not to be held over an `await`.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    /// Objects of a kind in the cluster's namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.context.client.clone(), &self.namespace())
    }

    /// Has the cluster looked at again.
    pub fn wake(&self) {
        self.context.wake(ObjectRef::from_obj(&*self.cluster));
    }

    /// Notes whether the cluster wants more of the Machines that its selectors match.
    pub fn note_interest(&self, wants_more: bool) {
        self.context.interests.note(&self.cluster, wants_more);
    }

    /// The cluster is gone: nothing is remembered of it any more.
    pub fn forget(&self) {
        let uid = self.uid();
        self.context.background.forget(&uid);
        self.context.memories.forget(&uid);
    }
}
