//! What was requested of NICO: its writes are checked against this.

use std::collections::BTreeSet;
use std::time::Duration;

/// Which role is updated first in a rollout (`rollout.order`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Workers, then the control plane.
    WorkersFirst,
    /// The control plane, then workers.
    ControlPlaneFirst,
}

/// What was requested.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How many workers may be in flight.
    pub max_unavailable: usize,
    /// Which role comes first.
    pub order: Order,
    /// When each rollout was requested (`Nio::now` before the edit). The order is checked within each of them.
    pub rolls: Vec<Duration>,
    /// When the deletion of clusters was requested, and their names. From then on, all of a cluster's machines may leave at once.
    pub deletions: Vec<(Duration, String)>,
    /// Machines that were skipped in their turn, so that their order is not checked.
    pub passed_over: BTreeSet<String>,
}

impl Rules {
    /// The usual rules, for these rollouts.
    #[must_use]
    pub fn of(rolls: Vec<Duration>) -> Self {
        Self {
            rolls,
            ..Self::default()
        }
    }
}

impl Default for Rules {
    /// One worker at a time, workers first.
    fn default() -> Self {
        Self {
            max_unavailable: 1,
            order: Order::WorkersFirst,
            rolls: vec![],
            deletions: vec![],
            passed_over: BTreeSet::new(),
        }
    }
}
