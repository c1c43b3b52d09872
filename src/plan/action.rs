//! What a plan says: actions with their preconditions, waits with their reasons. Data only; nothing here decides or acts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::ledger::Ledger;
use crate::api::names::{MachineName, Marker, Revision};
use crate::api::status::InFlightRow;

use super::desired::Difference;
use super::entered::Disruptive;
use super::patience::Clock;
use super::selection::Selection;
use super::writes::{Child, Claim, Precondition, Rewrite, Token, Wanted};

/// What is to be done now, what is waited for, and when to look again without an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// To be carried out in this order, one at a time; the first that fails ends the pass.
    pub actions: Vec<Action>,
    /// What is missing; each becomes the reason of a condition.
    pub waits: Vec<Wait>,
    /// When to look again though nothing happened.
    pub look_again: Option<Duration>,
    /// Clocks of patience that run; all others are reset (DESIGN, "The way of the data").
    pub clocks: BTreeSet<Clock>,
    /// Which machines the roles have and want.
    pub selection: Selection,
    /// Members that hold something else than they should, with what differs.
    pub outdated: BTreeMap<MachineName, Vec<Difference>>,
    /// Members that were not confirmed in time.
    pub overdue: BTreeSet<MachineName>,
    /// Machines in flight.
    pub in_flight: BTreeMap<MachineName, InFlightRow>,
    /// The plan rests on what the cluster says of itself.
    pub wants_word: bool,
    /// The revision that each member and each joining machine should have.
    pub targets: BTreeMap<MachineName, Revision>,
}

impl Plan {
    /// Whether some action must not rest on a cache: the plan is then made again from live reads before anything is done.
    #[must_use]
    pub fn needs_live_reads(&self) -> bool {
        let writes_cluster = |action: &&Action| matches!(action, Action::AddFinalizer(..));
        // That ends the pass: what follows rests on later reads.
        let mut done = self.actions.iter().take_while(|it| !writes_cluster(it));
        done.any(Action::needs_live_reads)
    }

    /// Machines whose configurations are written by this plan, or under the entry that it takes.
    #[must_use]
    pub fn writes(&self) -> BTreeSet<MachineName> {
        let written = |action: &Action| match action {
            Action::Claim(claim) => Some(claim.machine.clone()),
            Action::Rewrite(rewrite) => Some(rewrite.machine.clone()),
            Action::Take { machine, .. } => Some(machine.clone()),
            _ => None,
        };
        self.actions.iter().filter_map(written).collect()
    }

    /// Looks again within `delay`, or sooner where something else asks for it.
    pub fn look_again_in(&mut self, delay: Duration) {
        self.look_again = Some(self.look_again.map_or(delay, |sooner| sooner.min(delay)));
    }

    /// Adds a wait.
    pub fn wait(&mut self, condition: ConditionType, reason: Reason, message: impl Into<String>) {
        self.wait_because(condition, Cause::new(reason, message));
    }

    /// Adds a wait.
    pub fn wait_because(&mut self, condition: ConditionType, cause: Cause) {
        self.waits.push(Wait {
            condition,
            cause,
            machine: None,
        });
    }

    /// Adds a wait for one machine.
    pub fn wait_for(
        &mut self,
        machine: &MachineName,
        condition: ConditionType,
        reason: Reason,
        message: impl Into<String>,
    ) {
        self.waits.push(Wait {
            condition,
            cause: Cause::new(reason, message),
            machine: Some(machine.clone()),
        });
    }
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    /// The condition that it makes false; [`ConditionType::Stalled`] where only a person can mend it.
    pub condition: ConditionType,
    /// Why.
    pub cause: Cause,
    /// The machine that it is about.
    pub machine: Option<MachineName>,
}

/// One write, or the start of one piece of background work.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put the finalizer on the cluster, beside those that are there.
    AddFinalizer(Precondition, Vec<String>),
    /// Make the ledger; it must not exist.
    CreateLedger(Ledger),
    /// Replace the ledger's data, by compare-and-swap.
    UpdateLedger(Precondition, Ledger),
    /// Draw a token and make its Secret; it must not exist.
    CreateToken(Token),
    /// Claim a machine: POST its configuration.
    Claim(Box<Claim>),
    /// Delete a configuration, by name.
    GiveBack(String, Precondition),
    /// Give a configuration the owner and the labels back that it lost by hand: a quiet write of the whole lists.
    TakeBack(String, Precondition, serde_json::Value),
    /// Note on a configuration that NIO applied this attempt: a quiet write.
    Confirm(MachineName, Precondition, Marker),
    /// Note on a configuration that NIO's proof speaks of another attempt than the confirmed one: a quiet write (SPEC 3.5).
    Withdraw(MachineName, Precondition),
    /// Give a configuration a mark never used before, so that every older pending write fails: a quiet write (SPEC 4.2).
    Touch(MachineName, Precondition),
    /// Write the configuration of a machine anew that was never confirmed, and is of no living control plane.
    Rewrite(Box<Rewrite>),
    /// Make or renew the entry of a machine, by compare-and-swap; then everything is read anew, and planned under it.
    Take {
        /// The machine.
        machine: MachineName,
        /// The ledger that this rests on.
        ledger: Precondition,
        /// The ledger with the entry in it.
        taken: Ledger,
        /// Size of a control plane that cannot keep its quorum meanwhile.
        without_quorum: Option<usize>,
    },
    /// A write under an entry.
    Disrupt(Box<Disruptive>),
    /// Touch the child of a `releasing` entry; where the answer shows it settled, remove the entry.
    EndEntry {
        /// The machine.
        machine: MachineName,
        /// Its configuration.
        child: Precondition,
        /// The ledger, read before the touch.
        ledger: Precondition,
        /// The ledger without the entry.
        after: Ledger,
    },
    /// Evict the pods of the Node of that name that is being drained, in the background.
    Evict(String),
    /// Take NICO's marks off a Node whose machine stays after all, and make it schedulable where NICO made it unschedulable.
    Undrain {
        /// The machine.
        machine: MachineName,
        /// Name of its Node.
        name: String,
        /// Its uid.
        uid: String,
        /// Whether NICO made it unschedulable.
        cordoned: bool,
    },
    /// Ask the cluster through its own API, in the background.
    AskCluster,
    /// Read the kubeconfig from one of these machines, in this order, in the background.
    FetchKubeconfig(Vec<MachineName>, Wanted),
    /// Try the stored kubeconfig, in the background.
    VerifyKubeconfig,
    /// Store the host key that the fetch saw first.
    PinHostKey,
    /// Store what was fetched: in this version of the Secret, or in one that must not exist.
    StoreKubeconfig(Option<Precondition>),
    /// Forget what was fetched: nobody needs it.
    DropFetched,
    /// Put `in-use` on this version of a child, from which somebody took it.
    Hold(Child, Precondition),
    /// Take `in-use` off a child and delete it.
    DeleteChild(Child),
    /// Take `in-use` off a child; it stays.
    LetGo(Child),
    /// Take NIO's finalizers off a configuration that is being deleted, by name; these stay (SPEC 5).
    Strip(String, Precondition, Vec<String>),
    /// Tell that NIO let go of a machine that still says it is configured.
    TellLeftBehind(MachineName),
    /// Tell that a machine left, and that its Node may still be there.
    TellNodeStays(MachineName),
    /// Take the finalizer off the cluster; these finalizers stay.
    RemoveFinalizer(Precondition, Vec<String>),
}

impl Action {
    /// Whether the action may rest on nothing but live reads. Marks, the end of an entry by the answer to a touch, and background
    /// work may rest on caches: their preconditions catch what is stale.
    #[must_use]
    pub fn needs_live_reads(&self) -> bool {
        match self {
            Self::CreateLedger(_)
            | Self::UpdateLedger(..)
            | Self::CreateToken(_)
            | Self::Claim(_)
            | Self::GiveBack(..)
            | Self::Touch(..)
            | Self::Rewrite(_)
            | Self::Take { .. }
            | Self::Disrupt(_)
            | Self::Evict(_)
            | Self::Undrain { .. }
            | Self::PinHostKey
            | Self::StoreKubeconfig(_)
            | Self::DeleteChild(_)
            | Self::LetGo(_)
            | Self::Strip(..)
            | Self::RemoveFinalizer(..) => true,
            Self::AddFinalizer(..)
            | Self::EndEntry { .. }
            | Self::Hold(..)
            | Self::TellLeftBehind(_)
            | Self::TellNodeStays(_)
            | Self::TakeBack(..)
            | Self::Confirm(..)
            | Self::Withdraw(..)
            | Self::AskCluster
            | Self::FetchKubeconfig(..)
            | Self::DropFetched
            | Self::VerifyKubeconfig => false,
        }
    }
}
