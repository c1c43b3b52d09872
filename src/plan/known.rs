//! What is known once everything was judged: the steps that change a cluster stand on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::names::MachineName;

use super::desired::{Difference, Target};
use super::flight::Flight;
use super::founding::Founding;
use super::observed::Observed;
use super::pin::Pin;
use super::selection::Selection;

/// What is known of a cluster that may be changed.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What was read.
    pub observed: &'a Observed,
    /// When.
    pub now: Timestamp,
    /// How long a request of one's own may still land.
    pub late_requests: Duration,
    /// How far the founding is.
    pub founding: &'a Founding,
    /// Which commit is pinned.
    pub pin: &'a Pin,
    /// Which machines the roles have and want.
    pub selection: &'a Selection,
    /// What each member should hold, and each machine that is claimed in this pass.
    pub targets: &'a BTreeMap<MachineName, Target>,
    /// Members that hold something else, with what differs.
    pub outdated: &'a BTreeMap<MachineName, Vec<Difference>>,
    /// Members that were not confirmed in time.
    pub overdue: &'a BTreeSet<MachineName>,
    /// Machines in flight.
    pub flights: &'a BTreeMap<MachineName, Flight>,
}

impl Known<'_> {
    /// Whether the cluster's own word counts.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.observed.asks(self.founding.founded)
    }
}
