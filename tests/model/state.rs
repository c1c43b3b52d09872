//! The state of a search: the world, and what the operators have read and are about to write.

use crate::compact::{Broken, Estate, MOST, Machine, Reads, Slot, Valid};

/// One thing that a plan wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    Confirm(u8),
    Withdraw(u8),
    Touch(u8),
    UpdateLedger(Slot),
    CreateLedger(Slot),
    /// The entries of machines, a bit each, are made or renewed.
    Take(u8, Slot),
    End(End),
    /// The touches are done, and the answers of these machines, a bit each, showed them settled: their entries go.
    Remove(u8, Slot),
    /// The ledger is read once more, just before a write without an entry.
    LedgerStands,
    Write(Write),
    /// Its Node is marked as being drained, under an entry; `true`: and made unschedulable.
    Drain(u8, bool),
    /// NICO's marks are taken off its Node; `true`: and it is made schedulable again.
    Undrain(u8, bool),
    /// Its configuration is deleted, under an entry: the machine leaves.
    Release(u8),
    /// The Node that a machine left behind is deleted, under an entry.
    DeleteNode(u8),
    AddFinalizer,
    /// A token Secret is made.
    CreateToken(u8),
    /// One of its children was just made: it is let go where the cluster is gone.
    UnlessGone(u8),
    /// Its configuration is deleted without an entry: nothing lives, or all of it is to go.
    GiveBack(u8),
    DeleteChild(u8),
    RemoveFinalizer,
}

impl Step {
    /// Whether it is written under an entry.
    pub fn is_entered(&self) -> bool {
        match self {
            Self::Write(write) => write.entered,
            Self::Release(_) | Self::DeleteNode(_) | Self::Drain(..) => true,
            _ => false,
        }
    }
}

/// Entries on their way out: their children are touched one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    /// The machine that is touched now.
    pub machine: u8,
    /// Those that are touched after it, a bit each.
    pub rest: u8,
    /// Those that were touched, and whose answers showed them settled.
    pub settled: u8,
    /// The ledger, without the entries of these.
    pub slot: Slot,
}

impl End {
    /// The end of the entries of these machines, a bit each.
    pub fn of(machines: u8, slot: Slot) -> Self {
        let machine = u8::try_from(machines.trailing_zeros()).unwrap();
        Self {
            machine,
            rest: machines & !(1 << machine),
            settled: 0,
            slot,
        }
    }

    /// What follows a touch, or what cannot be touched; none where no entry goes.
    pub fn next(self, settled: bool) -> Option<Step> {
        let mut done = self;
        if settled {
            done.settled |= 1 << self.machine;
            done.slot = self.slot.without(self.machine);
        }
        if self.rest != 0 {
            return Some(Step::End(Self {
                settled: done.settled,
                ..Self::of(self.rest, done.slot)
            }));
        }
        (done.settled != 0).then_some(Step::Remove(done.settled, done.slot))
    }
}

/// A configuration that is written: disruptively, but where it is a worker's first one.
// Each is a fact of its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Write {
    pub machine: u8,
    /// Its role is that of the control plane.
    pub leads: bool,
    pub text: u16,
    pub rewritten: bool,
    /// It is a POST.
    pub joins: bool,
    /// Under an entry.
    pub entered: bool,
    /// What is wrong with the write as such.
    pub flaw: Option<Broken>,
}

/// What was known when a write was decided, for the judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Known {
    /// Control plane configurations, and Nodes of the control plane that belong to none, a bit each.
    pub members: u8,
    /// Workers whose Nodes bear the control plane's label.
    pub labelled: u8,
    /// Those that were confirmed and answered.
    pub healthy: u8,
    /// Those that were confirmed and of which nothing could be learned.
    pub unknown: u8,
    pub hidden: u8,
    /// Whether the clocks of patience had run out.
    pub patient: bool,
    /// Whether the cluster was being deleted.
    pub deleting: bool,
    /// All configurations that existed.
    pub held: u8,
    /// All machines that were confirmed.
    pub confirmed: u8,
    /// Machines whose pods had gone, or had had their time.
    pub drained: u8,
    /// Those that were at no moment healthy since the entry was taken: whoever takes one for healthy looked before.
    pub never_well: u8,
}

/// Where an operator is in its pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pc {
    #[default]
    Idle,
    /// Reads for a plan.
    Look(Reads),
    /// Carries a plan out; the first step is next.
    Act {
        steps: Vec<Step>,
        valid: Valid,
        known: Known,
        /// The ledger that this rests on, where that is compared by content (a mutation).
        rests_on: Option<Slot>,
        /// What was read before the take, where that is what a write rests on (a mutation).
        before: Option<Box<Reads>>,
    },
    /// Reads under the entries of machines, a bit each, since they were taken.
    Under {
        machines: u8,
        reads: Reads,
        /// Whether the ledger still stands as one's own take left it.
        stands: bool,
        rests_on: Option<Slot>,
        never_well: u8,
    },
}

/// An operator: one of the processes that act for the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operator {
    pub pc: Pc,
    /// What its watches showed, as old as it may be; only where a search has caches.
    pub cache: Option<Box<Reads>>,
}

/// A request of a process that is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Late {
    pub step: Step,
    pub valid: Valid,
    pub known: Known,
    pub rests_on: Option<Slot>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// How many edits of the spec were made.
    pub edit: u8,
    pub estate: Estate,
    pub ledger: Option<Slot>,
    pub machines: [Machine; MOST],
    /// No operator reaches any of the cluster's API servers.
    pub silent: bool,
    pub operators: Vec<Operator>,
    pub late: Vec<Late>,
    /// Crashes and faults that may still happen.
    pub crashes: u8,
    pub faults: u8,
    pub broken: Option<Broken>,
}

impl State {
    /// Whether a machine is of the control plane.
    pub fn is_control_plane(&self, machine: u8) -> bool {
        self.machines[usize::from(machine)].is_control_plane()
    }

    /// How many control plane configurations there are.
    pub fn members(&self) -> usize {
        let held = self.machines.iter().filter_map(|machine| machine.child);
        held.filter(|child| child.leads).count()
    }
}
