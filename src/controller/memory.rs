//! What is remembered of a cluster from one pass to the next. Nothing in here is needed for being right: it may be lost at any time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::schedule::FAILURES_WHILE_ERRORS_DIFFER;
use super::stores::older;
use crate::api::cluster::RawCluster;
use crate::api::spec::ValidSpec;
use crate::api::validate::validate;
use crate::plan::patience::Clock;

/// The spec as the planner takes it, or what is wrong with it.
pub type SpecOutcome = Result<Arc<ValidSpec>, Vec<String>>;

/// What is remembered of one cluster.
#[derive(Default)]
pub struct Memory {
    /// The spec of a generation.
    spec: Option<(i64, SpecOutcome)>,
    /// Since when each clock of patience runs.
    since: BTreeMap<Clock, Timestamp>,
    /// The newest form of the object that a write of ours returned.
    newest: Option<RawCluster>,
    /// When the status was last written.
    pub(super) status_written: Option<Instant>,
    failures: u32,
    last_failure: Option<String>,
}

impl Memory {
    /// The spec of this cluster, validated once a generation.
    pub fn spec(&mut self, cluster: &RawCluster) -> SpecOutcome {
        let generation = cluster.metadata.generation.unwrap_or_default();
        match &self.spec {
            Some((of, spec)) if *of == generation => spec.clone(),
            _ => {
                let valid = validate(&cluster.name_any(), &cluster.spec).map(Arc::new);
                let spec =
                    valid.map_err(|problems| problems.iter().map(ToString::to_string).collect());
                self.spec.insert((generation, spec)).1.clone()
            }
        }
    }

    /// Since when each clock of patience runs.
    #[must_use]
    pub fn clocks(&self) -> &BTreeMap<Clock, Timestamp> {
        &self.since
    }

    /// Starts the clocks that run and are not known yet, and stops all others.
    pub fn keep_clocks(&mut self, running: &BTreeSet<Clock>, now: Timestamp) {
        self.since.retain(|clock, _| running.contains(clock));
        for clock in running {
            self.since.entry(clock.clone()).or_insert(now);
        }
    }

    /// The object as a write of ours returned it, where that is newer than this one.
    #[must_use]
    pub fn newest(&self, cluster: &Arc<RawCluster>) -> Arc<RawCluster> {
        let version = |cluster: &RawCluster| cluster.metadata.resource_version.clone();
        let shown = version(cluster);
        let newer = self
            .newest
            .as_ref()
            .filter(|newest| older(shown.as_deref(), version(newest).as_deref()));
        newer.map_or_else(|| Arc::clone(cluster), |newest| Arc::new(newest.clone()))
    }

    /// A write of ours, or a read by name, returned this.
    pub fn saw(&mut self, cluster: RawCluster) {
        self.newest = Some(cluster);
    }

    /// Failed passes in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A pass failed; how many there were in a row.
    pub fn failed(&mut self, why: String) -> u32 {
        let most = if self.last_failure.as_ref() == Some(&why) {
            u32::MAX
        } else {
            FAILURES_WHILE_ERRORS_DIFFER
        };
        self.last_failure = Some(why);
        self.failures = self.failures.saturating_add(1).min(most);
        self.failures
    }

    /// A pass went well.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// The memories of all clusters, by uid.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<String, Arc<Mutex<Memory>>>>);

impl Memories {
    /// What is remembered of a cluster.
    #[must_use]
    pub fn of(&self, cluster: &RawCluster) -> Arc<Mutex<Memory>> {
        let uid = cluster.uid().unwrap_or_default();
        Arc::clone(lock(&self.0).entry(uid).or_default())
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, uid: &str) {
        lock(&self.0).remove(uid);
    }

    /// Forgets all but these clusters.
    pub fn retain(&self, uids: &BTreeSet<String>) {
        lock(&self.0).retain(|uid, _| uids.contains(uid));
    }
}

/// Locks what a panic of another pass leaves as right as it was.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
