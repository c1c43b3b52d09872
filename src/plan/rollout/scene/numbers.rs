//! What the numbers of the control plane forbid (SPEC 4.3, "Numbers").

use super::{Scene, Step, Verdict};
use crate::api::conditions::Reason;
use crate::api::names::MachineName;
use crate::api::status::Role;
use crate::plan::health::{Health, Numbers};
use crate::plan::observed::Answer;
use crate::plan::quorum;
use crate::plan::rollout::silence;

impl Scene<'_> {
    /// What the numbers of the control plane forbid (SPEC 4.3, "Numbers").
    pub(super) fn numbers_forbid(&self, machine: &MachineName, step: &Step) -> Option<Verdict> {
        let Numbers { n, healthy, .. } = self.numbers;
        let too_few = |what: &str| {
            let (reason, why) = if self.numbers.below_quorum() {
                self.lost()
            } else {
                (Reason::QuorumAtRisk, String::new())
            };
            let others = self.not_healthy().join(", ");
            let except = if others.is_empty() {
                others
            } else {
                format!(" (not {others})")
            };
            Some(Verdict::Stop(
                reason,
                format!(
                    "{healthy} of {n} control plane machines are healthy{except}, too few {what}{why}"
                ),
            ))
        };
        if !self.founded || self.vouched.contains(machine) {
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
                let counts = self.observed.strays().any(|node| node.name == *name);
                if !counts || quorum::bears_change_of_sick(n, healthy) && quorum::can_be_kept(n) {
                    return None;
                }
                if quorum::can_be_kept(n) {
                    return too_few(&format!(
                        "for Node {name} to leave; {}",
                        off_for_good(machine)
                    ));
                }
                self.would_lose_quorum(machine)
            }
            Step::Drain { .. } | Step::Release if !quorum::can_be_kept(n) => {
                self.would_lose_quorum(machine)
            }
            _ if !quorum::can_be_kept(n) => None,
            Step::Join => (!quorum::bears_newcomer(n, healthy))
                .then(|| too_few(&format!("for Machine {machine} to join")))
                .flatten(),
            Step::Rewrite | Step::Drain { .. } | Step::Release => {
                let leads_out = *step == Step::Rewrite && self.leads_out(machine);
                let allowed = match self.health(machine) {
                    Health::Healthy => quorum::bears_loss_of_healthy(n, healthy),
                    Health::Sick => quorum::bears_change_of_sick(n, healthy) || leads_out,
                    Health::Unknown => false,
                };
                let what = match step {
                    Step::Drain { .. } | Step::Release => {
                        format!("leave; {}", off_for_good(machine))
                    }
                    _ => "be changed".to_owned(),
                };
                (!allowed)
                    .then(|| too_few(&format!("for Machine {machine} to {what}")))
                    .flatten()
            }
        }
    }

    /// The control plane machines, and the Nodes without one, that are not known to be healthy: what a person looks at first.
    fn not_healthy(&self) -> Vec<String> {
        let members = self.observed.control_plane();
        let unwell = members
            .map(|member| member.name)
            .filter(|machine| self.health(machine) != Health::Healthy);
        let strays = self.observed.strays().filter(|_| self.asks);
        unwell
            .map(|machine| machine.to_string())
            .chain(strays.map(|node| format!("Node {}", node.name)))
            .collect()
    }

    /// One of a control plane of two leaves only where a person vouches for it; the last one never does (SPEC 4.3).
    fn would_lose_quorum(&self, machine: &MachineName) -> Option<Verdict> {
        let n = self.numbers.n;
        let accepted = self.observed.cluster.accept_quorum_loss.as_deref();
        if n < 2 {
            let message = format!(
                "Machine {machine} is the only one of its control plane: it leaves once another has joined"
            );
            return Some(Verdict::Stop(Reason::WouldLoseQuorum, message));
        }
        (accepted != Some(machine.as_str())).then(|| Verdict::Stop(
            Reason::WouldLoseQuorum,
            format!("Machine {machine} is one of a control plane of {n}, which has no quorum without it: take it out of etcd, then annotate the cluster nico.homystack.com/accept-quorum-loss: {machine}"),
        ))
    }

    /// Members whose API servers are ready, and whose Nodes cannot be told though there are some.
    fn unmatched(&self) -> Vec<String> {
        let members = self.observed.control_plane();
        let listed = self.observed.word.nodes().is_some();
        members
            .map(|member| member.name)
            .filter(|machine| {
                listed
                    && self.observed.word.answer(machine) == Some(&Answer::Ready)
                    && self.observed.node(machine).is_none()
            })
            .map(|machine| machine.to_string())
            .collect()
    }

    /// Why there is no quorum, in one word, and what comes of it.
    fn lost(&self) -> (Reason, String) {
        let unmatched = self.unmatched();
        if !unmatched.is_empty() {
            let names = unmatched.join(", ");
            (
                Reason::NodeNotReady,
                format!(
                    "; no Node matches {names} by name or InternalIP; where Nodes are named otherwise, set spec.rollout.nodeChecks: false"
                ),
            )
        } else if !self.numbers.quorum_is_lost() {
            (
                Reason::ClusterUnreachable,
                format!(
                    "; of {} nothing can be learned: {}",
                    self.numbers.unknown,
                    silence(&self.observed.word)
                ),
            )
        } else {
            (
                Reason::QuorumLost,
                "; no healthy one is touched, and after three minutes sick, discoverable ones that are out of date are written, one at a time".to_owned(),
            )
        }
    }
}

/// What leads on where the numbers never will.
fn off_for_good(machine: &MachineName) -> String {
    format!(
        "where it is off for good, annotate the cluster nico.homystack.com/force-release: {machine}"
    )
}
