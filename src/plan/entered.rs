//! A taken entry, and the disruptive writes that only such an entry allows.
//!
//! An [`Entered`] can be created only from a ledger that has not changed since one's own take, and a [`Disruptive`] write only from an
//! [`Entered`]. So no disruptive write is possible without the slot.

use jiff::Timestamp;

use crate::api::ledger::EntryState;
use crate::api::names::MachineName;

use super::observed::views::LedgerView;
use super::writes::{Claim, Precondition, Rewrite};

/// An entry that was taken and is still valid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entered {
    machine: MachineName,
}

impl Entered {
    /// The entry of a machine, if the ledger is unchanged since one's own take. The ledger must be read after everything on which the
    /// decision is based.
    #[must_use]
    pub fn new(
        machine: &MachineName,
        taken: &Precondition,
        read_last: &LedgerView,
    ) -> Option<Self> {
        let LedgerView::Ours(version, ledger) = read_last else {
            return None;
        };
        let active = ledger
            .slot
            .entry(machine)
            .is_some_and(|entry| entry.state == EntryState::Active);
        (version == taken && active && !ledger.slot.fencing).then(|| Self {
            machine: machine.clone(),
        })
    }

    /// The machine of the entry.
    #[must_use]
    pub fn machine(&self) -> &MachineName {
        &self.machine
    }

    /// A write under this entry, which is always to the entry's own machine.
    pub(super) fn write(&self, write: EnteredWrite) -> Disruptive {
        Disruptive {
            machine: self.machine.clone(),
            write,
        }
    }
}

/// A disruptive write. Only [`Entered`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Disruptive {
    machine: MachineName,
    write: EnteredWrite,
}

impl Disruptive {
    /// The machine that is written.
    #[must_use]
    pub fn machine(&self) -> &MachineName {
        &self.machine
    }

    /// What is written.
    #[must_use]
    pub fn write(&self) -> &EnteredWrite {
        &self.write
    }
}

/// What is written under an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum EnteredWrite {
    /// An update of its configuration.
    Rewrite(Rewrite),
    /// Its first configuration.
    Join(Claim),
    /// Its Node is made unschedulable, and marked as being drained.
    Drain {
        /// `metadata.name`.
        name: String,
        /// `metadata.uid`.
        uid: String,
        /// Since when.
        since: Timestamp,
        /// Whether NICO makes it unschedulable.
        cordon: bool,
    },
    /// Its configuration is deleted: the machine leaves.
    Release(Precondition),
    /// The Node with this name and uid is deleted: its machine has left, or will join again.
    DeleteNode {
        /// `metadata.name`.
        name: String,
        /// `metadata.uid`.
        uid: String,
    },
}
