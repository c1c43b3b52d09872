//! What a pass tells people besides its plan: Kubernetes Events for changes of what they wait for, and in the status what kept
//! NICO from looking at all.

use std::sync::Arc;

use kube::{Api, ResourceExt as _};
use serde_json::json;
use tracing::debug;

use super::{PATIENCE, STALE_PATIENCE};
use crate::api::cluster::RawCluster;
use crate::api::conditions::{ConditionType, Reason};
use crate::api::status::{ClusterCondition, ClusterStatus};
use crate::controller::calls::{self, CallError};
use crate::controller::clock::now;
use crate::controller::context::Context;
use crate::controller::events::Happening;
use crate::controller::observe::view;
use crate::plan::observed::Observed;
use crate::plan::writes::Precondition;

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
    let tell = |happening: &Happening| context.events.tell(&observed.cluster, happening);
    let was_ready = old.holds(ConditionType::Ready);
    if let Some(ready) = new.condition(ConditionType::Ready)
        && ready.is_true() != was_ready
    {
        let (reason, message) = (ready.reason.clone(), ready.message.clone());
        tell(&if was_ready {
            Happening::NotReady(reason, message)
        } else {
            Happening::Ready
        });
    }
    let stalled = |status: &ClusterStatus| {
        let stalled = status.condition(ConditionType::Stalled)?;
        stalled
            .is_true()
            .then(|| (stalled.reason.clone(), stalled.message.clone()))
    };
    if let Some((reason, message)) = stalled(new)
        && stalled(old).is_none_or(|(before, _)| before != reason)
    {
        tell(&Happening::Stalled(reason, message));
    }
    let control_plane =
        |status: &ClusterStatus| status.control_plane.as_ref().map_or(0, |role| role.total);
    let total = control_plane(new);
    if total > 0 && total % 2 == 0 && total != control_plane(old) {
        tell(&Happening::EvenControlPlane(total as usize));
    }
}

/// Where what a pass needs cannot be read again and again, the status says so; all else in it stays.
pub(super) async fn tell_unread(cluster: &Arc<RawCluster>, context: &Context, error: &CallError) {
    let failures = context.memory(cluster, |memory| memory.failures);
    let patience = if error.is_stale() {
        STALE_PATIENCE
    } else {
        PATIENCE
    };
    if failures >= patience {
        tell(cluster, context, &error.to_string()).await;
    }
}

/// Says in the status what hinders NICO from looking.
pub(super) async fn tell(cluster: &Arc<RawCluster>, context: &Context, why: &str) {
    let newest = context.newest(cluster);
    let mut status = newest.status.clone().unwrap_or_default();
    let generation = newest.metadata.generation;
    let mut say = |kind: ConditionType, holds: &str| {
        let name = kind.to_string();
        let mut told = ClusterCondition {
            kind: name.clone(),
            status: holds.to_owned(),
            observed_generation: generation,
            last_transition_time: Some(now()),
            reason: Reason::ApiRefused.to_string(),
            message: why.to_owned(),
        };
        let mut conditions = status.conditions.iter_mut();
        match conditions.find(|condition| condition.kind == name) {
            Some(condition) => {
                if condition.status == told.status {
                    told.last_transition_time = condition.last_transition_time;
                }
                *condition = told;
            }
            None => status.conditions.push(told),
        }
    };
    say(ConditionType::Reconciling, "True");
    // Of a cluster that nobody could look at yet, nothing else is known; and what was Ready before a new generation is not known to be.
    if status_is_old(&newest) {
        say(ConditionType::Ready, "False");
    }
    if newest.status.as_ref() == Some(&status) {
        return;
    }
    let body = json!({ "status": { "conditions": status.conditions } });
    let api: Api<RawCluster> = Api::namespaced(
        context.client.clone(),
        &newest.namespace().unwrap_or_default(),
    );
    let version = Precondition::of(&newest.metadata);
    match calls::patch_status(&api, &newest.name_any(), &version, body).await {
        Ok(written) => context.saw(written),
        Err(error) => debug!(cluster = %newest.name_any(), %error, "the failure could not be told"),
    }
}

/// Whether the status speaks of no generation, or of an older one.
fn status_is_old(cluster: &RawCluster) -> bool {
    let observed = cluster
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    observed.is_none() || observed != cluster.metadata.generation
}
