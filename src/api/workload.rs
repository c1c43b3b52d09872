//! What NICO reads from a workload cluster's own API: its Nodes, and whether each member's API server is ready.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Deref;

use jiff::Timestamp;

use super::host::canonical;
use super::names::MachineName;

/// The answers of the members' API servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The Nodes, as the first member that answered lists them; `None` if no member did, or if they were listed for other machines.
    pub nodes: Option<Nodes>,
    /// `/readyz` of each control plane member, at its own address.
    pub answers: BTreeMap<MachineName, Answer>,
    /// Members whose TLS certificate NICO cannot trust, with a human-readable message.
    pub untrusted: BTreeMap<MachineName, String>,
    /// The lowest minor version that an API server reported.
    pub api_minor: Option<u32>,
}

/// What a member's API server answers to `/readyz`, etcd included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is ready.
    Ready,
    /// It answers, and is not ready.
    NotReady,
    /// It answers something else: it refuses the kubeconfig, or another program listens there.
    Refuses,
    /// It does not answer.
    Unreachable,
}

/// Nodes, found by name and by address. Addresses are compared as values: see [`canonical`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    all: Vec<NodeView>,
    by_name: BTreeMap<String, usize>,
    by_address: BTreeMap<String, Vec<usize>>,
    /// Hashes of the names and addresses of Nodes that are not kept, in order.
    others: Vec<u64>,
}

impl Nodes {
    /// Whether a Node that is not kept has that name or address: these Nodes were listed for other machines.
    #[must_use]
    pub fn hide(&self, name: &str, address: Option<&str>) -> bool {
        if self.others.is_empty() {
            return false;
        }
        let is_hidden = |hash: u64| self.others.binary_search(&hash).is_ok();
        is_hidden(hash_of_name(name))
            || address.is_some_and(|it| is_hidden(hash_of_address(&canonical(it))))
    }

    /// The first Node of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&NodeView> {
        self.by_name
            .get(name)
            .and_then(|index| self.all.get(*index))
    }

    /// The Nodes with that address.
    pub fn at(&self, address: &str) -> impl Iterator<Item = &NodeView> {
        let indices = self.by_address.get(&canonical(address));
        let indices = indices.into_iter().flatten();
        indices.filter_map(|index| self.all.get(*index))
    }
}

impl From<Vec<NodeView>> for Nodes {
    fn from(all: Vec<NodeView>) -> Self {
        let mut by_name = BTreeMap::new();
        let mut by_address: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, node) in all.iter().enumerate() {
            by_name.entry(node.name.clone()).or_insert(index);
            for address in &node.addresses {
                let at = by_address.entry(canonical(address)).or_default();
                // One Node may have the same address twice.
                if at.last() != Some(&index) {
                    at.push(index);
                }
            }
        }
        Self {
            all,
            by_name,
            by_address,
            others: Vec::new(),
        }
    }
}

/// The machines for which Nodes are listed, by name and by address.
#[derive(Clone, Debug, Default)]
pub struct NodesOf {
    /// Their names.
    pub names: BTreeSet<String>,
    /// Their addresses, as [`canonical`] spells them.
    pub addresses: BTreeSet<String>,
}

/// Most Nodes that are kept though no machine has their name or address: those of the control plane, and those with NICO's annotations.
const MOST_STRANGERS: usize = 256;

/// Most Nodes that are kept because a finalizer blocks their deletion: a few examples are enough for a message.
const MOST_HELD: usize = 8;

/// Collects the Nodes of a list: a cluster may send 5,000, with 16 addresses each. Only those that the planner needs are kept.
#[derive(Debug)]
pub struct NodeList<'a> {
    of: &'a NodesOf,
    /// What is kept.
    pub kept: Vec<NodeView>,
    others: Vec<u64>,
    held: usize,
}

impl<'a> NodeList<'a> {
    /// An empty list for these machines.
    #[must_use]
    pub fn new(of: &'a NodesOf) -> Self {
        Self {
            of,
            kept: Vec::new(),
            others: Vec::new(),
            held: 0,
        }
    }

    /// Adds a Node; `None` if the limits are exceeded.
    pub fn add(&mut self, mut node: NodeView) -> Option<()> {
        let addresses = std::mem::take(&mut node.addresses).into_iter();
        let (of_machines, others): (Vec<String>, Vec<String>) = addresses
            .map(|address| canonical(&address))
            .partition(|address| self.of.addresses.contains(address));
        self.others
            .extend(others.iter().map(|address| hash_of_address(address)));
        node.addresses = of_machines;
        let is_of_machine = self.of.names.contains(&node.name) || !node.addresses.is_empty();
        let is_held = !node.finalizers.is_empty() && self.held < MOST_HELD;
        self.held += usize::from(is_held);
        if is_of_machine || is_held || node.control_plane || node.draining_since.is_some() {
            self.kept.push(node);
        } else {
            self.others.push(hash_of_name(&node.name));
        }
        let of_machines = self.of.names.len() + self.of.addresses.len();
        (self.kept.len() <= of_machines + MOST_STRANGERS).then_some(())
    }
}

impl From<NodeList<'_>> for Nodes {
    fn from(list: NodeList<'_>) -> Self {
        let mut others = list.others;
        others.sort_unstable();
        others.dedup();
        others.shrink_to_fit();
        Self {
            others,
            ..Self::from(list.kept)
        }
    }
}

fn hash_of_name(name: &str) -> u64 {
    hash("name", name)
}

fn hash_of_address(address: &str) -> u64 {
    hash("address", address)
}

/// The same in every process. Two names with the same hash only cause another request.
fn hash(what: &str, text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (what, text).hash(&mut hasher);
    hasher.finish()
}

impl Deref for Nodes {
    type Target = [NodeView];

    fn deref(&self) -> &[NodeView] {
        &self.all
    }
}

/// A Node.
// Each is independent of the others.
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
    /// Since when, where it is.
    pub deleting_since: Option<Timestamp>,
    /// The finalizers that block its deletion.
    pub finalizers: Vec<String>,
    /// Minor version of its kubelet.
    pub kubelet_minor: Option<u32>,
    /// Whether no new pods are put on it.
    pub unschedulable: bool,
    /// Whether NICO made it so.
    pub cordoned: bool,
    /// Since when NICO drains it.
    pub draining_since: Option<Timestamp>,
    /// How many pods are still to be evicted, where NICO drains it and they, and its volumes, could be listed.
    pub pods_left: Option<usize>,
    /// Volumes that are still attached to it, once its pods are gone, without those of pods that stay.
    pub volumes: Vec<String>,
    /// The first pods whose eviction is refused, and the first that terminate.
    pub stuck: Vec<StuckPod>,
}

/// A pod that may not go by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What holds it.
    pub why: Stuck,
}

/// What holds a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// `PodDisruptionBudgets`: one that allows no disruption, or several, which the eviction API always refuses.
    Budgets(Vec<String>),
    /// The API server refuses its eviction.
    Refused(String),
    /// It terminates.
    Terminates {
        /// When it was to be gone.
        since: Timestamp,
        /// The first of its finalizers.
        finalizers: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: usize) -> NodeView {
        NodeView {
            name: format!("n-{n}"),
            addresses: (0..16)
                .map(|a| format!("10.{a}.{}.{}", n / 256, n % 256))
                .collect(),
            ..NodeView::default()
        }
    }

    fn of(names: &[&str], addresses: &[&str]) -> NodesOf {
        let set = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect();
        NodesOf {
            names: set(names),
            addresses: set(addresses),
        }
    }

    #[test]
    fn of_many_nodes_those_of_the_machines_are_kept() {
        let of = of(&["n-7"], &["10.3.0.9"]);
        let mut list = NodeList::new(&of);
        for n in 0..5000 {
            let mut node = node(n);
            node.control_plane = n == 20;
            node.draining_since = (n == 21).then_some(Timestamp::UNIX_EPOCH);
            assert!(list.add(node).is_some());
        }
        let nodes = Nodes::from(list);
        let kept: Vec<&str> = nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(kept, ["n-7", "n-9", "n-20", "n-21"]);
        let at: Vec<&str> = nodes.at("10.3.0.9").map(|node| &*node.name).collect();
        assert_eq!(at, ["n-9"]);
        assert!(nodes.named("n-7").is_some());
        // A hash for each of what is not kept, and no text.
        assert_eq!(nodes.others.len(), 5000 * 17 - 5);
        assert!(nodes.iter().all(|node| node.addresses.len() <= 1));
    }

    #[test]
    fn some_nodes_that_a_finalizer_holds_are_kept() {
        let of = of(&["n-7"], &[]);
        let mut list = NodeList::new(&of);
        for n in 0..500 {
            let finalizers = vec!["example.com/held".to_owned()];
            let node = NodeView {
                finalizers,
                ..node(n)
            };
            assert!(list.add(node).is_some());
        }
        assert_eq!(list.kept.len(), MOST_HELD);
        assert_eq!(list.kept.last().map(|node| &*node.name), Some("n-7"));
    }

    #[test]
    fn an_address_is_found_however_it_is_spelled() {
        let spelled = |address: &str| NodeView {
            name: address.replace([':', '.'], "-"),
            addresses: vec![address.to_owned()],
            ..NodeView::default()
        };
        let spellings = ["FD00:0:0::11", "fd00::11", "::ffff:10.0.0.9", "10.0.0.9"];
        let nodes = Nodes::from(spellings.map(spelled).to_vec());
        for address in spellings {
            assert_eq!(nodes.at(address).count(), 2, "{address}");
        }
        let of = of(&[], &["fd00::11", "10.0.0.9"]);
        let mut list = NodeList::new(&of);
        for address in spellings {
            assert!(list.add(spelled(address)).is_some());
        }
        assert!(list.add(spelled("FD00::12")).is_some());
        let nodes = Nodes::from(list);
        assert_eq!(nodes.len(), 4);
        assert!(nodes.hide("m", Some("fd00:0::12")));
    }

    #[test]
    fn a_machine_that_came_later_is_not_told_to_have_no_node() {
        let of = of(&["n-7"], &[]);
        let mut list = NodeList::new(&of);
        for n in 0..10 {
            assert!(list.add(node(n)).is_some());
        }
        let nodes = Nodes::from(list);
        assert!(!nodes.hide("n-7", None));
        assert!(nodes.hide("n-8", None));
        assert!(nodes.hide("m", Some("10.3.0.8")));
        assert!(!nodes.hide("m", Some("10.3.0.99")));
        // An address of a Node that is kept by its name.
        assert!(nodes.hide("m", Some("10.3.0.7")));
        assert!(!Nodes::from(vec![node(1)]).hide("n-2", Some("10.3.0.2")));
    }

    #[test]
    fn a_list_of_too_many_strangers_is_not_read() {
        let of = of(&["n-7"], &[]);
        let mut list = NodeList::new(&of);
        let mut taken = 0;
        for n in 0..5000 {
            let control_plane = true;
            let node = NodeView {
                control_plane,
                ..node(n)
            };
            taken += usize::from(list.add(node).is_some());
        }
        assert_eq!(taken, MOST_STRANGERS + 1);
    }
}
