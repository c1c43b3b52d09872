//! The condition about changes of a running cluster.

use std::collections::BTreeMap;

use crate::api::conditions::{Attention, ConditionType, Reason};
use crate::api::names::MachineName;
use crate::api::status::Role;
use crate::api::text::counted;
use crate::plan::action::{Plan, Wait};
use crate::plan::desired::listed;
use crate::plan::nio;
use crate::plan::observed::Observed;

use super::conditions::Condition;
use super::confirmed;

/// Machines, the first few by name and the rest as a number.
fn named(machines: &[&MachineName]) -> String {
    const NAMED: usize = 10;
    let names: Vec<&str> = machines.iter().map(|it| it.as_str()).take(NAMED).collect();
    let more = match machines.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", names.join(", "))
}

/// The same, with the verb in the right form.
pub(super) fn they(machines: &[&MachineName], one: &str, several: &str) -> String {
    let verb = if machines.len() == 1 { one } else { several };
    format!("{} {verb}", named(machines))
}

/// The machines of a role that have a configuration which is not confirmed.
pub(super) fn waited_for(observed: &Observed, plan: &Plan, role: Role) -> String {
    let staying = plan.selection.for_role(role).staying.iter();
    let waited_for: Vec<_> = staying.filter(|it| !confirmed(observed, it)).collect();
    if waited_for.is_empty() {
        return String::new();
    }
    format!(" (waiting for {})", named(&waited_for))
}

/// Which machines join, and which of them replace others that stay until then.
fn newcomers(observed: &Observed, plan: &Plan, role: Role) -> Option<String> {
    let pick = plan.selection.for_role(role);
    if !observed.is_founded() || observed.is_paused() {
        return None;
    }
    let unfinished = pick.staying.iter().filter(|machine| {
        let replaces = pick.staying.len() > pick.total && !plan.in_flight.contains_key(*machine);
        replaces && !confirmed(observed, machine)
    });
    let joining = pick.joining.iter().filter(|it| !plan.next.contains(it));
    let all: Vec<_> = joining.chain(unfinished).collect();
    (!all.is_empty()).then(|| format!("{} to join", they(&all, "is", "are")))
}

/// What is done to a machine in flight.
fn doing(observed: &Observed, plan: &Plan, machine: &MachineName) -> &'static str {
    if plan.selection.leaves(machine) {
        return "removing";
    }
    match observed.controlled(machine) {
        None if plan.selection.joins(machine) => "adding",
        Some(held) if !held.is_deleting() && !held.was_confirmed() => "adding",
        Some(held) if !held.is_deleting() => "updating",
        _ => "removing",
    }
}

/// What a push does, where NICO does not roll it out.
fn pushes(observed: &Observed, plan: &Plan) -> Option<&'static str> {
    let spec = observed.spec.as_ref().ok()?;
    let is_left_to_nio =
        !observed.cluster.deleting && plan.commit.is_none() && plan.question.is_none();
    let nio = nio::for_generation(observed.nio.filter(|_| is_left_to_nio)?);
    nio.follows_pushes(spec.git_ref.as_deref())
}

/// What is being changed, what it waits for, and what else is out of date: a few machines by name, many as a number. `updated` is how
/// many machines there are at the target, and how many in all.
pub(super) fn rolling_out(observed: &Observed, plan: &Plan, updated: (u32, u32)) -> Condition {
    let waits = || {
        let waits = plan.waits.iter();
        waits.filter(|wait| wait.condition == ConditionType::RollingOut)
    };
    let calls = |wait: &Wait| wait.cause.reason.attention() == Attention::Yes;
    let own = |machine: &MachineName| waits().find(|it| it.machine.as_ref() == Some(machine));
    let mut flights: BTreeMap<(&str, &str), Vec<&MachineName>> = BTreeMap::new();
    for (machine, flight) in &plan.in_flight {
        // A message that requires user action also says what it waits for.
        if own(machine).is_some_and(calls) {
            continue;
        }
        let doing = doing(observed, plan, machine);
        let flights = flights.entry((doing, &flight.waiting_for));
        flights.or_default().push(machine);
    }
    let (updated, total) = updated;
    let total = counted(total as usize, "machine");
    let mut sum = Some(format!(" ({updated} of {total} updated)"));
    let mut problems: Vec<String> = Vec::new();
    for ((doing, what), machines) in &flights {
        let machines = named(machines);
        let sum = sum.take().unwrap_or_default();
        problems.push(format!("{doing} {machines}{sum}: waiting for {what}"));
    }
    let in_flight = |machine: &&MachineName| plan.in_flight.contains_key(*machine);
    let next: Vec<_> = plan.next.iter().filter(|it| !in_flight(it)).collect();
    if !next.is_empty() {
        let sum = sum.take().unwrap_or_default();
        problems.push(format!("{} next{sum}", they(&next, "is", "are")));
    }
    problems.extend(waits().map(|wait| wait.cause.message.clone()));
    let others = plan.outdated.iter();
    let others = others.filter(|(machine, _)| !plan.in_flight.contains_key(*machine));
    let mut outdated: BTreeMap<String, Vec<&MachineName>> = BTreeMap::new();
    for (machine, differences) in others {
        outdated
            .entry(listed(differences))
            .or_default()
            .push(machine);
    }
    problems.extend(outdated.into_iter().map(|(differences, machines)| {
        let are = they(&machines, "is", "are");
        format!("{are} out of date ({differences})")
    }));
    for role in Role::ALL {
        let leaving: Vec<_> = plan.selection.for_role(role).leaving.iter().collect();
        if !leaving.is_empty() {
            problems.push(format!("{} to leave", they(&leaving, "is", "are")));
        }
        problems.extend(newcomers(observed, plan, role));
    }
    if problems.is_empty() {
        let follows = pushes(observed, plan).unwrap_or_default();
        return Condition::new("False", Reason::AsExpected, follows);
    }
    // What blocks a machine in flight is more specific than the fact that it is in flight.
    let holds_up = |wait: &&Wait| {
        let machine = wait.machine.as_ref();
        machine.is_some_and(|machine| plan.in_flight.contains_key(machine))
    };
    let own = waits().find(holds_up).map(|wait| wait.cause.reason);
    let in_flight = (!plan.in_flight.is_empty()).then_some(Reason::InFlight);
    let first = waits().next().map(|wait| wait.cause.reason);
    let reason = own.or(in_flight).or(first).unwrap_or(Reason::OutOfDate);
    let sum = sum.unwrap_or_default();
    Condition::new("True", reason, format!("{}{sum}", problems.join("; ")))
}
