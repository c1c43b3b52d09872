//! How far the program is: what `/readyz` answers.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::lock::lock;

/// What `/readyz` waits for.
pub mod mark {
    /// The API server answered.
    pub const API_SERVER: &str = "api-server";
    /// The CustomResourceDefinitions of NICO and NIO are served.
    pub const CRDS: &str = "crds";
    /// The first list of KubernetesClusters is in its store.
    pub const CLUSTERS: &str = "kubernetesclusters";
    /// The first list of Machines is in its store.
    pub const MACHINES: &str = "machines";
    /// The first list of NixosConfigurations is in its store.
    pub const CONFIGURATIONS: &str = "nixosconfigurations";

    /// All of them.
    pub const ALL: [&str; 5] = [API_SERVER, CRDS, CLUSTERS, MACHINES, CONFIGURATIONS];
}

/// How far the program is: a set of named marks, ready once each of them is set.
#[derive(Debug)]
pub struct Readiness {
    marks: Mutex<BTreeMap<&'static str, bool>>,
}

impl Default for Readiness {
    /// Every mark of [`mark::ALL`] is missing.
    fn default() -> Self {
        Self {
            marks: Mutex::new(mark::ALL.map(|name| (name, false)).into()),
        }
    }
}

impl Readiness {
    /// Sets a mark, or takes it away. One that is not of [`mark::ALL`] counts from then on.
    pub fn set(&self, name: &'static str, ready: bool) {
        lock(&self.marks).insert(name, ready);
    }

    /// The marks that are still missing, by name; none: ready.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let marks = lock(&self.marks);
        let missing = marks.iter().filter(|(_, ready)| !**ready);
        missing.map(|(name, _)| *name).collect()
    }
}
