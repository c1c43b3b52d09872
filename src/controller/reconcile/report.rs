//! The status is written where something in it changed, on top of what the pass itself wrote.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Api;
use serde_json::{Value, json};

use super::tell::tell_changes;
use crate::api::cluster::RawCluster;
use crate::api::status::ClusterStatus;
use crate::controller::calls::{self, CallError};
use crate::controller::context::Context;
use crate::plan::action::Plan;
use crate::plan::observed::Observed;
use crate::plan::status::{Refusal, is_significant, status};

/// Changes of status that nobody waits for are gathered for so long.
const GATHER: Duration = Duration::from_secs(5);

/// Writes the status where it changed; returns how long a change that nobody waits for is still gathered.
pub(super) async fn keep_status(
    context: &Context,
    cluster: &Arc<RawCluster>,
    observed: &Observed,
    plan: &Plan,
    refusal: Option<&Refusal>,
    now: jiff::Timestamp,
) -> Result<Option<Duration>, CallError> {
    // An action may just have written the object: the status goes on top of that.
    let newest = context.newest(cluster);
    let mut observed = observed.clone();
    observed.cluster.resource_version =
        newest.metadata.resource_version.clone().unwrap_or_default();
    observed.cluster.status = newest.status.clone().unwrap_or_default();
    let wanted = status(&observed, plan, refusal, now);
    let held = &observed.cluster.status;
    if wanted == *held {
        return Ok(None);
    }
    if !is_significant(held, &wanted)
        && let Some(written) = context.memory(cluster, |memory| memory.status_written)
        && let Some(rest) = GATHER.checked_sub(written.elapsed())
    {
        return Ok(Some(rest));
    }
    write_status(context, cluster, &observed, &wanted).await?;
    Ok(None)
}

pub(super) async fn write_status(
    context: &Context,
    cluster: &RawCluster,
    observed: &Observed,
    wanted: &ClusterStatus,
) -> Result<(), CallError> {
    let old = &observed.cluster.status;
    let body = json!({ "status": merge(old, wanted) });
    let api: Api<RawCluster> = Api::namespaced(context.client.clone(), &observed.cluster.namespace);
    let written = calls::patch_status(
        &api,
        &observed.cluster.name,
        &observed.cluster.precondition(),
        body,
    )
    .await?;
    context.saw(written);
    context.memory(cluster, |memory| {
        memory.status_written = Some(Instant::now());
    });
    tell_changes(context, observed, old, wanted);
    Ok(())
}

/// A merge patch that makes the old status the wanted one: fields that are to go are null.
fn merge(old: &ClusterStatus, wanted: &ClusterStatus) -> Value {
    let fields = |status: &ClusterStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let old = fields(old);
    let mut patch = fields(wanted);
    for field in old.keys() {
        patch.entry(field.clone()).or_insert(Value::Null);
    }
    patch.retain(|field, value| old.get(field) != Some(value));
    Value::Object(patch)
}
