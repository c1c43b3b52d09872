//! What nothing goes on without a person for, though the planner itself stops for none of it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::api::conditions::{Attention, Cause, ConditionType, Reason};
use crate::api::status::Role;
use crate::plan::action::{Action, ConfigurationWrite, Plan, Wait};
use crate::plan::observed::Observed;
use crate::plan::output::Output;
use crate::plan::patience::{Clock, MISTAKE_STALLS_AFTER};
use crate::plan::selection::Selection;

use super::soft::unreachable;

/// Starts the clocks of what does not pass by itself, and looks again when the first of them has run out.
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
    let missing = Role::ALL.into_iter().flat_map(|role| {
        let pick = selection.of(role);
        let gone = pick.staying.iter();
        let gone = gone.filter_map(|machine| unreachable(observed, machine));
        let obstacles = pick.obstacles.iter().filter(|_| pick.missing() > 0);
        let obstacles = obstacles.map(|it| it.cause.reason);
        obstacles
            .chain(gone.map(|cause| cause.reason))
            .collect::<Vec<_>>()
    });
    let all: BTreeSet<Reason> = waits
        .chain(missing)
        .filter(|reason| reason.attention() == Attention::Yes)
        .collect();
    let mut output = Output::default();
    for reason in all {
        output.has_run(observed, Clock::Mistake(reason), now, MISTAKE_STALLS_AFTER);
    }
    output
}

/// Whether nothing else goes on in the cluster: only what calls for a person is left.
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
        .flat_map(|role| &plan.selection.of(role).staying);
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

/// Whether a cause that calls for a person has stood for so long that it is not one of objects that are still being applied.
pub(super) fn has_stood(observed: &Observed, cause: &Cause, now: Timestamp) -> bool {
    cause.reason.attention() == Attention::Yes
        && observed.elapsed(&Clock::Mistake(cause.reason), now) >= MISTAKE_STALLS_AFTER
}

/// Whether all that holds a rollout up calls for a person, and no object that is still to come could end it.
pub(super) fn stops_rollout(waits: &[&Cause]) -> bool {
    let of_itself = |cause: &&Cause| {
        matches!(
            cause.reason,
            Reason::WouldLoseQuorum | Reason::VersionSkew | Reason::MachineMissing
        )
    };
    !waits.is_empty() && waits.iter().all(of_itself)
}
