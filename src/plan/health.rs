//! The health of each member, and the resulting numbers of the control plane.

use std::collections::BTreeSet;

use crate::api::names::MachineName;
use crate::api::nio::Machine;
use crate::api::status::Role;

use super::observed::{Answer, Member, NodeView, Observed};
use super::quorum;

/// The health of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It does not work.
    Sick,
    /// Its health is unknown.
    Unknown,
    /// It works.
    Healthy,
}

/// The control plane in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Configurations that exist, and Nodes that belong to none of them.
    pub n: usize,
    /// Those that are healthy.
    pub healthy: usize,
    /// Those whose health is unknown.
    pub unknown: usize,
}

impl Numbers {
    /// Whether fewer than a quorum are known to be healthy. A control plane of one or two has no quorum to keep.
    #[must_use]
    pub fn below_quorum(&self) -> bool {
        quorum::can_be_kept(self.n) && self.healthy < quorum::quorum(self.n)
    }

    /// Whether fewer than a quorum can be healthy, even if all unknown ones are. Otherwise the cluster may be running, and nothing is
    /// changed.
    #[must_use]
    pub fn quorum_is_lost(&self) -> bool {
        quorum::can_be_kept(self.n) && self.healthy + self.unknown < quorum::quorum(self.n)
    }
}

impl Observed {
    /// Whether health is determined by the cluster's own API: if the spec says so and the cluster is founded.
    #[must_use]
    pub fn asks(&self, founded: bool) -> bool {
        founded
            && self
                .spec
                .as_ref()
                .is_ok_and(|spec| spec.rollout.node_checks)
    }

    /// The health of a member. `asks`: whether it is determined by the cluster's own API.
    #[must_use]
    pub fn health(&self, member: &Member<'_>, asks: bool) -> Health {
        if member.is_deleting() || !member.is_confirmed() {
            return Health::Sick;
        }
        if !asks {
            return if member.is_discoverable() && member.complaint().is_none() {
                Health::Healthy
            } else {
                Health::Sick
            };
        }
        let node = self.node(&member.name);
        if member.role() == Role::Worker {
            return match (self.workload.nodes(), node) {
                (None, _) => Health::Unknown,
                (Some(_), Some(node)) if node.ready => Health::Healthy,
                (Some(_), _) => Health::Sick,
            };
        }
        if self.is_judged_by_readyz(member) {
            return self.health_by_readyz(&member.name);
        }
        match self.workload.answer(&member.name) {
            Some(Answer::Ready) => match node {
                Some(node) if node.ready => Health::Healthy,
                Some(_) => Health::Sick,
                // The API server is ready, but the Node cannot be identified: the member may be healthy.
                None => Health::Unknown,
            },
            Some(Answer::Refuses) => Health::Unknown,
            // Other members answer, but this one does not.
            Some(Answer::Unreachable) | None if self.workload.nodes().is_none() => Health::Unknown,
            Some(Answer::NotReady | Answer::Unreachable) | None => Health::Sick,
        }
    }

    /// The health of a member of a control plane without Nodes. Since Nodes were listed, another member answers if this one does not.
    fn health_by_readyz(&self, machine: &MachineName) -> Health {
        if self.why_unknown(machine).is_some() {
            return Health::Unknown;
        }
        match self.workload.answer(machine) {
            Some(Answer::Ready) => Health::Healthy,
            Some(Answer::Refuses) => Health::Unknown,
            Some(Answer::NotReady | Answer::Unreachable) | None => Health::Sick,
        }
    }

    /// Why the API server alone does not show the health of a member, for users.
    #[must_use]
    pub fn why_unknown(&self, machine: &MachineName) -> Option<&str> {
        let address = self.machine(machine).and_then(Machine::canonical_address);
        if address.is_some_and(|address| self.shares_address(machine, &address)) {
            return Some("another machine of the cluster has its address");
        }
        self.workload.untrusted(machine)
    }

    /// Whether a member is judged only by its API server, as in a control plane without Nodes. `/readyz` reads from etcd through this
    /// member, and etcd answers only with a quorum. So this is safe even if the Nodes were deleted, or the kubelets are dead.
    #[must_use]
    pub fn is_judged_by_readyz(&self, member: &Member<'_>) -> bool {
        self.has_no_control_plane_node() && member.role() == Role::ControlPlane
    }

    /// Whether the control plane runs no kubelets (k0s controllers, k3s with `--disable-agent`) according to the Nodes. With one control
    /// plane Node, all members are judged by their Nodes.
    #[must_use]
    pub fn has_no_control_plane_node(&self) -> bool {
        self.control_plane_has_no_nodes && self.workload.nodes().is_some()
    }

    /// Whether Nodes were listed, and none of them is a control plane member's or has the control plane's label. A Node with that label may
    /// be a member's with another name and address.
    pub(super) fn finds_no_control_plane_node(&self) -> bool {
        self.workload.nodes().is_some_and(|nodes| {
            let mut members = self.control_plane();
            !nodes.iter().any(|node| node.control_plane)
                && members.all(|member| self.nodes_of(&member.name).is_empty())
        })
    }

    /// The numbers of the control plane, without force-released machines. A control plane Node without a configuration counts as sick.
    #[must_use]
    pub fn numbers(&self, asks: bool, force_released: &BTreeSet<MachineName>) -> Numbers {
        let mut numbers = Numbers::default();
        for member in self.control_plane() {
            if force_released.contains(&member.name) {
                continue;
            }
            numbers.n += 1;
            match self.health(&member, asks) {
                Health::Healthy => numbers.healthy += 1,
                Health::Unknown => numbers.unknown += 1,
                Health::Sick => {}
            }
        }
        if asks {
            let off: Vec<&NodeView> = force_released
                .iter()
                .flat_map(|machine| self.nodes_of(machine))
                .collect();
            numbers.n += self
                .unmatched_nodes()
                .filter(|node| !off.contains(node))
                .count();
        }
        numbers
    }

    /// Control plane Nodes without a configuration.
    pub fn unmatched_nodes(&self) -> impl Iterator<Item = &NodeView> {
        let nodes = self
            .workload
            .nodes()
            .into_iter()
            .flat_map(|nodes| nodes.iter());
        let of_members = self
            .control_plane()
            .flat_map(|member| self.nodes_of(&member.name));
        // Of the Nodes of a machine that left, only the one that is deleted next counts.
        let left = self.entries().iter().map(|entry| &entry.machine);
        let left = left.filter(|machine| self.member(machine).is_none());
        let others = left.flat_map(|machine| self.nodes_of(machine).into_iter().skip(1));
        let of_members: BTreeSet<&str> = of_members
            .chain(others)
            .map(|node| node.name.as_str())
            .collect();
        nodes.filter(move |node| node.control_plane && !of_members.contains(node.name.as_str()))
    }

    /// Whether a Node of a machine has the control plane's label.
    #[must_use]
    pub fn has_control_plane_node(&self, machine: &MachineName) -> bool {
        let nodes = self.nodes_of(machine);
        nodes.iter().any(|node| node.control_plane)
    }

    /// The Node that determines a machine's health: the first of [`Self::nodes_of`].
    #[must_use]
    pub fn node(&self, machine: &MachineName) -> Option<&NodeView> {
        let named = self.workload.nodes()?.named(machine.as_str());
        if named.is_some_and(|node| node.ready) {
            return named;
        }
        self.nodes_of(machine).into_iter().next()
    }

    /// The Nodes of a machine by its name and its address, if Nodes could be listed. A machine that was renamed has two: the Ready one
    /// comes first, else the one with its name. An address does not count if another member has it too, or if the Node has another member's
    /// name.
    #[must_use]
    pub fn nodes_of(&self, machine: &MachineName) -> Vec<&NodeView> {
        let Some(nodes) = self.workload.nodes() else {
            return Vec::new();
        };
        let mut found: Vec<&NodeView> = nodes.named(machine.as_str()).into_iter().collect();
        let address = self.machine(machine).and_then(Machine::canonical_address);
        if let Some(address) = address
            && !self.shares_address(machine, &address)
        {
            found.extend(nodes.at(&address).filter(|node| {
                node.name != machine.as_str()
                    && MachineName::parse(&node.name)
                        .is_none_or(|named| self.member(&named).is_none())
            }));
        }
        found.sort_by_key(|node| !node.ready);
        found
    }
}
