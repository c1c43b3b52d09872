//! One row per machine: its state and the reason.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::form::Form as _;
use crate::api::metadata::labels;
use crate::api::names::{Commit, MachineName};
use crate::api::status::{MachineRow, MachineState, Role};
use crate::plan::action::{Plan, Wait};
use crate::plan::desired::listed;
use crate::plan::observed::Observed;
use crate::plan::selection;

use super::confirmed;
use super::soft::unreachable;

const APPLYING: &str = "waiting until NIO has applied its configuration";

/// The rows of both roles. No name occurs twice, as the type of the list requires.
pub(super) fn rows(observed: &Observed, plan: &Plan, now: Timestamp) -> Vec<MachineRow> {
    let mut rows = Vec::new();
    let mut seen = BTreeSet::new();
    let old = observed.cluster.status.machines.iter();
    let old: BTreeMap<&str, &MachineRow> = old.map(|row| (row.name.as_str(), row)).collect();
    let waits = plan.waits.iter().rev();
    let waits: BTreeMap<&MachineName, &Wait> = waits
        .filter_map(|wait| Some((wait.machine.as_ref()?, wait)))
        .collect();
    let row = |machine: &MachineName, role, state| {
        let old = old.get(machine.as_str()).copied();
        row(observed, machine, role, state, old, now)
    };
    for role in Role::ALL {
        let pick = plan.selection.for_role(role);
        for machine in pick
            .staying
            .iter()
            .chain(&pick.leaving)
            .chain(&pick.joining)
        {
            if seen.insert(machine.to_string()) {
                let wait = waits.get(machine).copied();
                let state = row_state(observed, plan, role, machine, wait);
                rows.push(row(machine, role, state));
            }
        }
        for obstacle in &pick.obstacles {
            let Some(machine) = &obstacle.machine else {
                continue;
            };
            if seen.insert(machine.to_string()) {
                let state = (MachineState::Unavailable, Some(obstacle.cause.clone()));
                rows.push(row(machine, role, state));
            }
        }
    }
    if observed.cluster.deleting {
        // Machines that were released already are checked once all are.
        let mut old = observed.cluster.status.machines.clone();
        old.retain(|row| !seen.contains(&row.name));
        rows.extend(old.into_iter().map(|row| MachineRow {
            state: MachineState::Leaving,
            reason: Reason::GivingBack.to_string(),
            message: "NIO has released it".to_owned(),
            ..row
        }));
    }
    rows
}

fn row_state(
    observed: &Observed,
    plan: &Plan,
    role: Role,
    machine: &MachineName,
    wait: Option<&Wait>,
) -> (MachineState, Option<Cause>) {
    let pick = plan.selection.for_role(role);
    let state = |state, reason, message: &str| (state, Some(Cause::new(reason, message)));
    if pick.leaving.contains(machine) {
        let message = match wait {
            _ if observed.cluster.deleting => "the cluster is being deleted".to_owned(),
            Some(wait) if wait.condition == ConditionType::RollingOut => {
                format!("the spec no longer asks for it: {}", wait.cause.message)
            }
            _ => "the spec no longer asks for it".to_owned(),
        };
        return state(MachineState::Leaving, Reason::GivingBack, &message);
    }
    if pick.joining.contains(machine) {
        let cause = wait.map_or_else(|| why_pending(observed, plan), |wait| wait.cause.clone());
        return (MachineState::Pending, Some(cause));
    }
    if let Some(cause) = unreachable(observed, machine) {
        return (MachineState::Unavailable, Some(cause));
    }
    let complaint = observed.member(machine).and_then(|it| it.complaint());
    let with_complaint = |message: &str| match &complaint {
        Some(why) => format!("{message}; {why}"),
        None => message.to_owned(),
    };
    if plan.overdue.contains(machine) {
        return state(
            MachineState::Failed,
            Reason::ProgressDeadlineExceeded,
            &with_complaint("NIO has not applied it in time; see its NixosConfiguration"),
        );
    }
    if let Some(differences) = plan.outdated.get(machine) {
        return state(
            MachineState::Outdated,
            Reason::OutOfDate,
            &with_complaint(&format!("differs in: {}", listed(differences))),
        );
    }
    if confirmed(observed, machine) {
        if selection::mismatched(observed, role, machine) {
            let object = observed.machines.get(machine);
            let labels_are_kept = object.is_none_or(|it| labels(&it.metadata).is_some());
            return state(
                MachineState::Confirmed,
                Reason::SelectorMismatch,
                if labels_are_kept {
                    "its labels no longer match the selector; it stays"
                } else {
                    "it has more labels than NICO reads, so no selector matches it; it stays"
                },
            );
        }
        let remark = wait.filter(|wait| wait.condition == ConditionType::Ready);
        let remark = remark.map(|wait| wait.cause.clone());
        let complaint = || Some(Cause::new(Reason::NIOComplains, complaint?));
        return (MachineState::Confirmed, remark.or_else(complaint));
    }
    let reason = match complaint {
        Some(_) => Reason::NIOComplains,
        None => Reason::WaitingForMachines,
    };
    state(MachineState::Applying, reason, &with_complaint(APPLYING))
}

/// What joining machines wait for, if there is nothing specific to one of them.
fn why_pending(observed: &Observed, plan: &Plan) -> Cause {
    if observed.is_paused() {
        return Cause::new(Reason::PausedBySpec, "waits until spec.paused is false");
    }
    let all = [ConditionType::Stalled, ConditionType::MachinesAvailable];
    let mut waits = plan.waits.iter();
    if let Some(wait) = waits.find(|it| it.machine.is_none() && all.contains(&it.condition)) {
        return wait.cause.clone();
    }
    if !observed.is_founded() && plan.selection.control_plane.missing() > 0 {
        return Cause::new(
            Reason::WaitingForControlPlane,
            "waits until all control plane machines are available",
        );
    }
    Cause::new(Reason::Progressing, "waits for its first configuration")
}

fn row(
    observed: &Observed,
    machine: &MachineName,
    role: Role,
    (state, cause): (MachineState, Option<Cause>),
    old: Option<&MachineRow>,
    now: Timestamp,
) -> MachineRow {
    let old = old.filter(|row| row.state == state);
    let member = observed.member(machine);
    let pinned = member.as_ref().and_then(|it| it.held.spec.text("ref"));
    let pinned = pinned.filter(|text| Commit::parse(text).is_some());
    let reported = member
        .as_ref()
        .and_then(|member| member.held.status.as_ref())
        .and_then(|status| {
            status
                .applied_commit
                .clone()
                .or_else(|| status.resolved_revision.clone())
        })
        .filter(|commit| {
            commit.len() <= 64
                && !commit.is_empty()
                && commit.bytes().all(|c| c.is_ascii_alphanumeric())
        });
    let commit = pinned.map(str::to_owned).or(reported);
    let (reason, message) = cause
        .map(|cause| (cause.reason.to_string(), cause.message))
        .unwrap_or_default();
    MachineRow {
        name: machine.to_string(),
        role,
        state,
        reason,
        message,
        commit,
        since: Some(old.and_then(|row| row.since).unwrap_or(now)),
    }
}
