//! The generated file cluster.nix in configurations: JSON in Nix. It is compared by its values and not by its text.

use serde::{Deserialize, Deserializer, Serialize};

use super::digest::FieldDigest;
use super::names::{ClusterId, is_dns_label};
use super::spec::Endpoint;

/// Path of the generated file.
pub const CLUSTER_NIX: &str = "cluster.nix";

/// The text between the comment and the JSON.
pub const OPENING: &str = "builtins.fromJSON ''\n";
/// The text after the JSON.
pub const CLOSING: &str = "''\n";

/// What NICO writes as `\u....` and nowhere else: with these, JSON could end the Nix string around it, or have Nix evaluate something.
pub const ESCAPED: [(char, &str); 2] = [('\'', "\\u0027"), ('$', "\\u0024")];

/// A machine as cluster.nix lists it; ordered by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NixNode {
    /// The machine's name, which is its host name too.
    pub name: String,
    /// The machine's address: an IP address, or a name where NIO knows it by that.
    pub ip: String,
}

/// The values of a cluster.nix, with lists in the order of the text. Each attribute is required.
///
/// An attribute that this version does not know is ignored, here and in every object and list within: a later version may add attributes,
/// and a cluster that it wrote stays up to date after a rollback. So a new attribute must follow these rules: no existing attribute changes
/// its name or form; a file without the new one counts as equal; and it becomes part of the revision only if it has another value than the
/// one that its absence means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Values {
    /// Name of the cluster.
    pub name: String,
    /// Id of the founding.
    pub id: ClusterId,
    /// The machine that founds the cluster.
    #[serde(deserialize_with = "or_null")]
    pub bootstrap: Option<String>,
    /// The machine to join through.
    #[serde(deserialize_with = "or_null")]
    pub join: Option<NixNode>,
    /// The address in front of the control plane.
    #[serde(deserialize_with = "or_null")]
    pub endpoint: Option<Endpoint>,
    /// The control plane.
    pub control_plane: Vec<NixNode>,
    /// The workers.
    pub workers: Vec<NixNode>,
    /// The digests of both lists, where these are not kept whole.
    #[serde(skip)]
    pub digests: Option<ListDigests>,
}

/// The digests of the control plane and of the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListDigests {
    /// That of the control plane.
    pub control_plane: String,
    /// That of the workers.
    pub workers: String,
}

impl ListDigests {
    /// Digests both lists.
    #[must_use]
    pub fn of(control_plane: &[NixNode], workers: &[NixNode]) -> Self {
        let digest = |nodes: &[NixNode]| {
            let mut digest = FieldDigest::default();
            for NixNode { name, ip } in nodes {
                digest.add("name", name);
                digest.add("ip", ip);
            }
            digest.finish()
        };
        Self {
            control_plane: digest(control_plane),
            workers: digest(workers),
        }
    }
}

/// Most bytes of a value that is kept where the lists are not. No name and no address is as long.
const LONGEST_VALUE: usize = 512;
/// Most control plane machines of a founder that are kept: those of the largest cluster, and as many that they replace.
const MOST_FOUNDING: usize = 2 * 99;

impl Values {
    /// The values without the lists, but for the row of one machine, and if that machine founds the cluster the names of the control plane.
    /// `None` if NICO cannot have written them.
    #[must_use]
    pub fn shortened(&self, machine: &str) -> Option<Self> {
        let own = |nodes: &[NixNode]| nodes.iter().find(|node| node.name == machine).cloned();
        let founds = self.bootstrap.as_deref() == Some(machine);
        let mut control_plane = Vec::from_iter(own(&self.control_plane));
        if founds {
            let named = |node: &NixNode| is_dns_label(&node.name);
            if self.control_plane.len() > MOST_FOUNDING || !self.control_plane.iter().all(named) {
                return None;
            }
            let others = self
                .control_plane
                .iter()
                .filter(|node| node.name != machine);
            control_plane.extend(others.map(|NixNode { name, .. }| NixNode {
                name: name.clone(),
                ip: String::new(),
            }));
            control_plane.sort_unstable();
        }
        let shortened = Self {
            name: self.name.clone(),
            id: self.id.clone(),
            bootstrap: self.bootstrap.clone(),
            join: self.join.clone(),
            endpoint: self.endpoint.clone(),
            control_plane,
            workers: Vec::from_iter(own(&self.workers)),
            digests: Some(ListDigests::of(&self.control_plane, &self.workers)),
        };
        shortened.is_of_short_texts().then_some(shortened)
    }

    fn is_of_short_texts(&self) -> bool {
        let is_short = |text: &String| text.len() <= LONGEST_VALUE;
        let mut nodes = self
            .control_plane
            .iter()
            .chain(&self.workers)
            .chain(&self.join);
        nodes.all(|node| is_short(&node.name) && is_short(&node.ip))
            && self.bootstrap.iter().chain([&self.name]).all(is_short)
            && self.endpoint.iter().all(|it| is_short(&it.host))
    }
}

/// The values of a cluster.nix; `None` if NICO cannot have written it. The layout of the JSON does not matter.
#[must_use]
pub fn parse(text: &str) -> Option<Values> {
    let (comment, rest) = text.split_once('\n')?;
    let json = rest.strip_prefix(OPENING)?.strip_suffix(CLOSING)?;
    let comment_ends_early = comment.contains(['\r', '\0']);
    let nix = ESCAPED
        .iter()
        .any(|(character, _)| json.contains(*character));
    if !comment.starts_with('#') || comment_ends_early || nix {
        return None;
    }
    serde_json::from_str(json).ok()
}

/// An attribute that may be null; without this, a missing one would count as null.
fn or_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(value)
}
