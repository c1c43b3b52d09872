//! The conditions, with reasons and with messages that say what to do.

use jiff::Timestamp;

use crate::api::conditions::{Attention, Cause, ConditionType, Reason};
use crate::api::names::kubeconfig_name;
use crate::api::status::{ClusterCondition, Role, RoleStatus};
use crate::api::text::shown;
use crate::plan::action::Plan;
use crate::plan::observed::{Observed, SecretView, Works};
use crate::plan::patience::{Clock, READY_BEARS_FOR};

use super::Refusal;
use super::leftovers::{ignored_fields, left_declarations};
use super::mistakes::{has_stood, nothing_goes_on, of_machines, soft_mistake, stops_rollout};
use super::paused;
use super::rolling::{rolling_out, waited_for};
use super::soft::{Soft, soft_problems};

/// Status, reason and message of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    status: &'static str,
    cause: Cause,
}

impl Condition {
    pub(super) fn new(status: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        let cause = Cause::new(reason, message);
        Self { status, cause }
    }

    /// Combines causes: the reason of the first, and the messages of all. `None` if there are none.
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
    let machines = machines_available(observed, plan);
    let kubeconfig = kubeconfig_ready(
        observed,
        plan,
        old.holds(ConditionType::KubeconfigReady),
        now,
    );
    let updated = roles.iter().fold((0, 0), |(updated, total), role| {
        (updated + role.updated, total + role.total)
    });
    let rolling_out = rolling_out(observed, plan, updated);
    let lost = waits_of(plan, ConditionType::ControlPlaneReady);
    let waited_for = Role::ALL.map(|role| waited_for(observed, plan, role));
    let control_plane = role_ready(
        observed,
        &roles[0],
        ("control plane", &waited_for[0]),
        &lost,
    );
    let data_plane = role_ready(observed, &roles[1], ("worker", &waited_for[1]), &[]);
    let new_generation = old.observed_generation != Some(observed.cluster.generation);
    let stalled = stalled(observed, plan, [&machines, &rolling_out, &kubeconfig], now);
    let mut ready = ready(
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
        (old.holds(ConditionType::Ready), new_generation),
        now,
    );
    let is_paused = observed.is_paused();
    let paused = if is_paused {
        ready.cause.message = format!("paused: {}", ready.cause.message);
        Condition::new(
            "True",
            Reason::PausedBySpec,
            paused::would_change(observed, plan),
        )
    } else {
        Condition::new("False", Reason::NotPaused, "")
    };
    let reconciling = reconciling(plan, [&ready, &stalled, &paused], refusal);
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

fn stalled(
    observed: &Observed,
    plan: &Plan,
    [machines, rolling_out, kubeconfig]: [&Condition; 3],
    now: Timestamp,
) -> Condition {
    if let Some(waits) = Condition::because("True", &waits_of(plan, ConditionType::Stalled)) {
        return waits;
    }
    let goes_on = Condition::new("False", Reason::AsExpected, "");
    let paused = observed.is_paused();
    if observed.cluster.deleting || paused || !nothing_goes_on(observed, plan) {
        return goes_on;
    }
    let stops = stops_rollout(&waits_of(plan, ConditionType::RollingOut));
    let stalls = |part: &&Condition| has_stood(observed, &part.cause, now);
    let others_hold = machines.holds() && !rolling_out.holds();
    let soft = soft_mistake(observed, plan).filter(|_| others_hold);
    let soft = soft.map(|cause| Condition {
        status: "False",
        cause,
    });
    let amiss = [
        Some(machines).filter(|it| !it.holds()).filter(stalls),
        Some(rolling_out).filter(|it| it.holds() && (stops || stalls(it))),
        Some(kubeconfig)
            .filter(|it| !it.holds() && others_hold)
            .filter(stalls),
        soft.as_ref().filter(stalls),
    ];
    let because = |part: &Condition| Condition {
        status: "True",
        cause: part.cause.clone(),
    };
    let first = amiss.into_iter().flatten().next();
    first.map_or(goes_on, because)
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
    let problems = of_machines(observed, &plan.selection);
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
    let assigned = "all machines are assigned".to_owned();
    let assigned = ignored_fields(observed).fold(assigned, |it, more| format!("{it}; {more}"));
    Condition::new("True", Reason::AsExpected, assigned)
}

fn role_ready(
    observed: &Observed,
    role: &RoleStatus,
    (name, waited_for): (&str, &str),
    waits: &[&Cause],
) -> Condition {
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
    let message = format!("{} {name} machines ready{waited_for}", role.summary);
    let all = role.ready >= role.total;
    if let Some(mut waits) = Condition::because("False", waits) {
        if !all {
            waits.cause.message = format!("{message}; {}", waits.cause.message);
        }
        return waits;
    }
    if all {
        Condition::new("True", Reason::AsExpected, message)
    } else {
        Condition::new("False", Reason::WaitingForMachines, message)
    }
}

fn kubeconfig_ready(observed: &Observed, plan: &Plan, was_true: bool, now: Timestamp) -> Condition {
    if observed.cluster.deleting {
        let message = "the kubeconfig is not looked at while the cluster is being deleted";
        return Condition::new("Unknown", Reason::Deleting, message);
    }
    let waits = waits_of(plan, ConditionType::KubeconfigReady);
    let stored = matches!(
        observed.kubeconfig.secret,
        SecretView::Ours | SecretView::Adopted
    );
    let name = kubeconfig_name(&observed.cluster.name);
    let works = format!("Secret {name} holds a kubeconfig that works");
    let works = match (&observed.kubeconfig.works, waits.is_empty()) {
        // It works, but cannot be renewed, or a host key changed.
        (Works::Yes, false) => {
            let reasons = waits.iter().map(|wait| wait.reason);
            let mut calls = reasons.filter(|reason| reason.attention() == Attention::Yes);
            let reason = calls.next().unwrap_or(Reason::AsExpected);
            Condition::new("True", reason, format!("{works}; {}", sentence(&waits)))
        }
        _ => Condition::new("True", Reason::AsExpected, works),
    };
    match (&observed.kubeconfig.works, stored) {
        (Works::Yes, true) => works,
        // A condition that was true stays true until the kubeconfig was tried, and at its first failure.
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
    (was_true, new_generation): (bool, bool),
    now: Timestamp,
) -> Condition {
    let because = |part: &Condition| Condition {
        status: "False",
        cause: part.cause.clone(),
    };
    if observed.cluster.deleting {
        let waits = Condition::because("False", &waits_of(plan, ConditionType::Ready));
        return waits.unwrap_or_else(|| {
            Condition::new("False", Reason::Deleting, "the cluster is being deleted")
        });
    }
    if stalled.holds() {
        return because(stalled);
    }
    if !machines.holds() {
        return because(machines);
    }
    for part in [control_plane, data_plane] {
        if part.holds() {
            continue;
        }
        let mut ready = because(part);
        if rolling_out.holds() {
            let (cause, rolling) = (&mut ready.cause, &rolling_out.cause);
            // What is done says more than that a machine is not up to date meanwhile.
            let calls = cause.reason.attention() != Attention::No;
            let (first, then) = if calls {
                (&cause.message, &rolling.message)
            } else {
                (&rolling.message, &cause.message)
            };
            cause.message = format!("{first}; {then}");
            if !calls && rolling.reason.attention() != Attention::No {
                cause.reason = rolling.reason;
            }
        }
        return ready;
    }
    if rolling_out.holds() {
        return because(rolling_out);
    }
    if !kubeconfig.holds() {
        return because(kubeconfig);
    }
    if new_generation && !observed.live {
        return Condition::new(
            "False",
            Reason::Progressing,
            "the spec changed and is not evaluated yet",
        );
    }
    let amiss = soft_problems(observed, &plan.selection)
        .into_iter()
        .find(|soft| {
            !was_true || new_generation || observed.elapsed(&soft.clock, now) >= READY_BEARS_FOR
        });
    if let Some(Soft { cause, .. }) = amiss {
        let status = "False";
        return Condition { status, cause };
    }
    let mut well = "every machine is up to date and the kubeconfig works".to_owned();
    for remark in left_declarations(observed).chain(ignored_fields(observed)) {
        well = format!("{well}; {remark}");
    }
    // Problems that do not keep the cluster from working.
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
    [ready, stalled, paused]: [&Condition; 3],
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
    if paused.holds() {
        let Cause { reason, message } = paused.cause.clone();
        return Condition::new("False", reason, message);
    }
    Condition::new("True", Reason::Progressing, ready.cause.message.clone())
}
