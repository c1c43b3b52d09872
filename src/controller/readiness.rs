//! The state of the program's start, for `/readyz`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::remote::lock::lock;

/// What `/readyz` waits for.
pub mod mark {
    /// The API server answered.
    pub const API_SERVER: &str = "api-server";
    /// The CustomResourceDefinitions of NICO and NIO are served.
    pub const CRDS: &str = "crds";
    /// The first list of KubernetesClusters is complete.
    pub const CLUSTERS: &str = "kubernetesclusters";
    /// The first list of Machines is complete.
    pub const MACHINES: &str = "machines";
    /// The first list of NixosConfigurations is complete.
    pub const CONFIGURATIONS: &str = "nixosconfigurations";
    /// The first lists of Jobs and their owners are complete, or NIO does not apply by Jobs.
    pub const JOBS: &str = "jobs";

    /// The Lease of leader election was read.
    pub const LEASE: &str = "lease";

    /// The marks of a follower: it has no stores before it leads.
    pub(super) const OF_A_FOLLOWER: [&str; 2] = [API_SERVER, LEASE];
    /// The marks of a leader, or without leader election.
    pub const ALL: [&str; 6] = [API_SERVER, CRDS, CLUSTERS, MACHINES, CONFIGURATIONS, JOBS];
}

/// A set of named marks. The program is ready once each of them is set.
#[derive(Debug)]
pub struct Readiness {
    marks: Mutex<BTreeMap<&'static str, bool>>,
    standing_by: AtomicBool,
}

impl Default for Readiness {
    /// No mark of [`mark::ALL`] is set.
    fn default() -> Self {
        Self {
            marks: Mutex::new(mark::ALL.map(|name| (name, false)).into()),
            standing_by: AtomicBool::new(false),
        }
    }
}

impl Readiness {
    /// Sets or clears a mark. A mark that is not in [`mark::ALL`] is required from then on.
    pub fn set(&self, name: &'static str, ready: bool) {
        lock(&self.marks).insert(name, ready);
    }

    /// Sets or clears a mark. Of several calls at the same time, the last to look at `ready` decides.
    pub fn set_to(&self, name: &'static str, ready: impl FnOnce() -> bool) {
        let mut marks = lock(&self.marks);
        let ready = ready();
        marks.insert(name, ready);
    }

    /// Sets whether another process leads. A follower is ready without the stores.
    pub fn stand_by(&self, standing_by: bool) {
        self.standing_by.store(standing_by, Ordering::SeqCst);
    }

    /// The names of the marks that are not set; empty if ready.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let marks = lock(&self.marks);
        let standing_by = self.standing_by.load(Ordering::SeqCst);
        let counts = |name: &&str| !standing_by || mark::OF_A_FOLLOWER.contains(name);
        let missing = marks.iter().filter(|(_, ready)| !**ready);
        let missing = missing.map(|(name, _)| *name);
        missing.filter(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_is_ready_without_stores_and_not_without_the_lease() {
        let health = Readiness::default();
        health.set(mark::LEASE, false);
        health.stand_by(true);
        health.set(mark::API_SERVER, true);
        assert_eq!(health.missing(), [mark::LEASE]);
        health.set(mark::LEASE, true);
        assert!(health.missing().is_empty());
        health.stand_by(false);
        assert_eq!(health.missing().len(), mark::ALL.len() - 1);
    }
}
