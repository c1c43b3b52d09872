//! What was asked of NICO, by which its writes are judged.

use std::collections::BTreeSet;
use std::time::Duration;

/// Which kind is updated first within a roll (`rollout.order`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Workers, then the control plane.
    WorkersFirst,
    /// The control plane, then workers.
    ControlPlaneFirst,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How many workers may be in flight.
    pub max_unavailable: usize,
    /// Which kind comes first.
    pub order: Order,
    /// When each roll was asked for (`Nio::now` before the edit); the order is judged within each of them.
    pub rolls: Vec<Duration>,
    /// When the deletion of clusters was asked for, and their names: from then on all of a cluster's machines may go at once.
    pub deletions: Vec<(Duration, String)>,
    /// Machines that were passed over when it was their turn, whose order says nothing.
    pub passed_over: BTreeSet<String>,
}

impl Rules {
    /// The usual rules, for these rolls.
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
