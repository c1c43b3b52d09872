//! What the status shows of a rollout: which machines are in flight, since when and what they wait for, and which were not confirmed in
//! time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::names::MachineName;
use crate::api::spec::ValidSpec;
use crate::api::status::{InFlightRow, Role};
use crate::api::text::shown_in;
use crate::plan::flight::Flight;
use crate::plan::known::Known;
use crate::plan::observed::{LedgerView, Member, Observed, elapsed, in_seconds};
use crate::plan::output::Output;
use crate::plan::patience::Clock;
use crate::plan::quorum;
use crate::plan::release::waited_for;
use crate::plan::selection::Selection;

/// Most bytes of NIO's error for one machine in a condition.
const MOST_OF_A_COMPLAINT: usize = 256;

/// The members that were not confirmed in time.
pub fn deadlines(
    observed: &Observed,
    spec: &ValidSpec,
    selection: &Selection,
    now: Timestamp,
) -> (BTreeSet<MachineName>, Output) {
    let seconds = spec.rollout.progress_deadline_seconds;
    let deadline = Duration::from_secs(seconds.into());
    let mut overdue = BTreeSet::new();
    let mut output = blocked_by_jobs(observed, deadline, now);
    for member in observed.members() {
        if member.is_confirmed() || selection.leaves(&member.name) {
            continue;
        }
        let Some(written) = member.written().or(member.created()) else {
            continue;
        };
        let complaint = member.complaint();
        let mut waited = elapsed(written, now);
        let (withdrawn, machine) = (member.is_withdrawn(), member.name);
        if withdrawn {
            // The configuration was applied in time, and its proof was withdrawn later. This counts from when this process has seen it.
            let clock = Clock::Withdrawn(machine.clone());
            waited = waited.min(output.keep(observed, clock, now));
        }
        if waited < deadline {
            output.look_again_in(deadline.saturating_sub(waited));
            continue;
        }
        // Others may be late too, and are in the same message.
        let complaint = complaint.map(|why| format!("; {}", shown_in(&why, MOST_OF_A_COMPLAINT)));
        let cause = Cause::new(
            Reason::ProgressDeadlineExceeded,
            format!(
                "NIO has not applied Machine {machine} within {seconds} s of its last write: see its NixosConfiguration and NIO's log; the next change of the spec goes to it first{}",
                complaint.unwrap_or_default()
            ),
        );
        output.wait_for(machine.clone(), ConditionType::Stalled, cause);
        overdue.insert(machine);
    }
    (overdue, output)
}

/// The pause for late requests after a control plane machine's configuration is gone, with its end once it has begun.
fn safety_pause(known: &Known<'_>, machine: &MachineName) -> String {
    let LedgerView::Ours(version, _) = &known.observed.ledger else {
        return "the safety pause after its release".to_owned();
    };
    let clock = Clock::NoChild(machine.clone(), version.clone());
    let since = known.observed.since.get(&clock);
    let ends = since.and_then(|since| since.checked_add(known.late_requests).ok());
    let ends = ends.and_then(|ends| Timestamp::from_second(ends.as_second()).ok());
    match ends {
        Some(ends) => format!("the safety pause after its release, until {ends}"),
        None => "the safety pause after its release".to_owned(),
    }
}

/// Jobs have no deadline, and a running Job blocks all others.
fn blocked_by_jobs(observed: &Observed, deadline: Duration, now: Timestamp) -> Output {
    let mut output = Output::default();
    for member in observed.members() {
        let unfinished = member.jobs.iter().filter(|job| job.is_unfinished());
        for job in unfinished {
            let began = job.metadata.creation_timestamp.as_ref();
            let runs = began.map_or(Duration::ZERO, |began| elapsed(began.0, now));
            if runs < deadline {
                output.look_again_in(deadline.saturating_sub(runs));
                continue;
            }
            let (name, machine) = (
                job.metadata.name.as_deref().unwrap_or_default(),
                &member.name,
            );
            let message = format!(
                "Job {name} of Machine {machine} has not ended for {} s, and NIO applies nothing beside it: see its pod, then delete the Job",
                deadline.as_secs()
            );
            let cause = Cause::new(Reason::BlockedByJob, message);
            output.wait_for(machine.clone(), ConditionType::Stalled, cause);
        }
    }
    output
}

/// Since when a machine in flight is being changed or released; `None` where no object shows it, as of one that is gone.
fn since(known: &Known<'_>, held: &Member<'_>) -> Option<Timestamp> {
    let machine = &held.name;
    let written = held.written().map(in_seconds);
    if let Some(deleted) = &held.held.metadata.deletion_timestamp {
        return Some(deleted.0);
    }
    if !held.is_confirmed() {
        return written;
    }
    if known.selection.leaves(machine) {
        let nodes = known.observed.nodes_of(machine).into_iter();
        return nodes.filter_map(|node| node.draining_since).min();
    }
    // One that has to be updated was last written for an earlier change.
    let is_of_before = known.outdated.contains_key(machine);
    written.filter(|_| !is_of_before)
}

/// The machines in the slot, and others that count as in flight, for the status.
#[must_use]
pub fn in_flight(known: &Known<'_>) -> BTreeMap<MachineName, InFlightRow> {
    let Known {
        observed,
        now,
        selection,
        outdated,
        ..
    } = *known;
    let few = known.founding.founded && !quorum::can_be_kept(observed.control_plane().count());
    let row = |(machine, flight): (&MachineName, &Flight)| {
        let held = observed.controlled(machine);
        let waiting_for = match &held {
            None if selection.joins(machine) => "its first configuration".to_owned(),
            None => safety_pause(known, machine),
            Some(held) if held.is_deleting() => format!(
                "NIO to release {}",
                waited_for(observed, machine.as_str(), held.held, now)
            ),
            Some(held) if !held.is_confirmed() => "NIO to apply its configuration".to_owned(),
            Some(_) if selection.leaves(machine) => "its pods to go, before it leaves".to_owned(),
            Some(held) => match held.older_attempt(now) {
                Some(rest) if !rest.is_zero() => format!(
                    "an older attempt of NIO's that may still run, until {}",
                    now.saturating_add(rest).unwrap_or(now)
                ),
                _ if outdated.contains_key(machine) => "its new configuration".to_owned(),
                Some(_) => "NIO to prove again that it applied its configuration".to_owned(),
                None => "a last check before the next machine".to_owned(),
            },
        };
        let waiting_for = if flight.role == Role::ControlPlane && few {
            let n = observed.control_plane().count();
            format!(
                "{waiting_for} (the API may be unavailable: a control plane of {n} has no redundancy)"
            )
        } else {
            waiting_for
        };
        let shown = InFlightRow {
            machine: machine.to_string(),
            role: flight.role,
            since: held.and_then(|held| since(known, &held)),
            waiting_for,
        };
        (machine.clone(), shown)
    };
    known.flights.iter().map(row).collect()
}
