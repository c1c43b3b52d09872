//! What is remembered about a cluster from one pass to the next. Correctness does not depend on it: it may be lost at any time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::clock::Began;
use super::schedule::{
    FAILURES_WHILE_ERRORS_DIFFER, STATUS_BATCH, STATUS_CONTEST_BACKOFF, STATUS_CONTEST_MEMORY,
};
use super::stores::older;
use super::troubles::Troubles;
use crate::api::cluster::RawCluster;
use crate::api::spec::ValidSpec;
use crate::api::status::ClusterStatus;
use crate::api::validate::validate;
use crate::plan::patience::Clock;
use crate::plan::status::is_significant;
use crate::remote::lock::lock;

/// The validated spec for the planner, or what is wrong with it.
pub type SpecOutcome = Result<Arc<ValidSpec>, Vec<String>>;

/// What is remembered about one cluster.
#[derive(Default)]
pub struct Memory {
    /// The outcome of validating the spec, with its generation.
    spec: Option<(i64, SpecOutcome)>,
    /// The start of each patience clock.
    since: BTreeMap<Clock, Began>,
    /// The newest version of the object that one of NICO's writes or reads by name returned.
    newest: Option<Arc<RawCluster>>,
    status: StatusWrites,
    /// What needs the user's attention, and whether an event was published.
    pub(super) troubles: Troubles,
    /// The size of a control plane that cannot keep its quorum, once an event told of it.
    without_quorum: Option<usize>,
    failures: u32,
    last_failure: Option<String>,
    /// When the client certificate of the stored kubeconfig ends.
    pub(super) kubeconfig_ends: Option<Timestamp>,
}

impl Memory {
    /// The spec of this cluster, validated once per generation.
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

    /// The start of each patience clock, for a plan that is made `now`.
    #[must_use]
    pub fn clocks(&self, now: Timestamp) -> BTreeMap<Clock, Timestamp> {
        let since = self.since.iter();
        since
            .map(|(clock, began)| (clock.clone(), began.as_seen(now)))
            .collect()
    }

    /// Starts those of these clocks that do not run yet, and stops all others.
    pub fn keep_clocks(&mut self, running: &BTreeSet<Clock>, now: Timestamp) {
        self.since.retain(|clock, _| running.contains(clock));
        for clock in running {
            self.since
                .entry(clock.clone())
                .or_insert_with(|| Began::at(now));
        }
    }

    /// This object, or the one that [`Self::saw`] noted if that is newer.
    #[must_use]
    pub fn newest(&self, cluster: &Arc<RawCluster>) -> Arc<RawCluster> {
        let version = |cluster: &RawCluster| cluster.metadata.resource_version.clone();
        let shown = version(cluster);
        let newer = self
            .newest
            .as_ref()
            .filter(|newest| older(shown.as_deref(), version(newest).as_deref()));
        Arc::clone(newer.unwrap_or(cluster))
    }

    /// Notes the object that a write or a read by name returned.
    pub fn saw(&mut self, cluster: RawCluster) {
        self.newest = Some(Arc::new(cluster));
    }

    /// Whether this is the first change since the start of a control plane of this size, which cannot keep its quorum meanwhile.
    pub fn is_first_without_quorum(&mut self, n: usize) -> bool {
        self.without_quorum.replace(n) != Some(n)
    }

    /// Failed passes in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes a failed pass; returns how many failed in a row.
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

    /// Notes a successful pass.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// The history of status writes.
#[derive(Default)]
struct StatusWrites {
    /// The last write: when, and what.
    last: Option<(Instant, ClusterStatus)>,
    /// How often another program has overwritten the status.
    contests: u32,
}

impl StatusWrites {
    /// Whether the status to write was written before, and another program has overwritten it.
    fn is_contested(&self, seen: &ClusterStatus, wanted: &ClusterStatus) -> bool {
        self.last
            .as_ref()
            .is_some_and(|(_, last)| is_significant(last, seen) && !is_significant(last, wanted))
    }
}

impl Memory {
    /// How long to delay a status write. Changes that are not urgent are batched. If another program keeps overwriting the status, the
    /// delay grows.
    #[must_use]
    pub fn status_pause(&self, seen: &ClusterStatus, wanted: &ClusterStatus) -> Option<Duration> {
        let (written, _) = self.status.last.as_ref()?;
        let pause = if !is_significant(seen, wanted) {
            STATUS_BATCH
        } else if self.status.is_contested(seen, wanted) {
            let doublings = self.status.contests.checked_sub(1)?.min(10);
            let (first, longest) = STATUS_CONTEST_BACKOFF.into_inner();
            first.saturating_mul(1 << doublings).min(longest)
        } else {
            return None;
        };
        pause
            .checked_sub(written.elapsed())
            .filter(|pause| !pause.is_zero())
    }

    /// Notes a status write; returns how often another program has overwritten the status.
    pub fn wrote_status(&mut self, seen: &ClusterStatus, wanted: &ClusterStatus) -> u32 {
        let status = &mut self.status;
        let contested = status.is_contested(seen, wanted);
        let last = status.last.replace((Instant::now(), wanted.clone()));
        if contested {
            status.contests = status.contests.saturating_add(1);
            return status.contests;
        }
        if last.is_some_and(|(written, _)| written.elapsed() > STATUS_CONTEST_MEMORY) {
            status.contests = 0;
        }
        0
    }
}

/// The memories of all clusters, by uid.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<String, Arc<Mutex<Memory>>>>);

impl Memories {
    /// The memory of a cluster.
    #[must_use]
    pub fn for_cluster(&self, cluster: &RawCluster) -> Arc<Mutex<Memory>> {
        let uid = cluster.uid().unwrap_or_default();
        Arc::clone(lock(&self.0).entry(uid).or_default())
    }

    /// When the client certificate of the stored kubeconfig of a cluster ends, where that is known.
    #[must_use]
    pub fn kubeconfig_ends(&self, uid: &str) -> Option<Timestamp> {
        let memory = lock(&self.0).get(uid).cloned()?;
        lock(&memory).kubeconfig_ends
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, uid: &str) {
        lock(&self.0).remove(uid);
    }

    /// Forgets all clusters except these.
    pub fn retain(&self, uids: &BTreeSet<String>) {
        lock(&self.0).retain(|uid, _| uids.contains(uid));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::status::Phase;

    fn status(phase: Phase) -> ClusterStatus {
        ClusterStatus {
            phase: Some(phase),
            ..ClusterStatus::default()
        }
    }

    #[test]
    fn a_status_that_another_program_overwrites_is_written_more_and_more_seldom() {
        let (ours, theirs) = (status(Phase::Ready), status(Phase::Failed));
        let mut memory = Memory::default();
        assert_eq!(memory.status_pause(&theirs, &ours), None);
        assert_eq!(memory.wrote_status(&theirs, &ours), 0);
        assert_eq!(
            memory.status_pause(&theirs, &ours),
            None,
            "an edit is mended at once"
        );
        let mut before = Duration::ZERO;
        for contests in 1..=12 {
            assert_eq!(memory.wrote_status(&theirs, &ours), contests);
            let pause = memory.status_pause(&theirs, &ours).unwrap();
            assert!(
                pause > before || pause > Duration::from_secs(59),
                "{pause:?}"
            );
            before = pause;
        }
        assert!(before <= *STATUS_CONTEST_BACKOFF.end());
        let news = status(Phase::Deleting);
        assert_eq!(
            memory.status_pause(&theirs, &news),
            None,
            "news is told at once"
        );
        assert_eq!(memory.wrote_status(&ours, &news), 0);
    }

    #[test]
    fn that_the_quorum_cannot_be_kept_is_told_once_for_each_size() {
        let mut memory = Memory::default();
        let told = [1, 1, 2, 2, 1].map(|n| memory.is_first_without_quorum(n));
        assert_eq!(told, [true, false, true, false, true]);
    }

    #[test]
    fn changes_that_nobody_waits_for_are_written_together() {
        let old = status(Phase::Ready);
        let mut new = old.clone();
        new.revision = Some("abc".to_owned());
        let mut memory = Memory::default();
        assert_eq!(
            memory.status_pause(&old, &new),
            None,
            "nothing was written yet"
        );
        memory.wrote_status(&ClusterStatus::default(), &old);
        assert!(memory.status_pause(&old, &new).unwrap() <= STATUS_BATCH);
    }
}
