//! Which machines in flight block another, and whose turn it is.

use super::{Preflight, Step, Verdict};
use crate::api::names::MachineName;
use crate::api::spec::RolloutOrder;
use crate::api::status::Role;
use crate::plan::flight::Flight;
use crate::plan::health::Health;
use crate::plan::observed::WorkloadHealth;
use crate::plan::quorum;
use crate::plan::rollout::blocker::Blocker;

impl Preflight<'_> {
    /// The machine in flight that blocks this one, if any.
    pub(super) fn others(&self, machine: &MachineName) -> Option<Blocker> {
        let role = self.rules_of(machine);
        let goes_on = self.in_flight(machine);
        let leads_out = self.leads_out(machine);
        let force_released = self.force_released.contains(machine);
        // A force-released machine blocks others only while it has an entry, and only entries of others block it.
        let others = || {
            self.flights.iter().filter(|(other, flight)| {
                let only_by_entry = force_released || self.force_released.contains(*other);
                *other != machine
                    && (flight.entry.is_some() || !only_by_entry)
                    && !self.goes_before(machine, other)
            })
        };
        let blocks = |flight: &Flight| match (role, flight.role) {
            _ if flight.entry.is_some() && flight.role != role => true,
            (Role::ControlPlane, Role::ControlPlane) => {
                flight.entry.is_some() || !leads_out || flight.once_confirmed
            }
            (Role::ControlPlane, Role::Worker) | (Role::Worker, Role::ControlPlane) => !goes_on,
            (Role::Worker, Role::Worker) => false,
        };
        let mut blocking = others().filter(|(_, flight)| blocks(flight));
        if let Some((other, _)) = blocking.next() {
            let other = other.clone();
            return Some(Blocker::InFlight { other });
        }
        if role == Role::ControlPlane {
            return None;
        }
        let of_workers = || others().filter(|(_, flight)| flight.role == Role::Worker);
        let entered = of_workers().filter(|it| it.1.entry.is_some()).count();
        // A machine in flight under its own entry adds no further one, even if `maxUnavailable` was lowered meanwhile.
        let adds = !goes_on || self.observed().entry(machine).is_none();
        let full = adds
            && (entered >= self.most_workers
                || (!goes_on && of_workers().count() >= self.most_workers));
        match of_workers().next() {
            Some((other, _)) if full => Some(Blocker::InFlight {
                other: other.clone(),
            }),
            _ => None,
        }
    }

    /// Whether a machine goes before another, if both were disrupted together as workers and their Nodes have since become control plane
    /// Nodes. The first by name goes first, so that they do not wait for each other.
    fn goes_before(&self, machine: &MachineName, other: &MachineName) -> bool {
        let is_such = |it: &MachineName| {
            let entry = self.observed().entry(it);
            entry.is_some_and(|entry| entry.role == Role::Worker)
                && self.rules_of(it) == Role::ControlPlane
        };
        machine < other && self.in_flight(machine) && is_such(machine) && is_such(other)
    }

    /// Why it is not this machine's turn yet. A machine that was written already continues.
    pub(super) fn not_its_turn(&self, machine: &MachineName, step: &Step) -> Option<Blocker> {
        if self.in_flight(machine)
            || self.leads_out(machine)
            || self.force_released.contains(machine)
        {
            return None;
        }
        if *step == Step::Rewrite {
            if !self.observed().discoverable(machine) {
                return Some(Blocker::Undiscoverable);
            }
            if let Some(skew) = self.skewed(machine) {
                return Some(skew);
            }
            if self.newest_if_unwell().as_ref() != Some(machine)
                && let Some(first) = self.other_role_first(machine)
            {
                return Some(first);
            }
        }
        self.newest_is_unwell(machine)
    }

    /// A worker whose kubelet is newer than the API server. Updating workers first would violate the Kubernetes version skew policy.
    fn skewed(&self, but: &MachineName) -> Option<Blocker> {
        let WorkloadHealth::Answered(workload) = &self.observed().workload else {
            return None;
        };
        let api = workload.api_minor?;
        if !self.asks || self.order != RolloutOrder::WorkersFirst {
            return None;
        }
        let skewed = self.skewed.get_or_init(|| {
            let workers = self.observed().members_of(Role::Worker);
            let skewed = workers.filter_map(|member| {
                let kubelet = self.observed().node(&member.name)?.kubelet_minor?;
                (kubelet > api).then_some((member.name, kubelet))
            });
            skewed.take(2).collect()
        });
        // The worker that is too new may still be changed, so that it can be reverted.
        let (worker, kubelet) = skewed.iter().find(|(worker, _)| worker != but)?.clone();
        Some(Blocker::VersionSkew {
            worker,
            kubelet,
            api,
        })
    }

    /// A machine of the other role that comes first, if any. Machines that are passed over do not count.
    fn other_role_first(&self, machine: &MachineName) -> Option<Blocker> {
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
        let first = self.known.outdated.keys().find(waits)?.clone();
        Some(Blocker::NotItsTurn { first })
    }

    /// The confirmed member that was written last, and whether its Node is Ready. If it is judged only by its API server, whether that is
    /// ready.
    fn newest(&self, but: Option<&MachineName>) -> Option<(MachineName, bool)> {
        let newest = self.newest.get_or_init(|| {
            let members = self.observed().members();
            let confirmed = members.filter(|it| it.is_confirmed() && !it.is_deleting());
            let mut newest: Vec<_> = confirmed.map(|it| (it.written(), it.name)).collect();
            newest.sort();
            newest.into_iter().rev().map(|it| it.1).take(2).collect()
        });
        let newest = newest.iter().find(|it| but != Some(it))?;
        let ready = match self.by_readyz(newest) {
            Some(health) => health == Health::Healthy,
            None => (self.observed().node(newest)).is_some_and(|node| node.ready),
        };
        Some((newest.clone(), ready))
    }

    /// The health of a member that is judged only by its API server; `None` for others.
    fn by_readyz(&self, machine: &MachineName) -> Option<Health> {
        let member = self.observed().member(machine)?;
        let is_judged = self.observed().is_judged_by_readyz(&member);
        is_judged.then(|| self.observed().health(&member, self.asks))
    }

    /// The member written last, if it is not well. An update that may fix it comes before all others.
    pub(super) fn newest_if_unwell(&self) -> Option<MachineName> {
        self.observed().workload.nodes().filter(|_| self.asks)?;
        self.newest(None)
            .filter(|(_, ready)| !ready)
            .map(|(machine, _)| machine)
    }

    /// Blocks the next machine until the one written last is well.
    fn newest_is_unwell(&self, machine: &MachineName) -> Option<Blocker> {
        let alone =
            self.role(machine) == Role::ControlPlane && !quorum::can_be_kept(self.numbers.n);
        if !self.asks || alone {
            return None;
        }
        let (newest, ready) = self.newest(Some(machine))?;
        if ready {
            return None;
        }
        if self.observed().workload.nodes().is_none() {
            return Some(Blocker::Unreachable);
        }
        if self.by_readyz(&newest).is_some() {
            let why = self.observed().why_unknown(&newest).map(str::to_owned);
            return Some(Blocker::NewestServerNotReady { newest, why });
        }
        let Some(node) = self.observed().node(&newest) else {
            let lasts = self.without_node.contains(&newest);
            return Some(Blocker::NewestHasNoNode { newest, lasts });
        };
        Some(Blocker::NewestNotReady {
            newest,
            node: node.name.clone(),
            left_over: self.left_over(),
        })
    }
}
