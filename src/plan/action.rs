//! The content of a plan: actions with their preconditions, and waits with their reasons. It is data only: nothing here decides or acts.

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

/// The result of planning: what to do now, what to wait for, and when to plan again without an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The actions, carried out in this order; claims that follow each other, and notes of what NIO has applied, a few side by side. The
    /// first that fails ends the pass.
    pub actions: Vec<Action>,
    /// What is missing. Each wait becomes the reason of a condition.
    pub waits: Vec<Wait>,
    /// When to plan again without an event.
    pub look_again: Option<Duration>,
    /// Clocks of patience that keep running. All others are reset.
    pub clocks: BTreeSet<Clock>,
    /// Which machines stay, leave and join.
    pub selection: Selection,
    /// Members that differ from their targets, with the differences.
    pub outdated: BTreeMap<MachineName, Vec<Difference>>,
    /// Members that were not confirmed in time.
    pub overdue: BTreeSet<MachineName>,
    /// Machines in flight.
    pub in_flight: BTreeMap<MachineName, InFlightRow>,
    /// Whether the plan depends on the health that the cluster's own API reports.
    pub needs_probe: bool,
    /// The machines whose entries are taken.
    pub next: Vec<MachineName>,
    /// The commit that is pinned.
    pub commit: Option<Commit>,
    /// The question to a git server, asked in the background.
    pub question: Option<GitQuestion>,
    /// The revision that each member should have, and each machine that is claimed in this pass.
    pub targets: BTreeMap<MachineName, Revision>,
    /// Whether it notes proofs of Jobs. No precondition of these writes covers Jobs.
    pub marks_by_jobs: bool,
}

/// Which configurations a plan depends on. Each variant includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The cluster's own, and those of its machines that the watch has shown.
    Cluster,
    /// Also the absence of any other configuration that refers to a machine that it writes.
    NoOthers,
    /// All of the namespace.
    Namespace,
}

impl Plan {
    /// Whether an action must not depend on a cache. Then the plan is made again from live reads before anything is done.
    #[must_use]
    pub fn needs_live_reads(&self) -> bool {
        let writes_cluster =
            |action: &&Action| matches!(action, Action::Finalizer(FinalizerWrite::Add(..)));
        // A take ends the plan: everything after it depends on later reads.
        let mut done = self.actions.iter().take_while(|it| !writes_cluster(it));
        self.marks_by_jobs || done.any(Action::needs_live_reads)
    }

    /// Which configurations it depends on. It depends on all of the namespace if it creates the first configuration of a machine, which any
    /// other may use, or if it relies on the cluster having none. A cluster that is being deleted releases its machines even if others
    /// refer to them.
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

    /// Machines whose configurations this plan writes, or whose entries it takes.
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

/// Something that the cluster waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    /// The condition that it makes false; [`ConditionType::Stalled`] if the user has to act.
    pub condition: ConditionType,
    /// Reason and message.
    pub cause: Cause,
    /// The machine that it concerns.
    pub machine: Option<MachineName>,
}

/// One write, or the start of background work, grouped by the kind of object.
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
    /// On a child other than a configuration.
    Child(ChildWrite),
    /// On a Node of the cluster.
    Node(NodeWork),
    /// On the kubeconfig and the host keys.
    Kubeconfig(KubeconfigWork),
    /// Start a workload health probe, in the background.
    ProbeWorkload,
    /// Emit an event.
    Notify(Notice),
}

impl Action {
    /// Whether it must depend only on live reads. Marks, the end of an entry after a touch, and background work may depend on caches: their
    /// preconditions detect stale data.
    #[must_use]
    pub fn needs_live_reads(&self) -> bool {
        match self {
            Self::Finalizer(write) => matches!(write, FinalizerWrite::Remove(..)),
            Self::Configuration(write) => write.needs_live_reads(),
            Self::Kubeconfig(work) => work.is_write(),
            Self::Slot(write) => matches!(write, SlotWrite::Take { .. }),
            Self::Child(write) => !matches!(write, ChildWrite::AddFinalizer(..)),
            Self::Ledger(_) | Self::Disrupt(_) | Self::Node(_) => true,
            Self::ProbeWorkload | Self::Notify(_) => false,
        }
    }

    /// Whether it notes NIO's proof.
    #[must_use]
    pub fn marks_a_proof(&self) -> bool {
        let Self::Configuration(ConfigurationWrite::Mark(_, _, mark)) = self else {
            return false;
        };
        matches!(mark, Mark::Confirmed(_) | Mark::Withdrawn)
    }

    /// Whether another pass must follow, because no watch shows the result.
    #[must_use]
    pub fn wakes(&self) -> bool {
        matches!(
            self,
            Self::Ledger(_) | Self::Slot(_) | Self::Child(ChildWrite::TakeBack(..))
        )
    }
}

/// A write of the cluster's finalizers, with the version of the object and the complete list.
#[derive(Clone, Debug, PartialEq)]
pub enum FinalizerWrite {
    /// Adds NICO's to the existing ones.
    Add(Precondition, Vec<String>),
    /// Removes NICO's; these stay.
    Remove(Precondition, Vec<String>),
}

/// A write of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum LedgerWrite {
    /// Creates it. It must not exist.
    Create(Ledger),
    /// Replaces its data, by compare-and-swap.
    Update(Precondition, Ledger),
}

/// A step of the slot's protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotWrite {
    /// Creates or renews the entries of machines, by one compare-and-swap. Then everything is read again, and the next plan is made under
    /// them.
    Take {
        /// One machine of the control plane, or workers.
        machines: Vec<MachineName>,
        /// The version of the ledger that this depends on.
        ledger: Precondition,
        /// The ledger with the entries.
        taken: Ledger,
        /// Size of the control plane, if it cannot keep its quorum meanwhile.
        without_quorum: Option<usize>,
    },
    /// Touches the configurations of `releasing` entries. If the response shows that a configuration is settled, its entry is removed, by
    /// one compare-and-swap.
    End {
        /// The machines, and their configurations.
        children: BTreeMap<MachineName, Precondition>,
        /// The version of the ledger, read before the touches.
        ledger: Precondition,
        /// That ledger, which still has the entries.
        before: Ledger,
    },
}

/// A write to a configuration that does not disrupt a running machine.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigurationWrite {
    /// Claims a machine: creates its configuration.
    Claim(Box<Claim>),
    /// Updates one that was never confirmed and does not belong to a running control plane.
    Rewrite(Box<Rewrite>),
    /// Deletes it, by name.
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

/// A quiet write: NICO's metadata, and fields that NIO does not apply to machines.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// Restores owner and labels that were removed by hand, as complete lists.
    TakenBack(Value),
    /// Sets the owner of a configuration that lost it with an earlier cluster of this name.
    Restored(Value),
    /// Notes that NIO applied this attempt.
    Confirmed(Marker),
    /// Notes that NIO proves another attempt than the confirmed one.
    Withdrawn,
    /// Writes a value that was never used before, so that every older pending write fails.
    Touched,
    /// Changes these fields of its spec; null removes one.
    Settled(Map<String, Value>),
    /// Removes NIO's finalizers, because the user force-releases its machine; these stay.
    Forced(Vec<String>),
}

impl Member<'_> {
    /// Returns a quiet write to it.
    #[must_use]
    pub fn mark(&self, mark: Mark) -> Action {
        let name = self.name.to_string();
        Action::Configuration(ConfigurationWrite::Mark(name, self.version(), mark))
    }
}

impl Mark {
    /// The merge patch of the configuration. `fresh` is a value that was never used before.
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

/// A write to a child other than a configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum ChildWrite {
    /// Generates a token and creates its Secret. It must not exist.
    CreateToken(Token),
    /// Adds the finalizer `in-use`, which was removed from it, to this version.
    AddFinalizer(Child, Precondition),
    /// Makes the cluster the owner of this version of it.
    TakeBack(Child, Precondition),
    /// Removes `in-use`; the object stays.
    LetGo(Child),
    /// Removes `in-use` and deletes the object.
    Delete(Child),
}

/// Work on a Node that needs no entry.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeWork {
    /// Evicts the pods of the Node with that name, which is being drained, in the background.
    Evict(String),
    /// Removes NICO's annotations from a Node whose machine stays after all, and makes it schedulable if NICO made it unschedulable.
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
    /// Reads it from one of these machines, in this order, in the background.
    Fetch(Vec<MachineName>, Wanted),
    /// Tries the stored one, in the background.
    Verify,
    /// Discards the fetched one, which is not needed.
    Drop,
    /// Exchanges keys with the control plane machines, in the background.
    Meet,
    /// Pins new host keys, and removes those of machines that left.
    PinHostKey,
    /// Stores the fetched one in this version of the Secret, or in a new Secret, which must not exist.
    Store(Option<Precondition>),
}

impl KubeconfigWork {
    fn is_write(&self) -> bool {
        matches!(self, Self::PinHostKey | Self::Store(_))
    }
}

/// An event without a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// NIO released a machine whose status still says that it is configured.
    LeftBehind(MachineName),
    /// A machine left, and its Node may still be there.
    NodeStays(MachineName),
    /// A machine left a control plane without Nodes, and its member of etcd may still be there.
    MemberStays(MachineName),
}
