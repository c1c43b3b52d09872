//! Stores for the watches of Machines, NixosConfigurations and the Jobs that apply them. They are indexed so that a pass costs the same
//! in a namespace with ten machines and with ten thousand.

mod keys;
mod store;

use kube::Resource;

use crate::api::nio::{CronJob, Job, Machine, NixCronJob, NixJob, NixosConfiguration};
use crate::plan::observed::controller;

pub use keys::{configuration_keys, label_key, machine_key, owned_keys, owner_key, uid_key};
pub use store::{Store, older};

/// The Jobs of a generation of NIO that applies by Jobs, and the objects between Jobs and configurations.
#[derive(Debug)]
pub struct JobStores {
    /// Jobs.
    pub jobs: Store<Job>,
    /// Objects that create Jobs by a schedule.
    pub cron_jobs: Store<CronJob>,
    /// Objects that NIO creates for a configuration. Each owns a `CronJob`, and at times a Job.
    pub nix_cron_jobs: Store<NixCronJob>,
    /// Objects that NIO creates to install a machine. Each owns a Job.
    pub nix_jobs: Store<NixJob>,
}

impl Default for JobStores {
    fn default() -> Self {
        Self {
            jobs: Store::new(owned_keys),
            cron_jobs: Store::new(owned_keys),
            nix_cron_jobs: Store::new(owned_keys),
            nix_jobs: Store::new(owned_keys),
        }
    }
}

impl JobStores {
    /// The kinds whose first list is not complete.
    pub(super) fn not_listed(&self) -> impl Iterator<Item = String> {
        let Self {
            jobs,
            cron_jobs,
            nix_cron_jobs,
            nix_jobs,
        } = self;
        let lists = [
            jobs.not_listed(),
            cron_jobs.not_listed(),
            nix_cron_jobs.not_listed(),
            nix_jobs.not_listed(),
        ];
        lists.into_iter().flatten()
    }

    /// The uid of the configuration to which an object belongs whose controller has this uid. If the chain of owners is not fully known, it
    /// is the last known uid.
    #[must_use]
    pub fn configuration_over(&self, namespace: &str, uid: &str) -> String {
        fn owner<K: Resource<DynamicType = ()>>(
            store: &Store<K>,
            namespace: &str,
            uid: &str,
        ) -> Option<String> {
            let found = store.find(namespace, &uid_key(uid));
            let owner = controller(found.first()?.meta())?;
            Some(owner.uid.clone())
        }
        let mut uid = uid.to_owned();
        // The longest chain has two steps: a `CronJob`, and the object that owns it.
        for _ in 0..2 {
            let over = owner(&self.cron_jobs, namespace, &uid)
                .or_else(|| owner(&self.nix_cron_jobs, namespace, &uid))
                .or_else(|| owner(&self.nix_jobs, namespace, &uid));
            match over {
                Some(over) => uid = over,
                None => break,
            }
        }
        uid
    }
}

/// The stores of all watches.
#[derive(Debug)]
pub struct Stores {
    /// Machines.
    pub machines: Store<Machine>,
    /// Configurations.
    pub configurations: Store<NixosConfiguration>,
    /// Jobs, if NIO applies by Jobs.
    pub work: JobStores,
}

impl Default for Stores {
    fn default() -> Self {
        Self {
            machines: Store::new(|_| Vec::new()),
            configurations: Store::new(configuration_keys),
            work: JobStores::default(),
        }
    }
}

impl Stores {
    /// The kinds whose first list is not complete, with or without those of Jobs.
    #[must_use]
    pub fn not_listed(&self, with_jobs: bool) -> Vec<String> {
        let of_jobs = with_jobs.then(|| self.work.not_listed());
        let lists = [self.machines.not_listed(), self.configurations.not_listed()];
        let lists = lists.into_iter().flatten();
        lists.chain(of_jobs.into_iter().flatten()).collect()
    }
}
