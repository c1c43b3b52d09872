//! What to do with an object that has a child's name and has to go, based on a read just before.

use super::facts::ObjectFacts;

/// What may be done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Nothing: it does not belong to NICO, like an adopted Secret.
    Untouched,
    /// NICO's finalizer is removed. The object is being deleted already, or was orphaned when its cluster was deleted with
    /// `--cascade=orphan`.
    Freed,
    /// NICO's finalizer is removed, then the object is deleted.
    Deleted,
}

/// What may be done to an object with the name of a child of the cluster with this uid.
#[must_use]
pub fn parting(object: &ObjectFacts, uid: &str, cluster_lives: bool) -> Parting {
    let ours = object.is_controlled_by(uid);
    // Left over from a former cluster with this name: only NICO's finalizer keeps it.
    let left_over = object.deleting && cluster_lives;
    let orphaned = !cluster_lives && object.controller.is_none();
    match ours {
        true if !object.deleting => Parting::Deleted,
        true => Parting::Freed,
        false if object.in_use && (left_over || orphaned) => Parting::Freed,
        false => Parting::Untouched,
    }
}
