//! The condition about changes of a running cluster.

use std::collections::BTreeMap;

use crate::api::conditions::{Attention, ConditionType, Reason};
use crate::api::names::MachineName;
use crate::api::status::Role;
use crate::plan::action::{Plan, Wait};
use crate::plan::desired::listed;
use crate::plan::observed::Observed;

use super::conditions::Condition;
use super::confirmed;

/// Machines, the first few by name and the rest as a number, with the verb in the right form.
pub(super) fn they(machines: &[&MachineName], one: &str, several: &str) -> String {
    const NAMED: usize = 10;
    let names: Vec<&str> = machines.iter().map(|it| it.as_str()).take(NAMED).collect();
    let verb = if machines.len() == 1 { one } else { several };
    let more = match machines.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more} {verb}", names.join(", "))
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

/// What is being changed, what it waits for, and what else is out of date: a few machines by name, many as a number.
pub(super) fn rolling_out(observed: &Observed, plan: &Plan) -> Condition {
    let waits = || {
        let waits = plan.waits.iter();
        waits.filter(|wait| wait.condition == ConditionType::RollingOut)
    };
    let calls = |wait: &Wait| wait.cause.reason.attention() == Attention::Yes;
    let own = |machine: &MachineName| waits().find(|it| it.machine.as_ref() == Some(machine));
    let mut flights: BTreeMap<&str, Vec<&MachineName>> = BTreeMap::new();
    for (machine, flight) in &plan.in_flight {
        // A message that requires user action also says what it waits for.
        if own(machine).is_some_and(calls) {
            continue;
        }
        flights
            .entry(&flight.waiting_for)
            .or_default()
            .push(machine);
    }
    let mut problems: Vec<String> = flights
        .iter()
        .map(|(what, machines)| format!("{} for {what}", they(machines, "waits", "wait")))
        .collect();
    if !plan.next.is_empty() {
        let next: Vec<_> = plan.next.iter().collect();
        problems.push(format!("{} next", they(&next, "is", "are")));
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
        return Condition::new("False", Reason::AsExpected, "");
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
    Condition::new("True", reason, problems.join("; "))
}
