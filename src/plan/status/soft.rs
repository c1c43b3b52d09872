//! What `Ready` bears for a minute, since it may pass by itself (SPEC 1.2).

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::Reason;
use crate::api::names::MachineName;
use crate::api::status::Role;
use crate::plan::action::Plan;
use crate::plan::confirmed::complaint;
use crate::plan::observed::{NotWorking, Observed, SecretView, Works};
use crate::plan::patience::Clock;

/// How long it is borne.
pub(super) const SOFT: Duration = Duration::from_secs(60);

/// Something that `Ready` bears, and the clock that says for how long it has been so.
pub struct Soft {
    /// Its own clock.
    pub clock: Clock,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, for a person.
    pub message: String,
}

/// What is amiss that `Ready` bears for a minute: discoverability, NIO's complaints, the kubeconfig (SPEC 1.2).
#[must_use]
pub fn soft_problems(observed: &Observed, plan: &Plan) -> Vec<Soft> {
    let mut problems = Vec::new();
    for machine in Role::ALL
        .iter()
        .flat_map(|role| &plan.selection.of(*role).staying)
    {
        if let Some((reason, message)) = unreachable(observed, machine) {
            problems.push(Soft {
                clock: Clock::Undiscoverable(machine.clone()),
                reason,
                message,
            });
        }
        let configuration = observed.configurations.get(machine.as_str());
        if let (Some(nio), Some(configuration)) = (observed.nio, configuration)
            && let Some(complaint) = complaint(nio, configuration)
        {
            problems.push(Soft {
                clock: Clock::Complaint(machine.clone()),
                reason: Reason::NIOComplains,
                message: format!("Machine {machine}: {complaint}"),
            });
        }
    }
    let amiss = match &observed.kubeconfig.works {
        _ if observed.kubeconfig.secret != SecretView::Ours => None,
        Works::Yes => None,
        Works::Unknown => Some((
            Reason::Unknown,
            "the stored kubeconfig is being tried".to_owned(),
        )),
        Works::No(NotWorking { why, .. }) => Some((
            Reason::KubeconfigBroken,
            format!("nodes cannot be listed through the stored kubeconfig: {why}"),
        )),
    };
    problems.extend(amiss.map(|(reason, message)| Soft {
        clock: Clock::Kubeconfig,
        reason,
        message,
    }));
    problems
}

/// Starts the clocks of what `Ready` bears, and looks again when the first of them has run out.
pub fn keep_soft_clocks(observed: &Observed, now: Timestamp, plan: &mut Plan) {
    for Soft { clock, .. } in soft_problems(observed, plan) {
        let rest = SOFT.saturating_sub(observed.elapsed(&clock, now));
        if !rest.is_zero() {
            plan.look_again_in(rest);
        }
        plan.clocks.insert(clock);
    }
}

/// Why NIO cannot reach a machine, in one word and for a person; `None` where it can.
pub(super) fn unreachable(observed: &Observed, machine: &MachineName) -> Option<(Reason, String)> {
    if observed.discoverable(machine) {
        return None;
    }
    Some(if observed.machines.contains_key(machine) {
        (
            Reason::MachineUndiscoverable,
            format!("Machine {machine} is not discoverable: NIO cannot reach it"),
        )
    } else {
        (
            Reason::MachineMissing,
            format!("Machine {machine} no longer exists; its configuration is kept"),
        )
    })
}
