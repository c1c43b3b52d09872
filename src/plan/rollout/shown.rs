//! What a person who watches is shown: who is in flight, since when and what it waits for, and who was not confirmed in time.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason};
use crate::api::spec::ValidSpec;
use crate::api::status::{InFlightRow, Role};
use crate::plan::action::Plan;
use crate::plan::founding::Founding;
use crate::plan::observed::{Member, Observed, elapsed};
use crate::plan::patience::Clock;
use crate::plan::quorum;
use crate::plan::release::held_by;

/// Notes who was not confirmed in time (SPEC 1.1, `progressDeadlineSeconds`).
pub fn keep_deadlines(observed: &Observed, spec: &ValidSpec, now: Timestamp, plan: &mut Plan) {
    let seconds = spec.rollout.progress_deadline_seconds;
    let deadline = Duration::from_secs(seconds.into());
    for member in observed.members() {
        let Some(written) = member.written().or(member.created()) else {
            continue;
        };
        if plan.selection.leaves(&member.name) || member.is_confirmed() {
            continue;
        }
        let mut waited = elapsed(written, now);
        let (withdrawn, machine) = (member.is_withdrawn(), member.name);
        if withdrawn {
            // It was applied in time; what came then is as new as this process has seen it.
            let clock = Clock::Withdrawn(machine.clone());
            waited = waited.min(observed.elapsed(&clock, now));
            plan.clocks.insert(clock);
        }
        if waited < deadline {
            plan.look_again_in(deadline.saturating_sub(waited));
            continue;
        }
        plan.wait_for(
            &machine,
            ConditionType::Stalled,
            Reason::ProgressDeadlineExceeded,
            format!(
                "Machine {machine} was not confirmed within {seconds} s of its last write: see its NixosConfiguration and NIO's log; the next change of the spec goes to it first"
            ),
        );
        plan.overdue.insert(machine);
    }
}

/// Shows the slot, and who counts as in flight besides (SPEC 1.2, `status.rollout`).
pub fn show_flights(observed: &Observed, founding: &Founding, now: Timestamp, plan: &mut Plan) {
    let few = founding.founded && !quorum::can_be_kept(observed.control_plane().count());
    for (machine, flight) in observed.flights(founding.founded, now) {
        let held = observed.controlled(&machine);
        let waiting_for = match &held {
            None => "its first configuration, or the end of its entry".to_owned(),
            Some(held) if held.is_deleting() => format!(
                "NIO to let go of {}",
                held_by(observed, machine.as_str(), held.held, now)
            ),
            Some(held) if !held.is_confirmed() => "NIO to apply exactly what it holds".to_owned(),
            Some(_) if plan.selection.leaves(&machine) => {
                "its pods to go, before it leaves".to_owned()
            }
            Some(_) if plan.outdated.contains_key(&machine) => "its new configuration".to_owned(),
            Some(held) => match held.older_attempt(now) {
                Some(rest) if !rest.is_zero() => format!(
                    "an older attempt of NIO's that may still run, until {}",
                    now.saturating_add(rest).unwrap_or(now)
                ),
                Some(_) => "NIO to prove again that it applied exactly what it holds".to_owned(),
                None => "the end of its entry".to_owned(),
            },
        };
        let waiting_for = if flight.role == Role::ControlPlane && few {
            format!("{waiting_for}; a control plane of one or two cannot keep its quorum meanwhile")
        } else {
            waiting_for
        };
        // What was confirmed and is to be written anew was last written for an earlier change.
        let is_of_before = held.as_ref().is_some_and(Member::is_confirmed)
            && (plan.outdated.contains_key(&machine) || plan.selection.leaves(&machine));
        let written = held.and_then(|held| held.written());
        let shown = InFlightRow {
            machine: machine.to_string(),
            role: flight.role,
            since: written.filter(|_| !is_of_before),
            waiting_for,
        };
        plan.in_flight.insert(machine, shown);
    }
}
