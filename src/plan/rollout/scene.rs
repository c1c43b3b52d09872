//! Whether a machine may be changed now, and how (SPEC 4.3, 4.4): every rule in one place, asked for one machine at a time, the
//! same way when a machine is chosen and when its entry is in hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::Reason;
use crate::api::names::MachineName;
use crate::api::spec::RolloutOrder;
use crate::api::status::Role;
use crate::plan::action::{Clock, Plan};
use crate::plan::confirmed::{is_confirmed, once_confirmed};
use crate::plan::desired::Difference;
use crate::plan::health::{self, Health, Numbers, asks_the_cluster, health, numbers};
use crate::plan::observed::{Observed, Word, role_of};
use crate::plan::quorum;
use crate::plan::selection::Selection;
use crate::plan::slot::{Flight, entries, flights, owned, written};
use crate::plan::targets::key_is_unknown;

use super::silence;

/// How long a machine may be undiscoverable before it is passed over (SPEC 4.3, "Machines that fail").
const PASSED_OVER: Duration = Duration::from_secs(180);
/// How long fewer than a quorum must have been healthy before the way out is taken (SPEC 4.3).
const QUORUM_LOST: Duration = Duration::from_secs(180);

/// What is done next to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its configuration is written anew.
    Rewrite,
    /// It gets its first configuration.
    Join,
    /// The Node left over under its name or address is deleted.
    DeleteNode { name: String, uid: String },
}

/// Whether a machine may be changed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes, in this way.
    Go(Step),
    /// Not yet: what its entry is for goes on by itself.
    Hold(Reason, String),
    /// No: why.
    Stop(Reason, String),
    /// There is nothing to be done to it.
    Nothing,
}

/// Everything that the rules ask for.
pub(super) struct Scene<'a> {
    pub(super) observed: &'a Observed,
    pub(super) founded: bool,
    pub(super) now: Timestamp,
    pub(super) numbers: Numbers,
    selection: Selection,
    outdated: BTreeMap<MachineName, Vec<Difference>>,
    overdue: BTreeSet<MachineName>,
    flights: BTreeMap<MachineName, Flight>,
    order: RolloutOrder,
    most_workers: usize,
    asks: bool,
    quorum_lost: bool,
    passed_over: BTreeSet<MachineName>,
}

impl<'a> Scene<'a> {
    /// Looks at everything once; starts the clocks of patience that the rules need.
    pub(super) fn new(
        observed: &'a Observed,
        founded: bool,
        now: Timestamp,
        plan: &mut Plan,
    ) -> Self {
        let rollout = observed.spec.as_ref().ok().map(|spec| spec.rollout);
        let workers = plan.selection.workers.total;
        let asks = asks_the_cluster(observed, founded);
        let numbers = numbers(observed, founded);
        let mut scene = Self {
            observed,
            founded,
            now,
            numbers,
            selection: plan.selection.clone(),
            outdated: plan.outdated.clone(),
            overdue: plan.overdue.clone(),
            flights: flights(observed, founded, now),
            order: rollout.map_or(RolloutOrder::WorkersFirst, |rollout| rollout.order),
            most_workers: rollout.map_or(1, |rollout| rollout.max_unavailable.of(workers)),
            asks,
            quorum_lost: false,
            passed_over: BTreeSet::new(),
        };
        if founded && numbers.quorum_is_lost() && !scene.not_asked() {
            scene.quorum_lost = scene.ran_out(Clock::QuorumLost, QUORUM_LOST, plan);
        }
        for machine in plan.outdated.keys().cloned().collect::<Vec<_>>() {
            if !observed.discoverable(&machine) && !scene.in_flight(&machine) {
                let clock = Clock::Undiscoverable(machine.clone());
                if scene.ran_out(clock, PASSED_OVER, plan) {
                    scene.passed_over.insert(machine);
                }
            }
        }
        scene
    }

    /// Starts a clock, or lets it run on; whether it has run for so long.
    fn ran_out(&self, clock: Clock, patience: Duration, plan: &mut Plan) -> bool {
        let waited = self.observed.elapsed(&clock, self.now);
        plan.clocks.insert(clock);
        if waited < patience {
            plan.look_again_in(patience.saturating_sub(waited));
        }
        waited >= patience
    }

    fn not_asked(&self) -> bool {
        self.asks && self.observed.word == Word::NotAsked
    }

    /// The role that a machine has, or is to have.
    pub(super) fn role(&self, machine: &MachineName) -> Role {
        let held = owned(self.observed, machine).map(role_of);
        let entered = || {
            let mut entries = entries(self.observed);
            entries.find(|it| it.machine == *machine).map(|it| it.role)
        };
        let joins = || {
            let joining = &self.selection.control_plane.joining;
            joining.contains(machine).then_some(Role::ControlPlane)
        };
        held.or_else(joins).or_else(entered).unwrap_or(Role::Worker)
    }

    /// Whom to try, in this order (SPEC 4.3): who is in flight already, who was changed last and is not well, what leads out of
    /// a lost quorum, who joins, and who is outdated, sick ones first.
    pub(super) fn candidates(&self) -> Vec<MachineName> {
        let mut all: Vec<MachineName> = Vec::new();
        let entered = |flight: &Flight| flight.entry.is_some();
        let flights = || self.flights.iter();
        all.extend(flights().filter(|it| entered(it.1)).map(|it| it.0.clone()));
        all.extend(flights().filter(|it| !entered(it.1)).map(|it| it.0.clone()));
        all.extend(self.newest_if_unwell());
        all.extend(self.selection.control_plane.joining.iter().cloned());
        all.extend(self.selection.workers.joining.iter().cloned());
        let mut outdated: Vec<&MachineName> = self.outdated.keys().collect();
        outdated.sort_by_key(|machine| {
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
        let mut seen = BTreeSet::new();
        all.retain(|machine| seen.insert(machine.clone()));
        all
    }

    fn health(&self, machine: &MachineName) -> Health {
        owned(self.observed, machine).map_or(Health::Sick, |held| {
            health(self.observed, self.founded, machine, held)
        })
    }

    /// Whether something was written to a machine and is not done with.
    fn in_flight(&self, machine: &MachineName) -> bool {
        match (owned(self.observed, machine), self.flights.get(machine)) {
            (Some(held), Some(_)) => !is_confirmed(held),
            (None, Some(flight)) => flight.entry.is_some(),
            (_, None) => false,
        }
    }

    /// Whether a machine of a lost quorum may be changed though the numbers forbid it: nothing that still works is touched.
    fn leads_out(&self, machine: &MachineName) -> bool {
        self.quorum_lost
            && self.role(machine) == Role::ControlPlane
            && owned(self.observed, machine).is_some()
            && self.health(machine) == Health::Sick
            && (self.in_flight(machine) || self.observed.discoverable(machine))
    }

    /// Whether a machine may be changed now, and how.
    pub(super) fn decide(&self, machine: &MachineName) -> Verdict {
        let step = match self.step(machine) {
            Verdict::Go(step) => step,
            other => return other,
        };
        if self.not_asked() {
            return Verdict::Hold(Reason::Progressing, silence(&self.observed.word));
        }
        let refusal = self
            .others(machine)
            .or_else(|| self.numbers_forbid(machine, &step))
            .or_else(|| self.not_its_turn(machine, &step));
        refusal.unwrap_or(Verdict::Go(step))
    }

    /// What is to be done to a machine, whether or not it may be done now.
    fn step(&self, machine: &MachineName) -> Verdict {
        let joins = Role::ALL
            .iter()
            .any(|role| self.selection.of(*role).joining.contains(machine));
        let held = owned(self.observed, machine);
        let entered = entries(self.observed).any(|entry| entry.machine == *machine);
        if joins || (held.is_none() && entered && self.role(machine) == Role::ControlPlane) {
            return self.first_step(machine, joins);
        }
        let (Some(held), Some(differences)) = (held, self.outdated.get(machine)) else {
            return Verdict::Nothing;
        };
        if held.metadata.deletion_timestamp.is_some() {
            return Verdict::Nothing;
        }
        if key_is_unknown(self.observed, machine, held) {
            return Verdict::Stop(
                Reason::SSHKeyMissing,
                format!(
                    "Machine {machine} is out of date, and the SSH key that it is given cannot be read: see spec.sshKeySecretRef of the Machine"
                ),
            );
        }
        let gathers = differences.iter().all(|it| it.is_of_the_lists());
        if gathers && !is_confirmed(held) && !self.overdue.contains(machine) {
            return Verdict::Nothing;
        }
        let direct = self.role(machine) == Role::Worker || !self.founded;
        if direct && !once_confirmed(held) && !entered {
            // Nothing that lives is disrupted: it is written without the slot.
            return Verdict::Nothing;
        }
        Verdict::Go(Step::Rewrite)
    }

    /// The first step of a machine that joins; or the last of one that is gone and whose Node is left.
    fn first_step(&self, machine: &MachineName, joins: bool) -> Verdict {
        if !self.founded {
            // First configurations are claimed all at once (SPEC 3.6).
            return Verdict::Nothing;
        }
        let is_worker = self.role(machine) == Role::Worker;
        if self.asks {
            let Some(_) = self.observed.word.nodes() else {
                return if self.not_asked() {
                    Verdict::Hold(Reason::Progressing, silence(&self.observed.word))
                } else {
                    Verdict::Stop(Reason::ClusterUnreachable, silence(&self.observed.word))
                };
            };
            if let Some(node) = health::node(self.observed, machine) {
                if node.deleting {
                    return Verdict::Hold(
                        Reason::NodeLeftOver,
                        format!(
                            "Machine {machine} joins once its old Node {} is gone",
                            node.name
                        ),
                    );
                }
                return Verdict::Go(Step::DeleteNode {
                    name: node.name.clone(),
                    uid: node.uid.clone(),
                });
            }
        }
        let entered = entries(self.observed).any(|entry| entry.machine == *machine);
        if !joins || (is_worker && !entered) {
            return Verdict::Nothing;
        }
        Verdict::Go(Step::Join)
    }

    /// Who else is in flight and stands in the way (SPEC 4.2, 4.3).
    fn others(&self, machine: &MachineName) -> Option<Verdict> {
        let role = self.role(machine);
        let goes_on = self.in_flight(machine);
        let leads_out = self.leads_out(machine);
        let others = || self.flights.iter().filter(|(other, _)| *other != machine);
        let stands_in_the_way = |flight: &Flight| match (role, flight.role) {
            _ if flight.entry.is_some() && flight.role != role => true,
            (Role::ControlPlane, Role::ControlPlane) => {
                flight.entry.is_some() || !leads_out || flight.once_confirmed
            }
            (Role::ControlPlane, Role::Worker) | (Role::Worker, Role::ControlPlane) => !goes_on,
            (Role::Worker, Role::Worker) => false,
        };
        let mut blocking = others().filter(|(_, flight)| stands_in_the_way(flight));
        if let Some((other, _)) = blocking.next() {
            return Some(in_flight(machine, other));
        }
        if role == Role::ControlPlane {
            return None;
        }
        let of_workers = || others().filter(|(_, flight)| flight.role == Role::Worker);
        let entered = of_workers().filter(|it| it.1.entry.is_some()).count();
        let full =
            entered >= self.most_workers || (!goes_on && of_workers().count() >= self.most_workers);
        match of_workers().next() {
            Some((other, _)) if full => Some(in_flight(machine, other)),
            _ => None,
        }
    }

    /// What the numbers of the control plane forbid (SPEC 4.3, "Numbers").
    fn numbers_forbid(&self, machine: &MachineName, step: &Step) -> Option<Verdict> {
        let Numbers { n, healthy, .. } = self.numbers;
        let too_few = |what: &str| {
            let (reason, why) = if self.numbers.below_quorum() {
                self.lost()
            } else {
                (Reason::QuorumAtRisk, String::new())
            };
            Some(Verdict::Stop(
                reason,
                format!("{healthy} of {n} control plane machines are healthy, too few {what}{why}"),
            ))
        };
        if !self.founded {
            return None;
        }
        if self.role(machine) == Role::Worker {
            let refused = self.numbers.below_quorum() && !self.in_flight(machine);
            return if refused {
                too_few(&format!("for Machine {machine} to be changed"))
            } else {
                None
            };
        }
        match step {
            Step::DeleteNode { name, .. } => {
                let counts = health::strays(self.observed).any(|node| node.name == *name);
                if !counts || quorum::bears_change_of_sick(n, healthy) && quorum::can_be_kept(n) {
                    return None;
                }
                if quorum::can_be_kept(n) {
                    return too_few(&format!("for Node {name} to leave"));
                }
                let accepted = self.observed.cluster.accept_quorum_loss.as_deref();
                (accepted != Some(machine.as_str())).then(|| {
                    Verdict::Stop(
                        Reason::WouldLoseQuorum,
                        format!("Node {name} is one of a control plane of {n}: take {machine} out of etcd, then annotate the cluster nico.homystack.com/accept-quorum-loss: {machine}"),
                    )
                })
            }
            _ if !quorum::can_be_kept(n) => None,
            Step::Join => (!quorum::bears_newcomer(n, healthy))
                .then(|| too_few(&format!("for Machine {machine} to join")))
                .flatten(),
            Step::Rewrite => {
                let allowed = match self.health(machine) {
                    Health::Healthy => quorum::bears_loss_of_healthy(n, healthy),
                    Health::Sick => {
                        quorum::bears_change_of_sick(n, healthy) || self.leads_out(machine)
                    }
                    Health::Unknown => false,
                };
                (!allowed)
                    .then(|| too_few(&format!("for Machine {machine} to be changed")))
                    .flatten()
            }
        }
    }

    /// Why there is no quorum, in one word, and what comes of it.
    fn lost(&self) -> (Reason, String) {
        if self.numbers.quorum_is_lost() {
            (
                Reason::QuorumLost,
                "; no healthy one is touched, and after three minutes sick, discoverable ones that are out of date are written, one at a time".to_owned(),
            )
        } else {
            (
                Reason::ClusterUnreachable,
                format!(
                    "; of {} nothing can be learned: {}",
                    self.numbers.unknown,
                    silence(&self.observed.word)
                ),
            )
        }
    }

    /// Why it is not this machine's turn yet. One that was written already goes on.
    fn not_its_turn(&self, machine: &MachineName, step: &Step) -> Option<Verdict> {
        if self.in_flight(machine) || self.leads_out(machine) {
            return None;
        }
        if *step == Step::Rewrite {
            if !self.observed.discoverable(machine) {
                return Some(Verdict::Stop(
                    Reason::MachineUndiscoverable,
                    format!(
                        "Machine {machine} is out of date and NIO cannot reach it: it is updated when it returns"
                    ),
                ));
            }
            if let Some(stop) = self.skewed() {
                return Some(stop);
            }
            if self.newest_if_unwell().as_ref() != Some(machine)
                && let Some(stop) = self.other_role_first(machine)
            {
                return Some(stop);
            }
        }
        self.newest_is_unwell(machine)
    }

    /// A worker newer than the API server: the order is the wrong one for this step (Kubernetes version-skew policy).
    fn skewed(&self) -> Option<Verdict> {
        let Word::Heard(workload) = &self.observed.word else {
            return None;
        };
        let api = workload.api_minor?;
        if !self.asks || self.order != RolloutOrder::WorkersFirst {
            return None;
        }
        self.observed.members_of(Role::Worker).find_map(|(machine, _)| {
            let kubelet = health::node(self.observed, &machine)?.kubelet_minor?;
            (kubelet > api).then(|| Verdict::Stop(
                Reason::VersionSkew,
                format!("the kubelet of {machine} is of minor version {kubelet}, newer than the API server's {api}: set spec.rollout.order: ControlPlaneFirst"),
            ))
        })
    }

    /// Whether machines of the other role come first. Those that are passed over do not count.
    fn other_role_first(&self, machine: &MachineName) -> Option<Verdict> {
        let role = self.role(machine);
        let first = match self.order {
            RolloutOrder::WorkersFirst => Role::Worker,
            RolloutOrder::ControlPlaneFirst => Role::ControlPlane,
        };
        let waits = |other: &&MachineName| {
            self.role(other) == first
                && !self.passed_over.contains(*other)
                && self.step(other) != Verdict::Nothing
        };
        if role == first {
            return None;
        }
        self.outdated.keys().find(waits).map(|other| {
            Verdict::Stop(
                Reason::Progressing,
                format!("Machine {machine} waits until {other} is up to date"),
            )
        })
    }

    /// The member that was written last of those that are confirmed, and whether its Node is Ready.
    fn newest(&self, but: Option<&MachineName>) -> Option<(MachineName, bool)> {
        let confirmed = self.observed.members().filter(|(machine, held)| {
            but != Some(machine) && is_confirmed(held) && held.metadata.deletion_timestamp.is_none()
        });
        let (machine, _) =
            confirmed.max_by_key(|(machine, held)| (written(held), machine.clone()))?;
        let ready = health::node(self.observed, &machine).is_some_and(|node| node.ready);
        Some((machine, ready))
    }

    /// The member written last, where its Node is not Ready: what mends it comes before all else.
    fn newest_if_unwell(&self) -> Option<MachineName> {
        self.observed.word.nodes().filter(|_| self.asks)?;
        self.newest(None)
            .filter(|(_, ready)| !ready)
            .map(|(machine, _)| machine)
    }

    /// The next machine starts only when the Node of the one written last is Ready (SPEC 4.4).
    fn newest_is_unwell(&self, machine: &MachineName) -> Option<Verdict> {
        let alone =
            self.role(machine) == Role::ControlPlane && !quorum::can_be_kept(self.numbers.n);
        if !self.asks || alone {
            return None;
        }
        let (newest, ready) = self.newest(Some(machine))?;
        if ready {
            return None;
        }
        Some(match self.observed.word.nodes() {
            None => Verdict::Stop(Reason::ClusterUnreachable, silence(&self.observed.word)),
            Some(_) => Verdict::Stop(
                Reason::NodeNotReady,
                match health::node(self.observed, &newest) {
                    Some(node) => format!(
                        "Node {} of Machine {newest}, which was changed last, is not Ready: the next machine waits for it",
                        node.name
                    ),
                    None => format!(
                        "no Node matches Machine {newest} by name or InternalIP: the next machine waits for it; where Nodes are named otherwise, set spec.rollout.nodeChecks: false"
                    ),
                },
            ),
        })
    }
}

fn in_flight(machine: &MachineName, other: &MachineName) -> Verdict {
    Verdict::Stop(
        Reason::InFlight,
        format!("Machine {machine} waits until {other} is done"),
    )
}
