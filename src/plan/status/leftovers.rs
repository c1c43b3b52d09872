//! What the user set and what has no effect now, or will have one again: said beside a condition that is true.

use crate::api::names::{ACCEPT_QUORUM_LOSS_ANNOTATION, FORCE_RELEASE_ANNOTATION};
use crate::plan::observed::Observed;

/// Annotations that the user set for one change, and that are left over after it.
pub(super) fn left_declarations(observed: &Observed) -> impl Iterator<Item = String> {
    let cluster = &observed.cluster;
    let declared = [
        (FORCE_RELEASE_ANNOTATION, !cluster.force_release.is_empty()),
        (
            ACCEPT_QUORUM_LOSS_ANNOTATION,
            cluster.accept_quorum_loss.is_some(),
        ),
    ];
    let left = declared.into_iter().filter(|(_, is_set)| *is_set);
    left.map(|(name, _)| {
        format!("remove the annotation {name}, which counts again when such a machine leaves")
    })
}

/// Fields of the spec that have no effect, because machines are listed too.
pub(super) fn ignored_fields(observed: &Observed) -> impl Iterator<Item = String> {
    let fields = observed.spec.iter().flat_map(|spec| &spec.ignored);
    fields.map(|field| format!("{field} has no effect beside machines: remove one of them"))
}
