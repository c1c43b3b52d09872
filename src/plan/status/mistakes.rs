//! Problems that require user action although they do not stop the planner.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::api::conditions::{Attention, Cause, ConditionType, Reason};
use crate::api::status::Role;
use crate::plan::action::{Action, ConfigurationWrite, Plan, Wait};
use crate::plan::observed::Observed;
use crate::plan::output::Output;
use crate::plan::patience::{Clock, MISTAKE_STALLS_AFTER};
use crate::plan::selection::Selection;

use super::soft::{soft_problems, unreachable};

/// Keeps the clocks of problems that do not end by themselves, and plans again when the first of them has run out.
pub fn keep_mistake_clocks(
    observed: &Observed,
    selection: &Selection,
    waits: &[Wait],
    now: Timestamp,
) -> Output {
    let waits = waits.iter().filter(|it| {
        matches!(
            it.condition,
            ConditionType::MachinesAvailable
                | ConditionType::KubeconfigReady
                | ConditionType::RollingOut
        )
    });
    let waits = waits.map(|wait| wait.cause.reason);
    let of_machines = of_machines(observed, selection);
    let soft = soft_problems(observed, selection);
    let soft = soft.iter().map(|soft| soft.cause.reason);
    let all: BTreeSet<Reason> = waits
        .chain(of_machines.iter().map(|cause| cause.reason))
        .chain(soft)
        .filter(|reason| reason.attention() == Attention::Yes)
        .collect();
    let mut output = Output::default();
    for reason in all {
        output.has_run(observed, Clock::Mistake(reason), now, MISTAKE_STALLS_AFTER);
    }
    output
}

/// Why there are fewer machines than the spec asks for, and the problems of those that are assigned.
pub(super) fn of_machines(observed: &Observed, selection: &Selection) -> Vec<Cause> {
    let mut problems = Vec::new();
    for role in Role::ALL {
        let pick = selection.for_role(role);
        if pick.missing() > 0 {
            problems.extend(pick.obstacles.iter().map(|it| it.cause.clone()));
        }
        for machine in &pick.staying {
            if let Some(other) = observed.contested_by(machine) {
                problems.push(Cause::new(
                    Reason::MachineInUse,
                    format!("Machine {machine} is also named by NixosConfiguration {other}, which is not of this cluster: NIO applies both in turn; delete one of them"),
                ));
            }
            if !observed.machines.contains_key(machine) {
                problems.extend(unreachable(observed, machine));
            }
        }
    }
    problems
}

/// A problem that `Ready` tolerates for a minute and that requires user action.
pub(super) fn soft_mistake(observed: &Observed, plan: &Plan) -> Option<Cause> {
    let mut soft = soft_problems(observed, &plan.selection).into_iter();
    let soft = soft.find(|soft| soft.cause.reason.attention() == Attention::Yes);
    soft.map(|soft| soft.cause)
}

/// Whether nothing continues in the cluster without user action.
pub(super) fn nothing_goes_on(observed: &Observed, plan: &Plan) -> bool {
    let claims = |action: &Action| {
        matches!(
            action,
            Action::Configuration(ConfigurationWrite::Claim(_) | ConfigurationWrite::Rewrite(_))
                | Action::Disrupt(_)
        )
    };
    let staying = Role::ALL
        .into_iter()
        .flat_map(|role| &plan.selection.for_role(role).staying);
    let mut members = staying.filter_map(|machine| observed.member(machine));
    let held_up = |machine: &_| {
        let mut waits = plan.waits.iter();
        waits.any(|it| {
            it.machine.as_ref() == Some(machine) && it.cause.reason.attention() == Attention::Yes
        })
    };
    plan.next.is_empty()
        && !plan.actions.iter().any(claims)
        && plan.in_flight.keys().all(held_up)
        && members.all(|member| member.is_confirmed())
}

/// Whether a cause that requires user action has lasted longer than it takes to apply related objects.
pub(super) fn has_stood(observed: &Observed, cause: &Cause, now: Timestamp) -> bool {
    cause.reason.attention() == Attention::Yes
        && observed.elapsed(&Clock::Mistake(cause.reason), now) >= MISTAKE_STALLS_AFTER
}

/// Whether everything that blocks a rollout requires user action, and no object that is still being applied could end it.
pub(super) fn stops_rollout(waits: &[&Cause]) -> bool {
    let of_itself = |cause: &&Cause| {
        matches!(
            cause.reason,
            Reason::WouldLoseQuorum | Reason::VersionSkew | Reason::MachineMissing
        )
    };
    !waits.is_empty() && waits.iter().all(of_itself)
}
