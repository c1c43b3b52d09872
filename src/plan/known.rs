//! The results of the first planning steps, on which those that change a cluster are based.

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

/// The results of the first planning steps.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The observed state.
    pub observed: &'a Observed,
    /// The time of the plan, in whole seconds.
    pub now: Timestamp,
    /// The same, as precise as it is known.
    pub precise: Timestamp,
    /// How long a sent request may take to land.
    pub late_requests: Duration,
    /// The state of the founding.
    pub founding: &'a Founding,
    /// Which commit is pinned.
    pub pin: &'a Pin,
    /// Which machines stay, leave and join.
    pub selection: &'a Selection,
    /// The target of each member, and of each machine that is claimed in this pass.
    pub targets: &'a BTreeMap<MachineName, Target>,
    /// Members that differ from their targets, with the differences.
    pub outdated: &'a BTreeMap<MachineName, Vec<Difference>>,
    /// Members that were not confirmed in time.
    pub overdue: &'a BTreeSet<MachineName>,
    /// Machines in flight.
    pub flights: &'a BTreeMap<MachineName, Flight>,
}

impl Known<'_> {
    /// Whether health is determined by the cluster's own API.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.observed.asks(self.founding.founded)
    }
}
