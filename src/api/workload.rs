//! What a workload cluster's own API says that NICO asks for: its Nodes, and whether each member's API server is ready.

use std::collections::BTreeMap;
use std::ops::Deref;

use jiff::Timestamp;

use super::names::MachineName;

/// The answers of the members' API servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// All Nodes, through the first member that lists them; `None`: none did.
    pub nodes: Option<Nodes>,
    /// `/readyz` of each control plane member, at its own address.
    pub answers: BTreeMap<MachineName, Answer>,
    /// Minor version of the oldest API server that told it.
    pub api_minor: Option<u32>,
}

/// What a member's API server answers to `/readyz`, etcd included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is ready.
    Ready,
    /// It answers, and is not ready.
    NotReady,
    /// It answers, and does not tell: the kubeconfig is refused, or something else speaks there.
    Refuses,
    /// It does not answer.
    Unreachable,
}

/// Nodes, found by name and by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    all: Vec<NodeView>,
    by_name: BTreeMap<String, usize>,
    by_address: BTreeMap<String, usize>,
}

impl Nodes {
    /// The first Node of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&NodeView> {
        self.by_name
            .get(name)
            .and_then(|index| self.all.get(*index))
    }

    /// The first Node with that address.
    #[must_use]
    pub fn at(&self, address: &str) -> Option<&NodeView> {
        let index = self.by_address.get(address)?;
        self.all.get(*index)
    }
}

impl From<Vec<NodeView>> for Nodes {
    fn from(all: Vec<NodeView>) -> Self {
        let (mut by_name, mut by_address) = (BTreeMap::new(), BTreeMap::new());
        for (index, node) in all.iter().enumerate() {
            by_name.entry(node.name.clone()).or_insert(index);
            for address in &node.addresses {
                by_address.entry(address.clone()).or_insert(index);
            }
        }
        Self {
            all,
            by_name,
            by_address,
        }
    }
}

impl Deref for Nodes {
    type Target = [NodeView];

    fn deref(&self) -> &[NodeView] {
        &self.all
    }
}

/// A Node.
// Each is a fact of its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Addresses of type `InternalIP`.
    pub addresses: Vec<String>,
    /// Whether its condition `Ready` is True.
    pub ready: bool,
    /// Whether it is labelled as one of the control plane.
    pub control_plane: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Minor version of its kubelet.
    pub kubelet_minor: Option<u32>,
    /// Whether no new pods are put on it.
    pub unschedulable: bool,
    /// Whether NICO made it so.
    pub cordoned: bool,
    /// Since when NICO drains it.
    pub draining_since: Option<Timestamp>,
    /// How many pods are still to be evicted, where NICO drains it and they could be listed.
    pub pods_left: Option<usize>,
}
