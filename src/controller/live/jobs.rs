//! Live reads of Jobs, and of the objects by which they belong to configurations.
//!
//! No selector finds the Jobs of a cluster. NIO puts labels on what it creates itself, but most Jobs are created by the controller of
//! `CronJobs`. Such a Job has NIO's labels only if nothing else labels the Jobs of that `CronJob`, such as `jobTemplate` of the
//! configuration or a policy of the management cluster. So all objects of a kind are listed, but in a namespace of many only by pages of
//! metadata. Of these, only those with the right controller are kept or read. A pass costs one request for each kind and
//! [`METADATA_PAGE`] objects, and memory for its own Jobs and for one page.
//!
//! [`METADATA_PAGE`]: crate::controller::schedule::METADATA_PAGE

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::{Api, Client};

use super::{FEW, Live};
use crate::api::nio::{CronJob, Job, NixCronJob, NixJob};
use crate::controller::calls::{self, CallError, Object};
use crate::controller::stores::{JobStores, owned_keys, owner_key};
use crate::plan::observed::controller;

/// The Jobs of configurations, and the objects between them.
pub(super) struct LiveJobs<'a> {
    /// The uids of the configurations whose Jobs were read. For others, the watches' copies are used.
    read: BTreeSet<String>,
    jobs: Live<'a, Job>,
    cron_jobs: Live<'a, CronJob>,
    nix_cron_jobs: Live<'a, NixCronJob>,
    nix_jobs: Live<'a, NixJob>,
}

impl<'a> LiveJobs<'a> {
    pub(super) fn cached(cached: &'a JobStores, namespace: &str) -> Self {
        Self {
            read: BTreeSet::new(),
            jobs: Live::new(&cached.jobs, namespace.to_owned(), owned_keys),
            cron_jobs: Live::new(&cached.cron_jobs, namespace.to_owned(), owned_keys),
            nix_cron_jobs: Live::new(&cached.nix_cron_jobs, namespace.to_owned(), owned_keys),
            nix_jobs: Live::new(&cached.nix_jobs, namespace.to_owned(), owned_keys),
        }
    }

    /// Reads the Jobs of the configurations with these uids.
    pub(super) async fn read(
        &mut self,
        client: &Client,
        configurations: BTreeSet<String>,
    ) -> Result<(), CallError> {
        // Owners come before what they own, as they are created: else a Job that begins in between would be missed.
        let recurring = self.nix_cron_jobs.read_of(client, &configurations).await?;
        let once = self.nix_jobs.read_of(client, &configurations).await?;
        let cron_jobs = self.cron_jobs.read_of(client, &recurring).await?;
        let owners = recurring.into_iter().chain(once).chain(cron_jobs).collect();
        self.jobs.read_of(client, &owners).await?;
        self.read = configurations;
        Ok(())
    }

    /// The Jobs that belong to the configuration with this uid, directly or through other owners.
    pub(super) fn owned_by(&self, configuration: &str) -> Vec<Arc<Job>> {
        let is_read = self.read.contains(configuration);
        let key = owner_key(configuration);
        let recurring = uids(self.nix_cron_jobs.of(is_read, &key));
        let cron_jobs = recurring.iter().map(|uid| owner_key(uid));
        let cron_jobs = cron_jobs.flat_map(|key| uids(self.cron_jobs.of(is_read, &key)));
        let once = uids(self.nix_jobs.of(is_read, &key)).into_iter();
        let owners: Vec<String> = cron_jobs.chain(once).chain(recurring.clone()).collect();
        let jobs = owners.iter().map(|uid| owner_key(uid));
        jobs.flat_map(|key| self.jobs.of(is_read, &key)).collect()
    }
}

impl<K: Object> Live<'_, K> {
    /// Reads the objects that these uids control, and returns the uids of those.
    async fn read_of(
        &mut self,
        client: &Client,
        owners: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, CallError>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
    {
        if owners.is_empty() {
            return Ok(BTreeSet::new());
        }
        let api: Api<K> = Api::namespaced(client.clone(), &self.namespace);
        let all = ListParams::default();
        if self.cached.holds_more_than(&self.namespace, FEW) {
            let is_owned = |meta: &_| controller(meta).is_some_and(|it| owners.contains(&it.uid));
            let others = self.read_pages(&api, &all, is_owned).await?;
            self.read_by_name(&api, others).await?;
        } else {
            self.insert(calls::list_where(&api, &all).await?);
        }
        let keys = owners.iter().map(|uid| owner_key(uid));
        Ok(keys.flat_map(|key| uids(self.of(true, &key))).collect())
    }

    /// The objects under an index key: those that were read, or the watch's copies.
    fn of(&self, is_read: bool, key: &str) -> Vec<Arc<K>> {
        let store = if is_read { &self.store } else { self.cached };
        store.find(&self.namespace, key)
    }
}

fn uids<K: kube::Resource>(objects: Vec<Arc<K>>) -> Vec<String> {
    let uids = objects
        .into_iter()
        .filter_map(|object| object.meta().uid.clone());
    uids.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
