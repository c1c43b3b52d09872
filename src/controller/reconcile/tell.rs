//! What a pass tells people by Kubernetes Events: changes of what they wait for, and what no status can hold.

use crate::api::cluster::RawCluster;
use crate::api::conditions::{ConditionType, Reason};
use crate::api::status::ClusterStatus;
use crate::controller::calls::CallError;
use crate::controller::context::Context;
use crate::controller::events::Happening;
use crate::controller::observe::view;
use crate::plan::observed::Observed;

/// An object of an older definition can be so malformed that the API server takes no status for it: an event is all that is left.
pub(super) fn tell_unwritable(cluster: &RawCluster, context: &Context, error: &CallError) {
    let first = context.memory(cluster, |memory| memory.failures == 0);
    if first
        && matches!(error, CallError::Refused { code: 422, .. })
        && let Err(problems) = context.spec(cluster)
    {
        let stalled = Happening::Stalled(Reason::InvalidSpec.to_string(), problems.join("; "));
        context.events.tell(&view(cluster), &stalled);
    }
}

/// Events for what people wait for.
pub(super) fn tell_changes(
    context: &Context,
    observed: &Observed,
    old: &ClusterStatus,
    new: &ClusterStatus,
) {
    let find = |status: &ClusterStatus, kind: ConditionType| {
        let name = kind.to_string();
        status
            .conditions
            .iter()
            .find(|condition| condition.kind == name)
            .cloned()
    };
    let holds = |status: &ClusterStatus, kind| {
        find(status, kind).is_some_and(|condition| condition.status == "True")
    };
    let tell = |happening: &Happening| context.events.tell(&observed.cluster, happening);
    match (
        holds(old, ConditionType::Ready),
        find(new, ConditionType::Ready),
    ) {
        (false, Some(ready)) if ready.status == "True" => tell(&Happening::Ready),
        (true, Some(ready)) if ready.status != "True" => {
            tell(&Happening::NotReady(ready.reason, ready.message));
        }
        _ => {}
    }
    if let Some(stalled) =
        find(new, ConditionType::Stalled).filter(|stalled| stalled.status == "True")
        && find(old, ConditionType::Stalled)
            .is_none_or(|old| old.reason != stalled.reason || old.status != "True")
    {
        tell(&Happening::Stalled(stalled.reason, stalled.message));
    }
    let control_plane =
        |status: &ClusterStatus| status.control_plane.as_ref().map_or(0, |role| role.total);
    let total = control_plane(new);
    if total > 0 && total % 2 == 0 && total != control_plane(old) {
        tell(&Happening::EvenControlPlane(total as usize));
    }
}
