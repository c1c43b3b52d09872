//! Kubernetes Events for changes of the status.

use crate::api::conditions::{Attention, ConditionType};
use crate::api::status::{ClusterCondition, ClusterStatus};
use crate::controller::events::{Events, Happening};
use crate::plan::observed::ClusterView;

/// Publishes what changed between the previous status and the new one.
pub(super) fn publish_changes(events: &Events, seen: &ClusterView, new: &ClusterStatus) {
    for happening in changes(&seen.status, new) {
        events.emit(seen, &happening);
    }
}

/// The events to publish at once. For what may pass by itself, see [`crate::controller::troubles`].
fn changes(old: &ClusterStatus, new: &ClusterStatus) -> Vec<Happening> {
    let mut events = Vec::new();
    let was_ready = old.holds(ConditionType::Ready);
    let stalled = stalled(new);
    if let Some(ready) = new.condition(ConditionType::Ready)
        && ready.is_true() != was_ready
    {
        let calls = Attention::of(&ready.reason) != Attention::No;
        let reported_otherwise =
            stalled.is_some() || (calls && !new.holds(ConditionType::RollingOut));
        if !was_ready {
            events.push(Happening::Ready(counts(new)));
        } else if !reported_otherwise {
            events.push(Happening::NotReady(
                ready.reason.clone(),
                ready.message.clone(),
            ));
        }
    }
    if let Some(now) = stalled
        && is_news(now, old)
    {
        events.push(Happening::Trouble(now.reason.clone(), now.message.clone()));
    }
    let control_plane =
        |status: &ClusterStatus| status.control_plane.as_ref().map_or(0, |role| role.total);
    let total = control_plane(new);
    if total > 0 && total % 2 == 0 && total != control_plane(old) {
        events.push(Happening::EvenControlPlane(total as usize));
    }
    events
}

/// Whether the stall was not reported yet, neither as a stall nor as trouble before.
fn is_news(stalled: &ClusterCondition, old: &ClusterStatus) -> bool {
    let before = old.condition(ConditionType::Ready);
    let was_trouble = before.is_some_and(|ready| {
        !ready.is_true()
            && ready.reason == stalled.reason
            && Attention::of(&ready.reason) == Attention::Yes
    });
    let stalled_before = self::stalled(old);
    stalled_before.is_none_or(|before| before.reason != stalled.reason) && !was_trouble
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

fn stalled(status: &ClusterStatus) -> Option<&ClusterCondition> {
    status
        .condition(ConditionType::Stalled)
        .filter(|condition| condition.is_true())
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

    #[test]
    fn what_stalls_is_told_once() {
        let ready = status(&[(ConditionType::Ready, "True", Reason::AsExpected)]);
        let stalls = |reason| {
            status(&[
                (ConditionType::Ready, "False", reason),
                (ConditionType::Stalled, "True", reason),
            ])
        };
        let reason = Reason::JoinTokenLost.to_string();
        let lost = [Happening::Trouble(reason.clone(), reason)];
        assert_eq!(changes(&ready, &stalls(Reason::JoinTokenLost)), lost);
        // Trouble that has become a stall was reported before.
        let trouble = status(&[(ConditionType::Ready, "False", Reason::MachineMissing)]);
        assert_eq!(changes(&trouble, &stalls(Reason::MachineMissing)), []);
        let new = ClusterStatus::default();
        assert_eq!(changes(&new, &stalls(Reason::GitRepoMissing)).len(), 1);
    }
}
