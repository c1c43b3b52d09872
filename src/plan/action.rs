//! What a plan says: actions with their preconditions, waits with their reasons. Data only; nothing here decides or acts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::api::conditions::{Cause, ConditionType};
use crate::api::ledger::Ledger;
use crate::api::names::{
    CONFIRMED_ANNOTATION, Commit, MachineName, Marker, Revision, TOUCHED_ANNOTATION, WITHDRAWN,
};
use crate::api::status::InFlightRow;

use super::desired::Difference;
use super::entered::{Disruptive, EnteredWrite};
use super::observed::{GitQuestion, Member};
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
    /// Clocks of patience that run; all others are reset.
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
    pub needs_probe: bool,
    /// The machines whose entries are taken.
    pub next: Vec<MachineName>,
    /// The commit that is pinned.
    pub commit: Option<Commit>,
    /// What a git server is to be asked in the background.
    pub question: Option<GitQuestion>,
    /// The revision that each member should have, and each machine that is claimed in this pass.
    pub targets: BTreeMap<MachineName, Revision>,
    /// It marks by Jobs, which no precondition of these writes covers.
    pub marks_by_jobs: bool,
}

/// Which configurations a plan rests on; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The cluster's own, and those that the watch has shown on its machines.
    Cluster,
    /// It rests on no other configuration naming the machine that it writes.
    NoOthers,
    /// All of the namespace.
    Namespace,
}

impl Plan {
    /// Whether some action must not rest on a cache: the plan is then made again from live reads before anything is done.
    #[must_use]
    pub fn needs_live_reads(&self) -> bool {
        let writes_cluster =
            |action: &&Action| matches!(action, Action::Finalizer(FinalizerWrite::Add(..)));
        // That ends the pass: what follows rests on later reads.
        let mut done = self.actions.iter().take_while(|it| !writes_cluster(it));
        self.marks_by_jobs || done.any(Action::needs_live_reads)
    }

    /// Which configurations it rests on. All of the namespace where it makes the first configuration of a machine, which any other may
    /// hold, or says that the cluster has none. A cluster that is being deleted gives back what it holds whoever else names it.
    #[must_use]
    pub fn scope(&self, deleting: bool) -> Scope {
        let scope = |action: &Action| match action {
            Action::Configuration(ConfigurationWrite::Claim(_))
            | Action::Finalizer(FinalizerWrite::Remove(..)) => Scope::Namespace,
            Action::Disrupt(disruptive) => match disruptive.write() {
                EnteredWrite::Join(_) => Scope::Namespace,
                _ => Scope::NoOthers,
            },
            Action::Configuration(
                ConfigurationWrite::Rewrite(_) | ConfigurationWrite::GiveBack(..),
            ) if !deleting => Scope::NoOthers,
            _ => Scope::Cluster,
        };
        self.actions
            .iter()
            .map(scope)
            .max()
            .unwrap_or(Scope::Cluster)
    }

    /// Machines whose configurations are written by this plan, or under the entries that it takes.
    #[must_use]
    pub fn writes(&self) -> BTreeSet<MachineName> {
        let written = |action: &Action| match action {
            Action::Configuration(ConfigurationWrite::Claim(claim)) => vec![claim.machine.clone()],
            Action::Configuration(ConfigurationWrite::Rewrite(rewrite)) => {
                vec![rewrite.machine.clone()]
            }
            Action::Slot(SlotWrite::Take { machines, .. }) => machines.clone(),
            _ => Vec::new(),
        };
        self.actions.iter().flat_map(written).collect()
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

/// One write, or the start of one piece of background work: grouped by the object that it goes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// On the cluster's own finalizers.
    Finalizer(FinalizerWrite),
    /// On the ledger.
    Ledger(LedgerWrite),
    /// On the slot, which is in the ledger.
    Slot(SlotWrite),
    /// On a configuration, without the slot.
    Configuration(ConfigurationWrite),
    /// A write under an entry.
    Disrupt(Box<Disruptive>),
    /// On a child that is no configuration.
    Child(ChildWrite),
    /// On a Node of the cluster.
    Node(NodeWork),
    /// On the kubeconfig, and on what it is read by.
    Kubeconfig(KubeconfigWork),
    /// Ask the cluster through its own API, in the background.
    ProbeWorkload,
    /// Tell a person.
    Tell(Notice),
}

impl Action {
    /// Whether it may rest on nothing but live reads. Marks, the end of an entry by the answer to a touch, and background work may
    /// rest on caches: their preconditions catch what is stale.
    #[must_use]
    pub fn needs_live_reads(&self) -> bool {
        match self {
            Self::Finalizer(write) => matches!(write, FinalizerWrite::Remove(..)),
            Self::Configuration(write) => write.needs_live_reads(),
            Self::Kubeconfig(work) => work.is_write(),
            Self::Slot(write) => matches!(write, SlotWrite::Take { .. }),
            Self::Child(write) => !matches!(write, ChildWrite::AddFinalizer(..)),
            Self::Ledger(_) | Self::Disrupt(_) | Self::Node(_) => true,
            Self::ProbeWorkload | Self::Tell(_) => false,
        }
    }

    /// Whether it writes down what NIO proves.
    #[must_use]
    pub fn marks_a_proof(&self) -> bool {
        let Self::Configuration(ConfigurationWrite::Mark(_, _, mark)) = self else {
            return false;
        };
        matches!(mark, Mark::Confirmed(_) | Mark::Withdrawn)
    }

    /// Whether the cluster is to be looked at again once it is done, since no watch shows what it wrote.
    #[must_use]
    pub fn wakes(&self) -> bool {
        matches!(
            self,
            Self::Ledger(_) | Self::Slot(_) | Self::Child(ChildWrite::TakeBack(..))
        )
    }
}

/// A write of the cluster's finalizers: in this version of it, the whole list.
#[derive(Clone, Debug, PartialEq)]
pub enum FinalizerWrite {
    /// NICO's is put beside those that are there.
    Add(Precondition, Vec<String>),
    /// NICO's goes; these stay.
    Remove(Precondition, Vec<String>),
}

/// A write of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum LedgerWrite {
    /// It is made; it must not exist.
    Create(Ledger),
    /// Its data are replaced, by compare-and-swap.
    Update(Precondition, Ledger),
}

/// A step of the slot's protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotWrite {
    /// Make or renew the entries of machines, by one compare-and-swap; then everything is read again, and planned under them.
    Take {
        /// One machine of the control plane, or workers.
        machines: Vec<MachineName>,
        /// The ledger that this rests on.
        ledger: Precondition,
        /// The ledger with the entries in it.
        taken: Ledger,
        /// Size of a control plane that cannot keep its quorum meanwhile.
        without_quorum: Option<usize>,
    },
    /// Touch the children of `releasing` entries; those whose answers show them settled lose their entries, by one compare-and-swap.
    End {
        /// The machines, and their configurations.
        children: BTreeMap<MachineName, Precondition>,
        /// The version of the ledger, read before the touches.
        ledger: Precondition,
        /// That ledger, with the entries still in it.
        before: Ledger,
    },
}

/// A write to a configuration that disrupts nothing that lives.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigurationWrite {
    /// Claim a machine: POST its configuration.
    Claim(Box<Claim>),
    /// Rewrite one that was never confirmed, and is of no living control plane.
    Rewrite(Box<Rewrite>),
    /// Delete it, by name.
    GiveBack(String, Precondition),
    /// A quiet write, by name.
    Mark(String, Precondition, Mark),
}

impl ConfigurationWrite {
    fn needs_live_reads(&self) -> bool {
        match self {
            Self::Claim(_) | Self::Rewrite(_) | Self::GiveBack(..) => true,
            Self::Mark(_, _, mark) => {
                matches!(mark, Mark::Touched | Mark::Forced(_) | Mark::Restored(_))
            }
        }
    }
}

/// A quiet write: metadata of ours, and fields that NIO does not apply.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// It gets the owner and the labels back that it lost by hand: the whole lists.
    TakenBack(Value),
    /// It gets the owner that it lost with an earlier cluster of this name.
    Restored(Value),
    /// NIO applied this attempt.
    Confirmed(Marker),
    /// NIO's proof speaks of another attempt than the confirmed one.
    Withdrawn,
    /// A value never used before, so that every older pending write fails.
    Touched,
    /// These fields of its spec are changed; null for one that is given up.
    Settled(Map<String, Value>),
    /// NIO's finalizers go, since a person declares that its machine is off; these stay.
    Forced(Vec<String>),
}

impl Member<'_> {
    /// A quiet write to it.
    #[must_use]
    pub fn mark(&self, mark: Mark) -> Action {
        let name = self.name.to_string();
        Action::Configuration(ConfigurationWrite::Mark(name, self.version(), mark))
    }
}

impl Mark {
    /// What is merged into the configuration; `fresh` is a value never used before.
    #[must_use]
    pub fn body(&self, fresh: &str) -> Value {
        let annotate = |annotation: &str, value: &str| json!({"metadata": {"annotations": {annotation: value}}});
        match self {
            Self::TakenBack(metadata) | Self::Restored(metadata) => {
                json!({ "metadata": metadata })
            }
            Self::Confirmed(marker) => annotate(CONFIRMED_ANNOTATION, marker.as_str()),
            Self::Withdrawn => annotate(CONFIRMED_ANNOTATION, WITHDRAWN),
            Self::Touched => annotate(TOUCHED_ANNOTATION, fresh),
            Self::Settled(fields) => json!({ "spec": fields }),
            Self::Forced(finalizers) => json!({ "metadata": { "finalizers": finalizers } }),
        }
    }
}

/// A write to a child that is no configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum ChildWrite {
    /// Draw a token and make its Secret; it must not exist.
    CreateToken(Token),
    /// Put `in-use` on this version of it, from which somebody took it.
    AddFinalizer(Child, Precondition),
    /// Make the cluster the owner of this version of it.
    TakeBack(Child, Precondition),
    /// Take `in-use` off it; it stays.
    LetGo(Child),
    /// Take `in-use` off it and delete it.
    Delete(Child),
}

/// Work on a Node, but for what needs an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeWork {
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
}

/// Work on the kubeconfig.
#[derive(Clone, Debug, PartialEq)]
pub enum KubeconfigWork {
    /// Read it from one of these machines, in this order, in the background.
    Fetch(Vec<MachineName>, Wanted),
    /// Try the stored one, in the background.
    Verify,
    /// Forget what was fetched: nobody needs it.
    Drop,
    /// Exchange keys with the machines of the control plane, in the background.
    Meet,
    /// Store the host keys that were seen first, and remove those of machines that left.
    PinHostKey,
    /// Store what was fetched: in this version of the Secret, or in one that must not exist.
    Store(Option<Precondition>),
}

impl KubeconfigWork {
    fn is_write(&self) -> bool {
        matches!(self, Self::PinHostKey | Self::Store(_))
    }
}

/// What an event says, without anything being written.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// NIO let go of a machine that still says it is configured.
    LeftBehind(MachineName),
    /// A machine left, and its Node may still be there.
    NodeStays(MachineName),
    /// A machine left a control plane without Nodes, and its member of etcd may still be there.
    MemberStays(MachineName),
}
