//! The status of a cluster, computed from the snapshot and the plan in every pass, and written only if it changed.

mod conditions;
mod leftovers;
mod mistakes;
mod paused;
mod rolling;
mod rows;
mod size;
mod soft;
mod unread;

pub use mistakes::keep_mistake_clocks;
pub use soft::{Soft, keep_soft_clocks, soft_problems};
pub use unread::unread;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::conditions::ConditionType;
use crate::api::digest::sha256;
use crate::api::names::{MachineName, Revision, kubeconfig_name};
use crate::api::status::{ClusterStatus, InFlightRow, Phase, Role, RoleStatus, RolloutStatus};

use super::action::Plan;
use super::observed::{Observed, SecretView};

/// A write that the API server refused in this pass, in a message without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

/// Computes the status.
#[must_use]
pub fn status(
    observed: &Observed,
    plan: &Plan,
    refusal: Option<&Refusal>,
    now: Timestamp,
) -> ClusterStatus {
    let roles = Role::ALL.map(|role| role_status(observed, plan, role));
    let conditions = conditions::conditions(observed, plan, &roles, refusal, now);
    let updated = roles.iter().fold((0, 0), |(updated, total), role| {
        (updated + role.updated, total + role.total)
    });
    let holds = |kind: ConditionType| {
        let mut conditions = conditions.iter();
        conditions.any(|it| it.kind == kind.to_string() && it.is_true())
    };
    let phase = if observed.cluster.deleting {
        Phase::Deleting
    } else if holds(ConditionType::Ready) {
        Phase::Ready
    } else if holds(ConditionType::Stalled) {
        Phase::Failed
    } else {
        Phase::Provisioning
    };
    let stored = matches!(
        observed.kubeconfig.secret,
        SecretView::Ours | SecretView::Adopted
    );
    let [control_plane, data_plane] = roles;
    size::fit(ClusterStatus {
        phase: Some(phase),
        observed_generation: Some(observed.cluster.generation),
        control_plane: Some(control_plane),
        data_plane: Some(data_plane),
        updated: Some(format!("{}/{}", updated.0, updated.1)),
        kubeconfig_secret: stored.then(|| kubeconfig_name(&observed.cluster.name)),
        revision: revision(plan),
        commit: plan.commit.as_ref().map(ToString::to_string),
        rollout: (!plan.in_flight.is_empty()).then(|| rollout(observed, plan, now)),
        machines: rows::rows(observed, plan, now),
        conditions,
    })
}

/// Whether users and tools wait for this change. Other changes are collected for a few seconds.
#[must_use]
pub fn is_significant(old: &ClusterStatus, new: &ClusterStatus) -> bool {
    let gist = |status: &ClusterStatus| {
        let conditions: Vec<(String, String)> = status
            .conditions
            .iter()
            .map(|condition| (condition.kind.clone(), condition.status.clone()))
            .collect();
        (
            status.phase,
            status.observed_generation,
            status.kubeconfig_secret.clone(),
            conditions,
        )
    };
    gist(old) != gist(new)
}

/// One digest for the whole cluster: it changes with the target of any machine.
fn revision(plan: &Plan) -> Option<String> {
    if plan.targets.is_empty() {
        return None;
    }
    let all: Vec<String> = plan
        .targets
        .iter()
        .map(|(machine, revision)| format!("{machine}={revision};"))
        .collect();
    Some(Revision::from_digest(&sha256(all.concat().as_bytes())).to_string())
}

/// The entries of the slot, and the other machines in flight. Where no object shows since when a machine is in flight, as of
/// one whose configuration is gone, the status has said it before.
fn rollout(observed: &Observed, plan: &Plan, now: Timestamp) -> RolloutStatus {
    let old = observed.cluster.status.rollout.iter();
    let old: BTreeMap<&str, &InFlightRow> = old
        .flat_map(|rollout| &rollout.in_flight)
        .map(|row| (row.machine.as_str(), row))
        .collect();
    let since = |row: &InFlightRow| {
        let shown = old.get(row.machine.as_str()).and_then(|old| old.since);
        row.since.or(shown).unwrap_or(now)
    };
    let rows = plan.in_flight.values().map(|row| InFlightRow {
        since: Some(since(row)),
        ..row.clone()
    });
    RolloutStatus {
        in_flight: rows.collect(),
    }
}

fn role_status(observed: &Observed, plan: &Plan, role: Role) -> RoleStatus {
    let pick = plan.selection.for_role(role);
    let total = observed
        .spec
        .as_ref()
        .map_or(0, |spec| super::selection::pool(spec, role).total());
    let ready: Vec<String> = pick
        .staying
        .iter()
        .filter(|machine| confirmed(observed, machine))
        .map(ToString::to_string)
        .collect();
    let updated = pick
        .staying
        .iter()
        .filter(|machine| confirmed(observed, machine) && !plan.outdated.contains_key(*machine))
        .count();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    RoleStatus {
        ready: count(ready.len()),
        total: count(total),
        updated: count(updated),
        summary: format!("{}/{total}", ready.len()),
        ready_machines: ready,
    }
}

fn confirmed(observed: &Observed, machine: &MachineName) -> bool {
    let member = observed.member(machine);
    member.is_some_and(|member| member.is_confirmed())
}
