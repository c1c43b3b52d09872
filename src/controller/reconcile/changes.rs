//! Kubernetes Events for changes of the status.

use crate::api::conditions::{Attention, ConditionType};
use crate::api::status::ClusterStatus;
use crate::controller::events::{Events, Happening};
use crate::plan::observed::ClusterView;

/// Publishes what changed between the previous status and the new one.
pub(super) fn publish_changes(events: &Events, seen: &ClusterView, new: &ClusterStatus) {
    for happening in changes(&seen.status, new) {
        events.emit(seen, &happening);
    }
}

/// The events to publish at once. For what needs the user's attention, see [`crate::controller::troubles`].
fn changes(old: &ClusterStatus, new: &ClusterStatus) -> Vec<Happening> {
    let mut events = Vec::new();
    let was_ready = old.holds(ConditionType::Ready);
    if let Some(ready) = new.condition(ConditionType::Ready)
        && ready.is_true() != was_ready
    {
        let calls = Attention::of(&ready.reason) != Attention::No;
        let reported_otherwise =
            new.holds(ConditionType::Stalled) || (calls && !new.holds(ConditionType::RollingOut));
        if !was_ready {
            events.push(Happening::Ready(counts(new)));
        } else if !reported_otherwise {
            events.push(Happening::NotReady(
                ready.reason.clone(),
                ready.message.clone(),
            ));
        }
    }
    let control_plane =
        |status: &ClusterStatus| status.control_plane.as_ref().map_or(0, |role| role.total);
    let total = control_plane(new);
    if total > 0 && total % 2 == 0 && total != control_plane(old) {
        events.push(Happening::EvenControlPlane(total as usize));
    }
    events
}

/// How many machines of each role are up to date.
fn counts(status: &ClusterStatus) -> String {
    let roles = [
        ("control plane", &status.control_plane),
        ("workers", &status.data_plane),
    ];
    let counts = roles.into_iter().filter_map(|(name, role)| {
        let role = role.as_ref().filter(|role| role.total > 0)?;
        Some(format!("{name} {}", role.summary))
    });
    counts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::Reason;
    use crate::controller::troubles::tests::status;

    #[test]
    fn normal_operation_raises_no_warning() {
        let ready = status(&[(ConditionType::Ready, "True", Reason::AsExpected)]);
        for reason in [
            Reason::Progressing,
            Reason::WaitingForMachines,
            Reason::OutOfDate,
            Reason::NodeNotReady,
            Reason::QuorumAtRisk,
        ] {
            let rolling = status(&[
                (ConditionType::Ready, "False", reason),
                (ConditionType::RollingOut, "True", reason),
            ]);
            let reason = reason.to_string();
            let events = changes(&ready, &rolling);
            assert_eq!(events, [Happening::NotReady(reason.clone(), reason)]);
        }
    }
}
