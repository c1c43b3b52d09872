//! An entry that is in hand, and the disruptive writes that it alone allows.
//!
//! An [`Entered`] can be had only from a ledger that still stands as one's own take left it, and a [`Disruptive`] write only
//! from an [`Entered`]: nobody writes disruptively without the slot.

use jiff::Timestamp;

use crate::api::ledger::EntryState;
use crate::api::names::MachineName;

use super::observed::views::LedgerView;
use super::writes::{Claim, Precondition, Rewrite};

/// An entry that was taken and still stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entered {
    machine: MachineName,
}

impl Entered {
    /// The entry of a machine, where the ledger, read after everything that the decision rests on, is still the one that one's
    /// own take made.
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

    /// Whose entry it is.
    #[must_use]
    pub fn machine(&self) -> &MachineName {
        &self.machine
    }

    /// A write under this entry; it is always the entry's own machine that is written.
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
    /// Whose it is.
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
    /// Its configuration, again.
    Rewrite(Rewrite),
    /// Its first configuration.
    Join(Claim),
    /// Its Node is made unschedulable, if it is not, and marked as being drained since then.
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
    /// The Node of that name and uid is deleted: its machine left, or is to join again.
    DeleteNode {
        /// `metadata.name`.
        name: String,
        /// `metadata.uid`.
        uid: String,
    },
}
