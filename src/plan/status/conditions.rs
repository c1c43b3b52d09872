//! The conditions: what holds, why, and what a person can do about it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::names::{MachineName, kubeconfig_name};
use crate::api::status::{ClusterCondition, Role, RoleStatus};
use crate::api::text::shown;
use crate::plan::action::{Plan, Wait};
use crate::plan::desired::listed;
use crate::plan::observed::{Observed, SecretView, Works};
use crate::plan::patience::{Clock, READY_BEARS_FOR};

use super::Refusal;
use super::soft::{Soft, soft_problems, unreachable};

/// A condition in the making: its status, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    status: &'static str,
    cause: Cause,
}

impl Condition {
    fn new(status: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        let cause = Cause::new(reason, message);
        Self { status, cause }
    }

    /// For many causes: the word of the first, and what all of them say to a person. `None` where there is none.
    fn because(status: &'static str, causes: &[&Cause]) -> Option<Self> {
        let first = causes.first()?;
        Some(Self::new(status, first.reason, sentence(causes)))
    }

    fn holds(&self) -> bool {
        self.status == "True"
    }
}

/// All conditions, in the order of [`ConditionType::ALL`].
pub(super) fn conditions(
    observed: &Observed,
    plan: &Plan,
    roles: &[RoleStatus; 2],
    refusal: Option<&Refusal>,
    now: Timestamp,
) -> Vec<ClusterCondition> {
    let old = &observed.cluster.status;
    let stalled = stalled(plan);
    let machines = machines_available(observed, plan);
    let kubeconfig = kubeconfig_ready(
        observed,
        plan,
        old.holds(ConditionType::KubeconfigReady),
        now,
    );
    let rolling_out = rolling_out(plan);
    let control_plane = role_ready(observed, &roles[0], "control plane");
    let data_plane = role_ready(observed, &roles[1], "worker");
    let new_generation = old.observed_generation != Some(observed.cluster.generation);
    let ready = ready(
        observed,
        plan,
        [
            &stalled,
            &machines,
            &control_plane,
            &data_plane,
            &rolling_out,
            &kubeconfig,
        ],
        old.holds(ConditionType::Ready) && !new_generation,
        new_generation,
        now,
    );
    let reconciling = reconciling(plan, &ready, &stalled, refusal);
    let paused = if observed.spec.as_ref().is_ok_and(|spec| spec.paused) {
        Condition::new(
            "True",
            Reason::PausedBySpec,
            "spec.paused is true: no machine is changed; RollingOut and status.machines say what would change",
        )
    } else {
        Condition::new("False", Reason::NotPaused, "")
    };
    ConditionType::ALL
        .into_iter()
        .map(|kind| {
            let now_so = match kind {
                ConditionType::Ready => &ready,
                ConditionType::Reconciling => &reconciling,
                ConditionType::Stalled => &stalled,
                ConditionType::ControlPlaneReady => &control_plane,
                ConditionType::DataPlaneReady => &data_plane,
                ConditionType::MachinesAvailable => &machines,
                ConditionType::KubeconfigReady => &kubeconfig,
                ConditionType::RollingOut => &rolling_out,
                ConditionType::Paused => &paused,
            };
            let since = old
                .condition(kind)
                .filter(|old| old.status == now_so.status)
                .and_then(|old| old.last_transition_time);
            ClusterCondition {
                kind: kind.to_string(),
                status: now_so.status.to_owned(),
                observed_generation: Some(observed.cluster.generation),
                last_transition_time: Some(since.unwrap_or(now)),
                reason: now_so.cause.reason.to_string(),
                message: shown(&now_so.cause.message),
            }
        })
        .collect()
}

fn sentence(causes: &[&Cause]) -> String {
    let messages: Vec<&str> = causes.iter().map(|cause| cause.message.as_str()).collect();
    messages.join("; ")
}

fn waits_of(plan: &Plan, kind: ConditionType) -> Vec<&Cause> {
    let waits = plan.waits.iter().filter(|wait| wait.condition == kind);
    waits.map(|wait| &wait.cause).collect()
}

fn stalled(plan: &Plan) -> Condition {
    Condition::because("True", &waits_of(plan, ConditionType::Stalled))
        .unwrap_or_else(|| Condition::new("False", Reason::AsExpected, ""))
}

fn machines_available(observed: &Observed, plan: &Plan) -> Condition {
    let waits = waits_of(plan, ConditionType::MachinesAvailable);
    if let Some(waits) = Condition::because("False", &waits) {
        return waits;
    }
    if observed.spec.is_err() {
        return Condition::new(
            "Unknown",
            Reason::InvalidSpec,
            "the spec must be corrected first",
        );
    }
    let mut problems: Vec<Cause> = Vec::new();
    for role in Role::ALL {
        let pick = plan.selection.of(role);
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
    if let Some(problems) = Condition::because("False", &problems.iter().collect::<Vec<_>>()) {
        return problems;
    }
    if plan.selection.control_plane.total == 0 {
        return Condition::new(
            "Unknown",
            Reason::Unknown,
            "machines were not looked for yet",
        );
    }
    Condition::new("True", Reason::AsExpected, "all machines are assigned")
}

fn role_ready(observed: &Observed, role: &RoleStatus, name: &str) -> Condition {
    if observed.spec.is_err() {
        return Condition::new(
            "Unknown",
            Reason::InvalidSpec,
            "the spec must be corrected first",
        );
    }
    if role.total == 0 {
        return Condition::new(
            "True",
            Reason::NoneRequested,
            format!("the spec asks for no {name} machine"),
        );
    }
    let message = format!("{} {name} machines ready", role.summary);
    if role.ready >= role.total {
        Condition::new("True", Reason::AsExpected, message)
    } else {
        Condition::new("False", Reason::WaitingForMachines, message)
    }
}

fn kubeconfig_ready(observed: &Observed, plan: &Plan, was_true: bool, now: Timestamp) -> Condition {
    let waits = waits_of(plan, ConditionType::KubeconfigReady);
    let stored = matches!(
        observed.kubeconfig.secret,
        SecretView::Ours | SecretView::Adopted
    );
    let name = kubeconfig_name(&observed.cluster.name);
    let works = format!("Secret {name} holds a kubeconfig that works");
    let works = match (&observed.kubeconfig.works, waits.is_empty()) {
        // It works, and cannot be renewed.
        (Works::Yes, false) => format!("{works}; {}", sentence(&waits)),
        _ => works,
    };
    let works = Condition::new("True", Reason::AsExpected, works);
    match (&observed.kubeconfig.works, stored) {
        (Works::Yes, true) => works,
        // What was true is not taken back before it was tried, nor at the first failure.
        (_, true) if was_true && observed.elapsed(&Clock::Kubeconfig, now) < READY_BEARS_FOR => {
            works
        }
        (Works::Unknown, true) => Condition::new(
            "Unknown",
            Reason::Unknown,
            "the stored kubeconfig is being tried",
        ),
        _ => Condition::because("False", &waits).unwrap_or_else(|| {
            Condition::new(
                "False",
                Reason::WaitingForControlPlane,
                format!("Secret {name} does not exist yet"),
            )
        }),
    }
}

/// Machines, few by name and the rest by number, and the verb that goes with them.
fn they(machines: &[&MachineName], one: &str, several: &str) -> String {
    const NAMED: usize = 10;
    let names: Vec<&str> = machines.iter().map(|it| it.as_str()).take(NAMED).collect();
    let verb = if machines.len() == 1 { one } else { several };
    let more = match machines.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more} {verb}", names.join(", "))
}

/// What is being changed, what it waits for, and what else is out of date: few machines by name, many by number.
fn rolling_out(plan: &Plan) -> Condition {
    const NAMED: usize = 5;
    let waits = || {
        let waits = plan.waits.iter();
        waits.filter(|wait| wait.condition == ConditionType::RollingOut)
    };
    let mut flights: BTreeMap<&str, Vec<&MachineName>> = BTreeMap::new();
    for (machine, flight) in &plan.in_flight {
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
    let others = || {
        let mut outdated = plan.outdated.iter();
        std::iter::from_fn(move || outdated.next())
            .filter(|(machine, _)| !plan.in_flight.contains_key(*machine))
    };
    problems.extend(others().take(NAMED).map(|(machine, differences)| {
        format!("{machine} is out of date ({})", listed(differences))
    }));
    let more = others().count().saturating_sub(NAMED);
    if more > 0 {
        problems.push(format!("{more} more are out of date"));
    }
    for role in Role::ALL {
        let leaving: Vec<_> = plan.selection.of(role).leaving.iter().collect();
        if !leaving.is_empty() {
            problems.push(format!("{} to leave", they(&leaving, "is", "are")));
        }
    }
    if problems.is_empty() {
        return Condition::new("False", Reason::AsExpected, "");
    }
    // What holds up a machine in flight says more than that it is.
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

fn ready(
    observed: &Observed,
    plan: &Plan,
    [
        stalled,
        machines,
        control_plane,
        data_plane,
        rolling_out,
        kubeconfig,
    ]: [&Condition; 6],
    was_true: bool,
    new_generation: bool,
    now: Timestamp,
) -> Condition {
    let because = |part: &Condition| Condition {
        status: "False",
        cause: part.cause.clone(),
    };
    if observed.cluster.deleting {
        return Condition::new("False", Reason::Deleting, "the cluster is being deleted");
    }
    if stalled.holds() {
        return because(stalled);
    }
    for part in [machines, control_plane, data_plane] {
        if !part.holds() {
            return because(part);
        }
    }
    if rolling_out.holds() {
        return because(rolling_out);
    }
    if !kubeconfig.holds() {
        return because(kubeconfig);
    }
    if new_generation {
        return Condition::new(
            "False",
            Reason::Progressing,
            "the spec changed and is not evaluated yet",
        );
    }
    let amiss = soft_problems(observed, &plan.selection)
        .into_iter()
        .find(|soft| !was_true || observed.elapsed(&soft.clock, now) >= READY_BEARS_FOR);
    if let Some(Soft { cause, .. }) = amiss {
        let status = "False";
        return Condition { status, cause };
    }
    let well = "every machine is up to date and the kubeconfig works";
    // What is amiss and takes nothing from the cluster.
    match waits_of(plan, ConditionType::Ready).as_slice() {
        [] => Condition::new("True", Reason::AsExpected, well),
        waits @ [first, ..] => {
            let message = format!("{well}; {}", sentence(waits));
            Condition::new("True", first.reason, message)
        }
    }
}

fn reconciling(
    plan: &Plan,
    ready: &Condition,
    stalled: &Condition,
    refusal: Option<&Refusal>,
) -> Condition {
    if let Some(Refusal(message)) = refusal {
        return Condition::new("True", Reason::ApiRefused, message.clone());
    }
    let waits = waits_of(plan, ConditionType::Reconciling);
    if let Some(waits) = Condition::because("True", &waits) {
        return waits;
    }
    if ready.holds() || stalled.holds() {
        return Condition::new("False", Reason::AsExpected, "");
    }
    Condition::new("True", Reason::Progressing, ready.cause.message.clone())
}
