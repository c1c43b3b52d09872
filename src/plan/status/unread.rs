//! The status of a cluster that cannot be evaluated.

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason};
use crate::api::status::{ClusterCondition, ClusterStatus};
use crate::api::text::shown;
use crate::plan::observed::ClusterView;

/// The status that says why a cluster cannot be evaluated. Everything else in it is unchanged.
#[must_use]
pub fn unread(cluster: &ClusterView, why: &str, now: Timestamp) -> ClusterStatus {
    let mut status = cluster.status.clone();
    let mut say = |kind: ConditionType, holds: &str| {
        let kind = kind.to_string();
        let mut said = ClusterCondition {
            kind: kind.clone(),
            status: holds.to_owned(),
            observed_generation: Some(cluster.generation),
            last_transition_time: Some(now),
            reason: Reason::ApiRefused.to_string(),
            message: shown(why),
        };
        let mut conditions = status.conditions.iter_mut();
        match conditions.find(|condition| condition.kind == kind) {
            Some(condition) => {
                if condition.status == said.status {
                    said.last_transition_time = condition.last_transition_time;
                }
                *condition = said;
            }
            None => status.conditions.push(said),
        }
    };
    say(ConditionType::Reconciling, "True");
    // A generation that was not evaluated may not be Ready, even if the one before was.
    if cluster.status.observed_generation != Some(cluster.generation) {
        say(ConditionType::Ready, "False");
    }
    status
}
