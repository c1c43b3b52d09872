//! How each member is, and the numbers that come of it.

use std::collections::BTreeSet;

use crate::api::names::MachineName;
use crate::api::nio::Machine;
use crate::api::status::Role;

use super::observed::{Answer, Member, NodeView, Observed};
use super::quorum;

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It does not do its part.
    Sick,
    /// Nothing can be learned.
    Unknown,
    /// It does its part.
    Healthy,
}

/// The control plane in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Configurations that exist, and Nodes that belong to none of them.
    pub n: usize,
    /// Those that are healthy.
    pub healthy: usize,
    /// Those of which nothing can be learned.
    pub unknown: usize,
}

impl Numbers {
    /// Whether fewer than a quorum are known to be healthy. A control plane of one or two has no quorum to keep.
    #[must_use]
    pub fn below_quorum(&self) -> bool {
        quorum::can_be_kept(self.n) && self.healthy < quorum::quorum(self.n)
    }

    /// Whether fewer than a quorum can be healthy, even if all those were of which nothing can be learned: else the cluster may
    /// well be alive, and nothing is touched.
    #[must_use]
    pub fn quorum_is_lost(&self) -> bool {
        quorum::can_be_kept(self.n) && self.healthy + self.unknown < quorum::quorum(self.n)
    }
}

impl Observed {
    /// Whether the cluster's own word counts: where the spec says so and the cluster lives.
    #[must_use]
    pub fn asks(&self, founded: bool) -> bool {
        founded
            && self
                .spec
                .as_ref()
                .is_ok_and(|spec| spec.rollout.node_checks)
    }

    /// How a member is: the first that fits. `asks`: whether what the cluster's own API says counts.
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
                // An API server that is ready, and a Node that cannot be told: it may be well.
                None => Health::Unknown,
            },
            Some(Answer::Refuses) => Health::Unknown,
            // Others speak, and this one does not.
            Some(Answer::Unreachable) | None if self.workload.nodes().is_none() => Health::Unknown,
            Some(Answer::NotReady | Answer::Unreachable) | None => Health::Sick,
        }
    }

    /// How a member of a control plane without Nodes is. As Nodes were listed, others speak where it does not.
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

    /// Why nothing can be learned of a member by its API server alone, for a person.
    #[must_use]
    pub fn why_unknown(&self, machine: &MachineName) -> Option<&str> {
        let address = self.machine(machine).and_then(Machine::canonical_address);
        if address.is_some_and(|address| self.shares_address(machine, &address)) {
            return Some("another machine of the cluster has its address");
        }
        self.workload.untrusted(machine)
    }

    /// Whether the API server alone tells how a member is: that of a control plane without Nodes. Its `/readyz` reads from etcd through
    /// this member, and etcd answers only with a quorum. So this is safe also where somebody deleted the Nodes, or the kubelets are dead.
    #[must_use]
    pub fn is_judged_by_readyz(&self, member: &Member<'_>) -> bool {
        self.has_no_control_plane_node() && member.role() == Role::ControlPlane
    }

    /// Whether the control plane runs no kubelets (k0s controllers, k3s with `--disable-agent`), as far as the Nodes tell: one Node of it
    /// is enough to go by Nodes.
    #[must_use]
    pub fn has_no_control_plane_node(&self) -> bool {
        self.control_plane_has_no_nodes && self.workload.nodes().is_some()
    }

    /// Whether Nodes were listed, none is a control plane member's, and none bears the control plane's label: that may be a member's
    /// under another name and address.
    pub(super) fn finds_no_control_plane_node(&self) -> bool {
        self.workload.nodes().is_some_and(|nodes| {
            let mut members = self.control_plane();
            !nodes.iter().any(|node| node.control_plane)
                && members.all(|member| self.nodes_of(&member.name).is_empty())
        })
    }

    /// The control plane in numbers, without the machines that a person vouches to be off. A Node of the control plane that
    /// belongs to no configuration counts as sick.
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

    /// Nodes of the control plane that belong to none of its configurations.
    pub fn unmatched_nodes(&self) -> impl Iterator<Item = &NodeView> {
        let nodes = self
            .workload
            .nodes()
            .into_iter()
            .flat_map(|nodes| nodes.iter());
        let of_members = self
            .control_plane()
            .flat_map(|member| self.nodes_of(&member.name));
        // Of the Nodes of a machine that left, the one that goes next counts.
        let left = self.entries().iter().map(|entry| &entry.machine);
        let left = left.filter(|machine| self.member(machine).is_none());
        let others = left.flat_map(|machine| self.nodes_of(machine).into_iter().skip(1));
        let of_members: BTreeSet<&str> = of_members
            .chain(others)
            .map(|node| node.name.as_str())
            .collect();
        nodes.filter(move |node| node.control_plane && !of_members.contains(node.name.as_str()))
    }

    /// Whether a Node of a machine bears the label of the control plane.
    #[must_use]
    pub fn has_control_plane_node(&self, machine: &MachineName) -> bool {
        let nodes = self.nodes_of(machine);
        nodes.iter().any(|node| node.control_plane)
    }

    /// The Node of a machine by which it is judged: see [`Self::nodes_of`].
    #[must_use]
    pub fn node(&self, machine: &MachineName) -> Option<&NodeView> {
        let named = self.workload.nodes()?.named(machine.as_str());
        if named.is_some_and(|node| node.ready) {
            return named;
        }
        self.nodes_of(machine).into_iter().next()
    }

    /// The Nodes of a machine, as far as Nodes could be listed: by name, and by its address. A machine that was renamed has two: the
    /// first of these is the one that is Ready, else the one of its name. It is not told by an address that another member has, too,
    /// nor where the Node bears another member's name.
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
                let named = MachineName::parse(&node.name);
                named.is_none_or(|named| self.member(&named).is_none() && named != *machine)
            }));
        }
        found.sort_by_key(|node| !node.ready);
        found
    }
}
