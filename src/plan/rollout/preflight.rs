//! Whether a machine may be changed now, and how. The check is the same when a machine is chosen and when its entry was taken. `step`
//! determines the next step, `numbers` and `turn` what forbids it.

mod numbers;
mod step;
mod turn;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::api::ledger::EntryState;
use crate::api::names::{MachineName, ledger_name};
use crate::api::spec::RolloutOrder;
use crate::api::status::Role;
use crate::plan::flight::Flight;
use crate::plan::health::{Health, Numbers};
use crate::plan::known::Known;
use crate::plan::observed::{Observed, WorkloadHealth};
use crate::plan::output::Output;
use crate::plan::patience::{
    ADVISED_WITHOUT_CHECKS_AFTER, Clock, NODE_REGISTERS_WITHIN, PASSED_OVER_AFTER,
    QUORUM_LOST_AFTER,
};

use super::blocker::{Blocker, Probe};

/// The next change of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its configuration is updated.
    Rewrite,
    /// It gets its first configuration.
    Join,
    /// Its Node is made unschedulable, and its pods are evicted from then on.
    Drain {
        name: String,
        uid: String,
        cordon: bool,
    },
    /// Its configuration is deleted.
    Release,
    /// Its leftover Node is deleted.
    DeleteNode { name: String, uid: String },
}

/// Whether a machine may be changed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes, with this step.
    Go(Step),
    /// Not yet: the work under its entry continues by itself.
    Hold(Blocker),
    /// No, for this reason.
    Stop(Blocker),
    /// There is nothing to do.
    Nothing,
}

/// Everything that the rules need.
pub(super) struct Preflight<'a> {
    pub(super) known: &'a Known<'a>,
    /// Machines in flight, and those that were chosen in addition.
    flights: BTreeMap<MachineName, Flight>,
    pub(super) numbers: Numbers,
    order: RolloutOrder,
    most_workers: usize,
    pub(super) asks: bool,
    drain_patience: Duration,
    /// Machines that leave or have left, and that the user has declared to be off.
    force_released: BTreeSet<MachineName>,
    quorum_lost: bool,
    passed_over: BTreeSet<MachineName>,
    /// Confirmed members that have had no Node for long.
    without_node: BTreeSet<MachineName>,
    /// Whether probes have told nothing for so long that advice is due.
    unknown_for_long: bool,
    /// The two confirmed members that were written last, the newest first.
    newest: OnceCell<Vec<MachineName>>,
    /// The first two workers whose kubelets are newer than the API server.
    skewed: OnceCell<Vec<(MachineName, u32)>>,
}

impl<'a> Preflight<'a> {
    /// Evaluates everything once, and keeps the patience clocks running that the rules need.
    pub(super) fn new(known: &'a Known<'a>) -> (Self, Output) {
        let Known { observed, now, .. } = *known;
        let mut output = Output::default();
        let rollout = observed.spec.as_ref().ok().map(|spec| spec.rollout);
        let workers = known.selection.workers.total;
        let asks = known.asks();
        let force_released = force_released(known);
        let numbers = observed.numbers(asks, &force_released);
        let mut preflight = Self {
            known,
            flights: known.flights.clone(),
            numbers,
            order: rollout.map_or(RolloutOrder::WorkersFirst, |rollout| rollout.order),
            most_workers: rollout.map_or(1, |rollout| rollout.max_unavailable.scaled(workers)),
            asks,
            drain_patience: rollout.map_or(Duration::ZERO, |rollout| {
                Duration::from_secs(rollout.drain_timeout_seconds.into())
            }),
            force_released,
            quorum_lost: false,
            passed_over: BTreeSet::new(),
            without_node: BTreeSet::new(),
            unknown_for_long: false,
            newest: OnceCell::new(),
            skewed: OnceCell::new(),
        };
        if known.founding.founded && numbers.quorum_is_lost() && !preflight.not_asked() {
            preflight.quorum_lost =
                output.has_run(observed, Clock::QuorumLost, now, QUORUM_LOST_AFTER);
        }
        let unknown = match &observed.workload {
            WorkloadHealth::NotReachable(_) => true,
            WorkloadHealth::Answered(workload) => workload.nodes.is_none() || numbers.unknown > 0,
            WorkloadHealth::NotProbed | WorkloadHealth::NoKubeconfig => false,
        };
        if asks && unknown {
            let (clock, patience) = (Clock::HealthUnknown, ADVISED_WITHOUT_CHECKS_AFTER);
            preflight.unknown_for_long = output.has_run(observed, clock, now, patience);
        }
        for machine in known.outdated.keys() {
            let clock = Clock::Undiscoverable(machine.clone());
            if !observed.discoverable(machine)
                && !preflight.in_flight(machine)
                && output.has_run(observed, clock, now, PASSED_OVER_AFTER)
            {
                preflight.passed_over.insert(machine.clone());
            }
        }
        preflight.without_node = without_node(known, &mut output);
        (preflight, output)
    }

    fn observed(&self) -> &'a Observed {
        self.known.observed
    }

    pub(super) fn probe(&self) -> Probe<'a> {
        Probe {
            workload: &self.observed().workload,
            unknown_for_long: self.unknown_for_long,
        }
    }

    fn not_asked(&self) -> bool {
        self.asks && self.observed().workload == WorkloadHealth::NotProbed
    }

    /// The current or future role of a machine. As long as a control plane Node of it is left over, it counts as control plane, since it
    /// may still be a member of etcd.
    pub(super) fn role(&self, machine: &MachineName) -> Role {
        let held = self.observed().controlled(machine).map(|it| it.role());
        let entered = || self.observed().entry(machine).map(|it| it.role);
        let joins = || {
            let joining = &self.known.selection.control_plane.joining;
            joining.contains(machine).then_some(Role::ControlPlane)
        };
        let left_over = || self.leads(machine).then_some(Role::ControlPlane);
        held.or_else(joins)
            .or_else(left_over)
            .or_else(entered)
            .unwrap_or(Role::Worker)
    }

    /// Whether a machine's Node counts as a control plane Node.
    fn leads(&self, machine: &MachineName) -> bool {
        self.asks && self.observed().has_control_plane_node(machine)
    }

    /// The role whose rules apply to disrupting a machine. A worker whose Node counts as a control plane Node may be a member of etcd, so
    /// it is changed and leaves by the control plane's rules.
    pub(super) fn rules_of(&self, machine: &MachineName) -> Role {
        if self.leads(machine) {
            Role::ControlPlane
        } else {
            self.role(machine)
        }
    }

    /// The role that a machine's entry needs. A machine in flight together with other workers keeps its worker entry: the slot never
    /// contains both roles, and nothing is created under that entry.
    pub(super) fn entry_role(&self, machine: &MachineName) -> Role {
        let own = self.observed().entry(machine);
        let others = self.observed().entries().len() > 1;
        let beside = own.is_some_and(|it| it.role == Role::Worker) && others;
        if beside && self.in_flight(machine) {
            Role::Worker
        } else {
            self.rules_of(machine)
        }
    }

    /// Whether a machine's entry has the role that it needs now, or a stricter one. Labels can change the needed role after the entry was
    /// taken.
    pub(super) fn entry_suffices(&self, machine: &MachineName) -> bool {
        let entry = self.observed().entry(machine);
        entry.is_some_and(|entry| entry.role.stricter(self.entry_role(machine)) == entry.role)
    }

    pub(super) fn has_entry(&self, machine: &MachineName) -> bool {
        self.observed().entry(machine).is_some()
    }

    /// Evaluates the other machines as if a chosen one had its entry already.
    pub(super) fn enter(&mut self, machine: &MachineName) {
        let held = self.observed().controlled(machine);
        let flight = Flight {
            role: self.entry_role(machine),
            entry: Some(EntryState::Active),
            once_confirmed: held.is_some_and(|held| held.was_confirmed()),
        };
        self.flights.insert(machine.clone(), flight);
    }

    /// Whether a machine joins in its current role. A leftover control plane entry or Node must be gone before it joins as a worker.
    fn joins(&self, machine: &MachineName) -> bool {
        let pick = self.known.selection.for_role(self.role(machine));
        pick.joining.contains(machine)
    }

    /// The machines to try, in this order: those in flight, sick ones that leave, the one changed last if it is not well, those that join,
    /// those that can restore a lost quorum, outdated ones (sick ones first), and healthy ones that leave.
    pub(super) fn candidates(&self) -> Vec<MachineName> {
        let mut all: Vec<MachineName> = Vec::new();
        let entered = |flight: &Flight| flight.entry.is_some();
        let flights = || self.flights.iter();
        all.extend(flights().filter(|it| entered(it.1)).map(|it| it.0.clone()));
        all.extend(flights().filter(|it| !entered(it.1)).map(|it| it.0.clone()));
        for role in Role::ALL {
            let leaving = self.known.selection.for_role(role).leaving.iter();
            all.extend(
                leaving
                    .filter(|it| self.health(it) == Health::Sick)
                    .cloned(),
            );
        }
        all.extend(self.newest_if_unwell());
        all.extend(self.known.selection.control_plane.joining.iter().cloned());
        all.extend(self.known.selection.workers.joining.iter().cloned());
        let mut outdated: Vec<&MachineName> = self.known.outdated.keys().collect();
        outdated.sort_by_cached_key(|machine| {
            let role = self.role(machine);
            let later = match self.order {
                RolloutOrder::WorkersFirst => role == Role::ControlPlane,
                RolloutOrder::ControlPlaneFirst => role == Role::Worker,
            };
            let out_of_turn = self.leads_out(machine);
            (
                !out_of_turn,
                later,
                self.health(machine) != Health::Sick,
                *machine,
            )
        });
        all.extend(outdated.into_iter().cloned());
        for role in [Role::Worker, Role::ControlPlane] {
            all.extend(self.known.selection.for_role(role).leaving.iter().cloned());
        }
        let mut seen = BTreeSet::new();
        all.retain(|machine| seen.insert(machine.clone()));
        all
    }

    fn health(&self, machine: &MachineName) -> Health {
        let held = self.observed().controlled(machine);
        held.map_or(Health::Sick, |held| {
            self.observed().health(&held, self.asks)
        })
    }

    /// Whether something was written to a machine that is not finished.
    fn in_flight(&self, machine: &MachineName) -> bool {
        match (
            self.observed().controlled(machine),
            self.flights.get(machine),
        ) {
            (Some(held), Some(_)) => !held.is_confirmed() || held.is_deleting(),
            // The join of a machine begins with its first configuration.
            (None, Some(flight)) => flight.entry.is_some() && !self.joins(machine),
            (_, None) => false,
        }
    }

    /// Whether a machine may be changed to restore a lost quorum although the numbers forbid it. This never applies to machines that still
    /// work.
    fn leads_out(&self, machine: &MachineName) -> bool {
        self.quorum_lost
            && self.role(machine) == Role::ControlPlane
            && self.observed().controlled(machine).is_some()
            && self.health(machine) == Health::Sick
            && (self.in_flight(machine) || self.observed().discoverable(machine))
    }

    /// Whether a machine may be changed now, and how.
    pub(super) fn decide(&self, machine: &MachineName) -> Verdict {
        let entry = self.observed().entry(machine);
        if let Some(EntryState::Unknown(state)) = entry.map(|entry| &entry.state) {
            let state = state.clone();
            let ledger = ledger_name(&self.observed().cluster.name);
            return Verdict::Hold(Blocker::UnknownState { ledger, state });
        }
        let step = match self.step(machine) {
            Verdict::Go(step) => step,
            other => return other,
        };
        if self.not_asked() {
            return Verdict::Hold(Blocker::NotAsked);
        }
        let blocker = self
            .others(machine)
            .or_else(|| self.numbers_forbid(machine, &step))
            .or_else(|| self.not_its_turn(machine, &step));
        blocker.map_or(Verdict::Go(step), Verdict::Stop)
    }
}

/// The machines in `force-release` that leave, are being released, or are gone. A machine for which the spec asks is not among them: the
/// annotation may be outdated.
fn force_released(known: &Known<'_>) -> BTreeSet<MachineName> {
    let Known {
        observed,
        selection,
        ..
    } = *known;
    let asked_for = |machine: &MachineName| selection.joins(machine) || selection.stays(machine);
    let leaving = Role::ALL
        .into_iter()
        .flat_map(|role| selection.for_role(role).leaving.iter().cloned())
        .filter(|machine| observed.cluster.forces(machine.as_str()));
    let named = observed.cluster.forced();
    let gone = named.filter(|machine| observed.controlled(machine).is_none());
    leaving
        .chain(gone)
        .filter(|machine| !asked_for(machine))
        .collect()
}

/// The confirmed members that have had no Node for so long that it may be named otherwise.
fn without_node(known: &Known<'_>, output: &mut Output) -> BTreeSet<MachineName> {
    let Known { observed, now, .. } = *known;
    let asks = known.asks() && observed.workload.nodes().is_some();
    let members = observed.members().filter(|member| {
        asks && member.is_confirmed()
            && !observed.is_judged_by_readyz(member)
            && observed.node(&member.name).is_none()
    });
    let mut late = members.map(|member| member.name).collect::<BTreeSet<_>>();
    late.retain(|machine| {
        let clock = Clock::WithoutNode(machine.clone());
        output.has_run(observed, clock, now, NODE_REGISTERS_WITHIN)
    });
    late
}
