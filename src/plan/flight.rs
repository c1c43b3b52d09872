//! Who is in flight, and when what was written to a machine is done with.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::ledger::{Entry, EntryState};
use crate::api::names::MachineName;
use crate::api::status::Role;

use super::confirmed::Proof;
use super::nio;
use super::observed::{Member, Observed, elapsed};
use super::patience::OLDER_ATTEMPT_RUNS_FOR;

/// A machine that is in flight: by its entry, or because it is not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Its role.
    pub role: Role,
    /// State of its entry, where it has one.
    pub entry: Option<EntryState>,
    /// Whether it was ever confirmed.
    pub once_confirmed: bool,
}

impl Observed {
    /// Every machine in flight.
    #[must_use]
    pub fn flights(&self, founded: bool, now: Timestamp) -> BTreeMap<MachineName, Flight> {
        let mut flights = BTreeMap::new();
        for member in self.members() {
            let role = member.role();
            let once_confirmed = member.was_confirmed();
            let counts = match role {
                Role::ControlPlane => founded,
                Role::Worker => once_confirmed,
            };
            // An entry that was lost with its ledger said so of an older attempt, too. After its hour NIO's proof may have faded
            // for other reasons, and nobody is kept waiting for that.
            let older_runs = role == Role::ControlPlane
                && member
                    .older_attempt(now)
                    .is_some_and(|rest| !rest.is_zero());
            if counts && (!member.is_confirmed() || older_runs) {
                let flight = Flight {
                    role,
                    entry: None,
                    once_confirmed,
                };
                flights.insert(member.name, flight);
            }
        }
        for entry in self.entries() {
            let held = self.controlled(&entry.machine);
            let flight = Flight {
                role: held
                    .as_ref()
                    .map_or(entry.role, |held| held.role().stricter(entry.role)),
                entry: Some(entry.state.clone()),
                once_confirmed: held.is_some_and(|held| held.was_confirmed()),
            };
            flights.insert(entry.machine.clone(), flight);
        }
        flights
    }

    /// Workers of a founded cluster that get their first configuration at once: those that have no entry, and of which no old Node is
    /// left over.
    #[must_use]
    pub fn free_to_join(
        &self,
        founded: bool,
        joining: &BTreeSet<MachineName>,
    ) -> BTreeSet<MachineName> {
        let asks = self.asks(founded);
        let no_node =
            |machine: &MachineName| self.workload.nodes().is_some() && self.node(machine).is_none();
        joining
            .iter()
            .filter(|machine| self.entry(machine).is_none() && (!asks || no_node(machine)))
            .cloned()
            .collect()
    }

    /// Whether the Node of a machine without a configuration is no obstacle to the end of its entry. That of a worker is one where it
    /// counts as a Node of the control plane.
    pub(super) fn node_is_gone(&self, entry: &Entry, asks: bool) -> bool {
        (entry.role == Role::Worker && !self.has_control_plane_node(&entry.machine))
            || self.cluster.forces(entry.machine.as_str())
            || !asks
            || (self.workload.nodes().is_some() && self.node(&entry.machine).is_none())
    }
}

impl Member<'_> {
    /// Whether what was written under an entry is done with: the machine is confirmed, and no older attempt can still run on it.
    #[must_use]
    pub fn is_settled(&self, now: Timestamp) -> bool {
        self.is_confirmed() && !self.is_deleting() && self.older_attempt(now).is_none()
    }

    /// How long an older attempt of NIO's may still run on its machine; `None`: it has ended, and NIO's proof of today says so.
    #[must_use]
    pub fn older_attempt(&self, now: Timestamp) -> Option<Duration> {
        let runs_for = match self.nio {
            Some(nio) => nio::of(nio).older_attempt_runs_for()?,
            None => OLDER_ATTEMPT_RUNS_FOR,
        };
        // What a person wrote there is no time: NIO's proof alone counts then.
        let ran = self
            .rewritten()?
            .map_or(runs_for, |since| elapsed(since, now));
        let rest = runs_for.saturating_sub(ran);
        (!rest.is_zero() || self.proof() != Some(Proof::OfHeld)).then_some(rest)
    }
}
