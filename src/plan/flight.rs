//! Which machines are in flight, and when a write to a machine is finished.

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
    /// State of its entry, if it has one.
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
            // An older attempt may still run even if the entry for it was lost with its ledger. Once its hour is over, NIO's proof may be
            // missing for other reasons, so the machine does not count as in flight.
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

    /// Workers of a founded cluster that are claimed at once: those without an entry and without a leftover Node.
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

    /// Whether no Node of a machine without a configuration blocks the end of its entry. A worker's Node blocks it only if it counts as a
    /// control plane Node.
    pub(super) fn node_is_gone(&self, entry: &Entry, asks: bool) -> bool {
        (entry.role == Role::Worker && !self.has_control_plane_node(&entry.machine))
            || self.cluster.forces(entry.machine.as_str())
            || !asks
            || (self.workload.nodes().is_some() && self.node(&entry.machine).is_none())
    }
}

impl Member<'_> {
    /// Whether a write under an entry is finished: the machine is confirmed, and no older attempt can still run on it.
    #[must_use]
    pub fn is_settled(&self, now: Timestamp) -> bool {
        self.is_confirmed() && !self.is_deleting() && self.older_attempt(now).is_none()
    }

    /// How long an older attempt of NIO may still run on the machine; `None` if NIO's current proof shows that none runs.
    #[must_use]
    pub fn older_attempt(&self, now: Timestamp) -> Option<Duration> {
        let runs_for = match self.nio {
            Some(nio) => nio::for_generation(nio).older_attempt_runs_for()?,
            None => OLDER_ATTEMPT_RUNS_FOR,
        };
        // If a user wrote something there that is not a time, only NIO's proof counts.
        let ran = self
            .rewritten()?
            .map_or(runs_for, |since| elapsed(since, now));
        let rest = runs_for.saturating_sub(ran);
        (!rest.is_zero() || self.proof() != Some(Proof::OfHeld)).then_some(rest)
    }
}
