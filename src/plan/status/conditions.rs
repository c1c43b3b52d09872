//! The conditions: what holds, why, and what a person can do about it.

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason};
use crate::api::names::kubeconfig_name;
use crate::api::status::{ClusterCondition, Role, RoleStatus};
use crate::plan::action::{Action, Plan, Wait};
use crate::plan::desired::listed;
use crate::plan::observed::{Observed, SecretView, Works};
use crate::plan::patience::Clock;

use super::Refusal;
use super::soft::{SOFT, Soft, soft_problems, unreachable};

/// Something in a condition: its status, reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    status: &'static str,
    reason: Reason,
    message: String,
}

impl Verdict {
    fn new(status: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
        }
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
    let old = |kind: ConditionType| {
        let name = kind.to_string();
        observed
            .cluster
            .status
            .conditions
            .iter()
            .find(move |condition| condition.kind == name)
    };
    let was_true = |kind| old(kind).is_some_and(|condition| condition.status == "True");
    let stalled = stalled(plan);
    let machines = machines_available(observed, plan);
    let kubeconfig = kubeconfig_ready(
        observed,
        plan,
        was_true(ConditionType::KubeconfigReady),
        now,
    );
    let rolling_out = rolling_out(plan);
    let control_plane = role_ready(observed, &roles[0], "control plane");
    let data_plane = role_ready(observed, &roles[1], "worker");
    let new_generation =
        observed.cluster.status.observed_generation != Some(observed.cluster.generation);
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
        was_true(ConditionType::Ready) && !new_generation,
        new_generation,
        now,
    );
    let reconciling = reconciling(plan, &ready, &stalled, refusal);
    let paused = if observed.spec.as_ref().is_ok_and(|spec| spec.paused) {
        Verdict::new(
            "True",
            Reason::PausedBySpec,
            "spec.paused is true: nothing but status and marks is written",
        )
    } else {
        Verdict::new("False", Reason::NotPaused, "")
    };
    ConditionType::ALL
        .into_iter()
        .map(|kind| {
            let verdict = match kind {
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
            let since = old(kind)
                .filter(|old| old.status == verdict.status)
                .and_then(|old| old.last_transition_time);
            ClusterCondition {
                kind: kind.to_string(),
                status: verdict.status.to_owned(),
                observed_generation: Some(observed.cluster.generation),
                last_transition_time: Some(since.unwrap_or(now)),
                reason: verdict.reason.to_string(),
                message: bounded(&verdict.message),
            }
        })
        .collect()
}

/// Kubernetes allows 32 KiB; a person reads less.
fn bounded(message: &str) -> String {
    const MOST: usize = 1024;
    if message.chars().count() <= MOST {
        return message.to_owned();
    }
    message.chars().take(MOST - 1).chain(['…']).collect()
}

fn sentence(waits: &[&Wait]) -> String {
    let messages: Vec<&str> = waits.iter().map(|wait| wait.message.as_str()).collect();
    messages.join("; ")
}

fn waits_of(plan: &Plan, kind: ConditionType) -> Vec<&Wait> {
    plan.waits
        .iter()
        .filter(|wait| wait.condition == kind)
        .collect()
}

fn stalled(plan: &Plan) -> Verdict {
    let waits = waits_of(plan, ConditionType::Stalled);
    match waits.first() {
        Some(first) => Verdict::new("True", first.reason, sentence(&waits)),
        None => Verdict::new("False", Reason::AsExpected, ""),
    }
}

fn machines_available(observed: &Observed, plan: &Plan) -> Verdict {
    let waits = waits_of(plan, ConditionType::MachinesAvailable);
    if let Some(first) = waits.first() {
        return Verdict::new("False", first.reason, sentence(&waits));
    }
    if observed.spec.is_err() {
        return Verdict::new(
            "Unknown",
            Reason::InvalidSpec,
            "the spec has to be mended first",
        );
    }
    let contested = observed.contested();
    let mut problems: Vec<(Reason, String)> = Vec::new();
    for role in Role::ALL {
        let pick = plan.selection.of(role);
        if pick.missing() > 0 {
            problems.extend(
                pick.obstacles
                    .iter()
                    .map(|obstacle| (obstacle.reason, obstacle.message.clone())),
            );
        }
        for machine in &pick.staying {
            if let Some(other) = contested.get(machine.as_str()) {
                problems.push((
                    Reason::MachineInUse,
                    format!("Machine {machine} is also named by NixosConfiguration {other}, which is not of this cluster: NIO applies both in turn; delete one of them"),
                ));
            }
            if !observed.machines.contains_key(machine) {
                problems.extend(unreachable(observed, machine));
            }
        }
    }
    match problems.first() {
        Some((reason, _)) => {
            let messages: Vec<String> = problems
                .iter()
                .map(|(_, message)| message.clone())
                .collect();
            Verdict::new("False", *reason, messages.join("; "))
        }
        None if plan.selection.control_plane.total == 0 => Verdict::new(
            "Unknown",
            Reason::Unknown,
            "machines were not looked for yet",
        ),
        None => Verdict::new(
            "True",
            Reason::AsExpected,
            "every machine that the spec asks for is there",
        ),
    }
}

fn role_ready(observed: &Observed, role: &RoleStatus, name: &str) -> Verdict {
    if observed.spec.is_err() {
        return Verdict::new(
            "Unknown",
            Reason::InvalidSpec,
            "the spec has to be mended first",
        );
    }
    if role.total == 0 {
        return Verdict::new(
            "True",
            Reason::NoneRequested,
            format!("the spec asks for no {name} machine"),
        );
    }
    let message = format!("{} {name} machines ready", role.summary);
    if role.ready >= role.total {
        Verdict::new("True", Reason::AsExpected, message)
    } else {
        Verdict::new("False", Reason::WaitingForMachines, message)
    }
}

fn kubeconfig_ready(observed: &Observed, plan: &Plan, was_true: bool, now: Timestamp) -> Verdict {
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
    let works = Verdict::new("True", Reason::AsExpected, works);
    match (&observed.kubeconfig.works, stored) {
        (Works::Yes, true) => works,
        // What was true is not taken back before it was tried, nor at the first failure.
        (_, true) if was_true && observed.elapsed(&Clock::Kubeconfig, now) < SOFT => works,
        (Works::Unknown, true) => Verdict::new(
            "Unknown",
            Reason::Unknown,
            "the stored kubeconfig is being tried",
        ),
        _ => match waits.first() {
            Some(first) => Verdict::new("False", first.reason, sentence(&waits)),
            None => Verdict::new(
                "False",
                Reason::WaitingForControlPlane,
                format!("Secret {name} does not exist yet"),
            ),
        },
    }
}

/// What is being changed, what it waits for, and what else is out of date: few machines by name, many by number.
fn rolling_out(plan: &Plan) -> Verdict {
    const NAMED: usize = 5;
    let waits = waits_of(plan, ConditionType::RollingOut);
    let mut problems: Vec<String> = plan
        .in_flight
        .iter()
        .map(|(machine, flight)| format!("{machine} waits for {}", flight.waiting_for))
        .collect();
    problems.extend(plan.actions.iter().filter_map(|action| match action {
        Action::Take { machine, .. } => Some(format!("{machine} is next")),
        _ => None,
    }));
    problems.extend(waits.iter().map(|wait| wait.message.clone()));
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
        let leaving = plan.selection.of(role).leaving.iter();
        problems.extend(leaving.map(|machine| format!("{machine} is to leave")));
    }
    if problems.is_empty() {
        return Verdict::new("False", Reason::AsExpected, "");
    }
    // What holds up a machine in flight says more than that it is.
    let holds_up = |wait: &&&Wait| {
        let machine = wait.machine.as_ref();
        machine.is_some_and(|machine| plan.in_flight.contains_key(machine))
    };
    let own = waits.iter().find(holds_up).map(|wait| wait.reason);
    let in_flight = (!plan.in_flight.is_empty()).then_some(Reason::InFlight);
    let first = waits.first().map(|wait| wait.reason);
    let reason = own.or(in_flight).or(first).unwrap_or(Reason::OutOfDate);
    Verdict::new("True", reason, problems.join("; "))
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
    ]: [&Verdict; 6],
    was_true: bool,
    new_generation: bool,
    now: Timestamp,
) -> Verdict {
    let because =
        |verdict: &Verdict| Verdict::new("False", verdict.reason, verdict.message.clone());
    if observed.cluster.deleting {
        return Verdict::new("False", Reason::Deleting, "the cluster is being deleted");
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
        return Verdict::new(
            "False",
            Reason::Progressing,
            "a new generation of the spec is being looked at",
        );
    }
    let amiss = soft_problems(observed, plan)
        .into_iter()
        .find(|soft| !was_true || observed.elapsed(&soft.clock, now) >= SOFT);
    match amiss {
        Some(Soft {
            reason, message, ..
        }) => Verdict::new("False", reason, message),
        None => Verdict::new(
            "True",
            Reason::AsExpected,
            "every machine is confirmed and the kubeconfig works",
        ),
    }
}

fn reconciling(
    plan: &Plan,
    ready: &Verdict,
    stalled: &Verdict,
    refusal: Option<&Refusal>,
) -> Verdict {
    if let Some(Refusal(message)) = refusal {
        return Verdict::new("True", Reason::ApiRefused, message.clone());
    }
    let waits = waits_of(plan, ConditionType::Reconciling);
    if let Some(first) = waits.first() {
        return Verdict::new("True", first.reason, sentence(&waits));
    }
    if ready.holds() || stalled.holds() {
        return Verdict::new("False", Reason::AsExpected, "");
    }
    Verdict::new("True", Reason::Progressing, ready.message.clone())
}
