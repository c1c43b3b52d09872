//! When the next connection to a machine is due. An SSH server that sees too many connections, or too many failures, refuses NICO's address
//! for a while (`MaxStartups`, `PerSourcePenalties`), and NIO too if both share an address. No I/O and no clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::api::conditions::Cause;
use crate::api::names::MachineName;
use crate::controller::schedule::{
    KEY_MEMORY, REFUSED_PAUSES, SEARCH_EAGERNESS, SEARCH_PAUSES, SEARCH_PAUSES_GROW,
};
use crate::remote::ssh::{Reached, SshError};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// No connection was made: nothing listens there yet.
    Closed,
    /// The host key is as it should be. The log-in need not wait.
    Met,
    /// It succeeded, or the machine is not ready yet.
    Waiting,
    /// The log-in succeeded, but something on the machine is wrong.
    Amiss,
    /// The key exchange or the log-in failed, or the host key was refused.
    Refused,
}

impl Ended {
    /// How a connection ended that failed with this error.
    pub(super) fn of(error: &SshError) -> Self {
        match error.reached() {
            Reached::Nothing => Self::Closed,
            Reached::Server => Self::Refused,
            Reached::Session => Self::Amiss,
        }
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// A key exchange without a log-in.
    Meet,
    /// Reading a kubeconfig.
    Fetch,
}

/// The connections of one cluster, by machine. The machine counts all of them, whatever they are for.
#[derive(Default)]
pub(super) struct Paces(BTreeMap<MachineName, Pace>);

/// The history of connections to one machine.
#[derive(Default)]
struct Pace {
    /// The digest of their circumstances. If these change, that may help, so the next connection is due at once.
    under: BTreeMap<Purpose, String>,
    first: Option<Instant>,
    connections: i32,
    /// Refusals in a row.
    refusals: i32,
    due: Option<Instant>,
    /// The outcome of the last connection that was to fetch.
    last: Option<Result<(), Cause>>,
}

impl Paces {
    /// Whether a connection to a machine is due.
    pub(super) fn is_due(
        &mut self,
        machine: &MachineName,
        (purpose, under): (Purpose, &str),
        now: Instant,
    ) -> bool {
        let pace = self.0.entry(machine.clone()).or_default();
        let before = pace.under.insert(purpose, under.to_owned());
        if before.is_some_and(|before| before != under) {
            *pace = Pace {
                under: std::mem::take(&mut pace.under),
                connections: pace.connections,
                ..Pace::default()
            };
        }
        pace.due.is_none_or(|due| due <= now)
    }

    /// Notes that a connection begins. It counts even if its end is never noted.
    pub(super) fn begin(&mut self, machine: &MachineName, now: Instant) {
        let pace = self.0.entry(machine.clone()).or_default();
        pace.first.get_or_insert(now);
        pace.connections += 1;
        pace.due = Some(now + pace.waiting());
    }

    /// Notes how a connection ended, and its outcome if it was to fetch.
    pub(super) fn end(
        &mut self,
        machine: &MachineName,
        now: Instant,
        ended: Ended,
        brought: Option<Result<(), Cause>>,
    ) {
        let pace = self.0.entry(machine.clone()).or_default();
        let pause = match ended {
            Ended::Closed => {
                pace.connections -= 1;
                pace.closed(now)
            }
            Ended::Met => Duration::ZERO,
            Ended::Waiting => pace.waiting(),
            Ended::Amiss => *SEARCH_PAUSES.end(),
            Ended::Refused => {
                pace.refusals += 1;
                pace.refused().max(pace.waiting())
            }
        };
        if matches!(ended, Ended::Met | Ended::Waiting | Ended::Amiss) {
            pace.refusals = 0;
        }
        pace.due = Some(now + pause);
        pace.last = brought.or(pace.last.take());
    }

    /// The outcome of the last connection to a machine that was to fetch.
    pub(super) fn last(&self, machine: &MachineName) -> Option<&Result<(), Cause>> {
        self.0.get(machine)?.last.as_ref()
    }

    /// When the first connection to any of these machines is due.
    fn next<'a>(&self, machines: impl Iterator<Item = &'a MachineName>) -> Option<Instant> {
        machines
            .filter_map(|machine| self.0.get(machine)?.due)
            .min()
    }

    /// How long until the next round over these machines. It is never long, since a round also checks whether circumstances have changed.
    pub(super) fn pause<'a>(
        &self,
        machines: impl Iterator<Item = &'a MachineName>,
        now: Instant,
    ) -> Duration {
        let next = self.next(machines);
        let pause = next.map_or(KEY_MEMORY, |next| next.duration_since(now));
        pause.clamp(*SEARCH_PAUSES.start(), KEY_MEMORY)
    }
}

impl Pace {
    fn closed(&self, now: Instant) -> Duration {
        let young = |first| now.duration_since(first) < SEARCH_EAGERNESS;
        if self.first.is_none_or(young) {
            *SEARCH_PAUSES.start()
        } else {
            *SEARCH_PAUSES.end()
        }
    }

    fn waiting(&self) -> Duration {
        let grown = SEARCH_PAUSES_GROW.powi((self.connections - 1).clamp(0, 32));
        SEARCH_PAUSES
            .start()
            .mul_f64(grown)
            .min(*SEARCH_PAUSES.end())
    }

    fn refused(&self) -> Duration {
        let doubled = 2f64.powi((self.refusals - 1).clamp(0, 32));
        REFUSED_PAUSES
            .start()
            .mul_f64(doubled)
            .min(*REFUSED_PAUSES.end())
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
