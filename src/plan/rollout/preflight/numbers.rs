//! Which changes the number of healthy control plane machines forbids.

use super::{Preflight, Step};
use crate::api::names::MachineName;
use crate::api::status::Role;
use crate::plan::health::{Health, Numbers};
use crate::plan::observed::Answer;
use crate::plan::quorum;
use crate::plan::rollout::blocker::{Blocker, Purpose, Quorum, Shortage};

impl Preflight<'_> {
    /// Which changes the number of healthy control plane machines forbids.
    pub(super) fn numbers_forbid(&self, machine: &MachineName, step: &Step) -> Option<Blocker> {
        let Numbers { n, healthy, .. } = self.numbers;
        if !self.known.founding.founded || self.force_released.contains(machine) {
            return None;
        }
        let few = || !quorum::can_be_kept(n);
        let (allowed, purpose) = match step {
            _ if self.rules_of(machine) == Role::Worker => {
                let allowed = !self.numbers.below_quorum() || self.in_flight(machine);
                (allowed, Purpose::Change)
            }
            Step::DeleteNode { name, .. } => {
                let mut unmatched_nodes = self.observed().unmatched_nodes();
                let counts = unmatched_nodes.any(|node| node.name == *name);
                if counts && few() {
                    return self.would_lose_quorum(machine);
                }
                let allowed = !counts || quorum::bears_change_of_sick(n, healthy);
                (allowed, Purpose::NodeLeaves(name.clone()))
            }
            Step::Drain { .. } | Step::Release if few() => return self.would_lose_quorum(machine),
            _ if few() => return None,
            Step::Join => (quorum::bears_newcomer(n, healthy), Purpose::Join),
            Step::Rewrite => {
                let leads_out = self.leads_out(machine);
                (self.bears_change_of(machine) || leads_out, Purpose::Change)
            }
            Step::Drain { .. } | Step::Release => (self.bears_change_of(machine), Purpose::Leave),
        };
        (!allowed).then(|| Blocker::Quorum(self.shortage(purpose)))
    }

    /// Whether the quorum allows a change of a control plane machine.
    fn bears_change_of(&self, machine: &MachineName) -> bool {
        let Numbers { n, healthy, .. } = self.numbers;
        match self.health(machine) {
            // Its Node counts as a control plane machine, but not as a healthy one.
            _ if self.role(machine) == Role::Worker => quorum::bears_change_of_sick(n, healthy),
            Health::Healthy => quorum::bears_loss_of_healthy(n, healthy),
            Health::Sick => quorum::bears_change_of_sick(n, healthy),
            Health::Unknown => false,
        }
    }

    fn shortage(&self, purpose: Purpose) -> Shortage {
        let Numbers {
            n,
            healthy,
            unknown,
        } = self.numbers;
        let unmatched = self.unmatched();
        let quorum = if !self.numbers.below_quorum() {
            Quorum::AtRisk
        } else if !unmatched.is_empty() {
            let lasts = unmatched.iter().all(|it| self.without_node.contains(it));
            let names = unmatched.iter().map(ToString::to_string).collect();
            Quorum::Unmatched { names, lasts }
        } else if self.numbers.quorum_is_lost() {
            Quorum::Lost
        } else {
            Quorum::Unknown(unknown)
        };
        Shortage {
            n,
            healthy,
            others: self.not_healthy(),
            purpose,
            quorum,
            left_over: self.left_over(),
        }
    }

    /// The Nodes of control plane members whose API servers are ready, if none of the control plane's Nodes is: members that run no
    /// kubelets any more leave such Nodes.
    pub(super) fn left_over(&self) -> Vec<String> {
        let observed = self.observed();
        let members: Vec<MachineName> = observed.control_plane().map(|it| it.name).collect();
        let answers = |it: &MachineName| observed.workload.answer(it) == Some(&Answer::Ready);
        let of = |machine: &MachineName| observed.nodes_of(machine);
        let is_ready = members.iter().flat_map(of).any(|node| node.ready)
            || observed.unmatched_nodes().any(|node| node.ready);
        if !self.asks || is_ready || !members.iter().all(answers) {
            return Vec::new();
        }
        let nodes = members
            .iter()
            .flat_map(of)
            .chain(observed.unmatched_nodes());
        nodes.map(|node| node.name.clone()).collect()
    }

    /// The control plane machines that are not known to be healthy, and the Nodes without a machine: the user should check these first.
    fn not_healthy(&self) -> Vec<String> {
        let members = self.observed().control_plane();
        let unwell = members
            .map(|member| member.name)
            .filter(|machine| self.health(machine) != Health::Healthy);
        let unmatched_nodes = self.observed().unmatched_nodes().filter(|_| self.asks);
        unwell
            .map(|machine| match self.why_not_healthy(&machine) {
                Some(why) => format!("{machine}: {why}"),
                None => machine.to_string(),
            })
            .chain(unmatched_nodes.map(|node| format!("Node {}", node.name)))
            .collect()
    }

    fn why_not_healthy(&self, machine: &MachineName) -> Option<&str> {
        let member = self.observed().member(machine)?;
        if self.observed().is_judged_by_readyz(&member) {
            self.observed().why_unknown(machine)
        } else {
            self.observed().workload.untrusted(machine)
        }
    }

    /// A machine of a control plane of two leaves only if the user accepts the loss of quorum. The last one never leaves.
    fn would_lose_quorum(&self, machine: &MachineName) -> Option<Blocker> {
        let n = self.numbers.n;
        let accepted = self.observed().cluster.accept_quorum_loss.as_deref();
        if n < 2 {
            return Some(Blocker::OnlyOne);
        }
        (accepted != Some(machine.as_str())).then_some(Blocker::Needed { of: n })
    }

    /// Members whose API servers are ready, but whose Nodes cannot be identified although there are Nodes.
    fn unmatched(&self) -> Vec<MachineName> {
        let members = self.observed().control_plane();
        let listed = self.observed().workload.nodes().is_some();
        members
            .filter(|member| !self.observed().is_judged_by_readyz(member))
            .map(|member| member.name)
            .filter(|machine| {
                listed
                    && self.observed().workload.answer(machine) == Some(&Answer::Ready)
                    && self.observed().node(machine).is_none()
            })
            .collect()
    }
}
