//! The only writer of the status. It writes only changes, on top of what the pass itself wrote.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing::debug;

use super::changes::publish_changes;
use crate::api::cluster::RawCluster;
use crate::api::conditions::Reason;
use crate::api::status::ClusterStatus;
use crate::controller::aside::aside;
use crate::controller::calls::{self, CallError};
use crate::controller::clock::now;
use crate::controller::events::Happening;
use crate::controller::observe::view;
use crate::controller::pass::Pass;
use crate::controller::schedule::STATUS_CONTESTS_BEFORE_EVENT;
use crate::plan::action::Plan;
use crate::plan::observed::{ClusterView, Observed};
use crate::plan::status::{Refusal, status, unread};

/// Writes the status if it changed. Returns after what time it must be evaluated again, because a change is delayed, or an event is due
/// once a condition has lasted.
pub(super) async fn keep_status(
    pass: &Pass<'_>,
    observed: &Observed,
    plan: &Plan,
    refusal: Option<&Refusal>,
    now: jiff::Timestamp,
) -> Result<Option<Duration>, CallError> {
    // An action may just have written the object, so its newest version is used.
    let newest = pass.cluster();
    let mut observed = observed.clone();
    observed.cluster.resource_version =
        newest.metadata.resource_version.clone().unwrap_or_default();
    observed.cluster.status = newest.status.clone().unwrap_or_default();
    let machines = observed.machines.len();
    let wanted = aside(machines, || status(&observed, plan, refusal, now));
    let lasts = emit_troubles(pass, &observed.cluster, &wanted).await;
    let current = &observed.cluster.status;
    let pause = pass.memory().status_pause(current, &wanted);
    if wanted != *current && pause.is_some() {
        return Ok([pause, lasts].into_iter().flatten().min());
    }
    write_status(pass, &observed.cluster, &wanted).await?;
    Ok(lasts)
}

/// Publishes Warning events for what has needed the user's attention for long enough. Returns how long until the next one is due.
/// Comes before the write of the status, from which the next process concludes what was reported: if this one ends between the two, the
/// event comes twice, and is not lost.
pub(super) async fn emit_troubles(
    pass: &Pass<'_>,
    seen: &ClusterView,
    wanted: &ClusterStatus,
) -> Option<Duration> {
    let (due, lasts) = pass
        .memory()
        .troubles
        .due(&seen.status, wanted, Instant::now(), now());
    for trouble in due {
        pass.context.events.emit_first(seen, &trouble).await;
    }
    lasts
}

/// Reports in the status why the cluster cannot be read.
pub(super) async fn report_unread(pass: &Pass<'_>, why: &str) {
    let seen = view(&pass.cluster());
    let wanted = unread(&seen, why, now());
    emit_troubles(pass, &seen, &wanted).await;
    if let Err(error) = write_status(pass, &seen, &wanted).await {
        debug!(%error, "the failure could not be reported");
    }
}

/// An object from an older CRD can be so malformed that the API server refuses its status. Then an event reports what is wrong.
pub(super) fn report_unwritable(pass: &Pass<'_>, error: &CallError) {
    if !matches!(error, CallError::Refused { code: 422, .. }) {
        return;
    }
    let cluster = pass.cluster();
    let spec = pass.memory().spec(&cluster);
    if let Err(problems) = spec {
        let trouble = Happening::Trouble(Reason::InvalidSpec.to_string(), problems.join("; "));
        pass.context.events.emit(&view(&cluster), &trouble);
    }
}

/// Writes the wanted status if it differs from the current one.
pub(super) async fn write_status(
    pass: &Pass<'_>,
    seen: &ClusterView,
    wanted: &ClusterStatus,
) -> Result<(), CallError> {
    if *wanted == seen.status {
        return Ok(());
    }
    let body = json!({ "status": merge(&seen.status, wanted) });
    let api = pass.api::<RawCluster>();
    let written = calls::patch_status(&api, &seen.name, &seen.precondition(), body).await?;
    let contests = {
        let mut memory = pass.memory();
        memory.saw(written);
        memory.wrote_status(&seen.status, wanted)
    };
    if contests >= STATUS_CONTESTS_BEFORE_EVENT {
        pass.context.events.emit(seen, &Happening::StatusContested);
        return Ok(());
    }
    publish_changes(&pass.context.events, seen, wanted);
    Ok(())
}

/// A merge patch from the old status to the wanted one. Removed fields are null.
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
