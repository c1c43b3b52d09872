//! Kubernetes Events for changes of the status that people wait for.

use crate::api::conditions::ConditionType;
use crate::api::status::{ClusterCondition, ClusterStatus};
use crate::controller::events::{Events, Happening};
use crate::plan::observed::ClusterView;

/// Publishes what changed between the status that was seen and the new one.
pub(super) fn publish_changes(events: &Events, seen: &ClusterView, new: &ClusterStatus) {
    let old = &seen.status;
    let tell = |happening: &Happening| events.tell(seen, happening);
    let was_ready = old.holds(ConditionType::Ready);
    if let Some(ready) = new.condition(ConditionType::Ready)
        && ready.is_true() != was_ready
    {
        tell(&if was_ready {
            Happening::NotReady(ready.reason.clone(), ready.message.clone())
        } else {
            Happening::Ready
        });
    }
    if let Some(now) = stalled(new)
        && stalled(old).is_none_or(|before| before.reason != now.reason)
    {
        tell(&Happening::Stalled(now.reason.clone(), now.message.clone()));
    }
    let control_plane =
        |status: &ClusterStatus| status.control_plane.as_ref().map_or(0, |role| role.total);
    let total = control_plane(new);
    if total > 0 && total % 2 == 0 && total != control_plane(old) {
        tell(&Happening::EvenControlPlane(total as usize));
    }
}

fn stalled(status: &ClusterStatus) -> Option<&ClusterCondition> {
    status
        .condition(ConditionType::Stalled)
        .filter(|it| it.is_true())
}
