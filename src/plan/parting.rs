//! What becomes of an object that bears a child's name and is to go, judged by what was read just before.

use super::facts::ObjectFacts;
use super::observed::ClusterView;

/// What may be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Nothing: it is somebody else's, as a Secret that was adopted is.
    Untouched,
    /// NICO's finalizer goes. It is being deleted already, or nobody's since its cluster was deleted with `--cascade=orphan`.
    Freed,
    /// NICO's finalizer goes, and then the object.
    Deleted,
}

/// What may be done to an object for the sake of a cluster.
#[must_use]
pub fn parting(object: &ObjectFacts, cluster: &ClusterView) -> Parting {
    let ours = object.is_controlled_by(&cluster.uid);
    // Left by a former cluster of this name: only NICO's finalizer still holds it.
    let left_over = object.deleting && !cluster.deleting;
    let orphaned = cluster.deleting && object.controller.is_none();
    match ours {
        true if !object.deleting => Parting::Deleted,
        true => Parting::Freed,
        false if object.held && (left_over || orphaned) => Parting::Freed,
        false => Parting::Untouched,
    }
}
