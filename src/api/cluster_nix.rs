//! The generated file cluster.nix in configurations: JSON in Nix. It is compared by its values and not by its text.

use serde::{Deserialize, Deserializer, Serialize};

use super::names::ClusterId;
use super::spec::Endpoint;

/// Path of the generated file.
pub const CLUSTER_NIX: &str = "cluster.nix";

/// The text between the comment and the JSON.
pub const OPENING: &str = "builtins.fromJSON ''\n";
/// The text after the JSON.
pub const CLOSING: &str = "''\n";

/// What NICO writes as `\u....` and nowhere else: with these, JSON could end the Nix string around it, or have Nix evaluate something.
pub const ESCAPED: [(char, &str); 2] = [('\'', "\\u0027"), ('$', "\\u0024")];

/// Most machines that NICO lists: those of the largest cluster, and as many that they replace.
const MOST_LISTED: usize = 2 * (99 + 1000);

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
    let values: Values = serde_json::from_str(json).ok()?;
    let listed = values.control_plane.len() + values.workers.len();
    (listed <= MOST_LISTED).then_some(values)
}

/// An attribute that may be null; without this, a missing one would count as null.
fn or_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(value)
}
