//! Live reads of Jobs, and of the objects by which they belong to configurations.

use std::sync::Arc;

use kube::Client;

use super::Live;
use crate::api::nio::{CronJob, Job, NixCronJob, NixJob};
use crate::controller::calls::CallError;
use crate::controller::stores::{JobStores, owned_keys, owner_key};

/// The Jobs of a namespace, and the objects between them and the configurations.
pub(super) struct LiveJobs<'a> {
    jobs: Live<'a, Job>,
    cron_jobs: Live<'a, CronJob>,
    nix_cron_jobs: Live<'a, NixCronJob>,
    nix_jobs: Live<'a, NixJob>,
}

impl<'a> LiveJobs<'a> {
    pub(super) fn cached(cached: &'a JobStores, namespace: &str) -> Self {
        Self {
            jobs: Live::new(&cached.jobs, namespace.to_owned(), owned_keys),
            cron_jobs: Live::new(&cached.cron_jobs, namespace.to_owned(), owned_keys),
            nix_cron_jobs: Live::new(&cached.nix_cron_jobs, namespace.to_owned(), owned_keys),
            nix_jobs: Live::new(&cached.nix_jobs, namespace.to_owned(), owned_keys),
        }
    }

    pub(super) async fn read(&mut self, client: &Client) -> Result<(), CallError> {
        self.nix_cron_jobs.read_all(client).await?;
        self.nix_jobs.read_all(client).await?;
        self.cron_jobs.read_all(client).await?;
        // Jobs come last: the owner of a Job is created before it.
        self.jobs.read_all(client).await
    }

    /// The Jobs that belong to the configuration with this uid, directly or through other owners.
    pub(super) fn owned_by(&self, configuration: &str) -> Vec<Arc<Job>> {
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
    let uids = objects
        .into_iter()
        .filter_map(|object| object.meta().uid.clone());
    uids.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
