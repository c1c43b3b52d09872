//! Problems that `Ready` tolerates for a minute, because they may end by themselves.

use jiff::Timestamp;

use crate::api::conditions::{Cause, Reason};
use crate::api::names::{FORCE_RELEASE_ANNOTATION, MachineName};
use crate::api::nio::Machine;
use crate::api::status::Role;
use crate::plan::kubeconfig::cannot_list_nodes;
use crate::plan::observed::{NotWorking, Observed, SecretView, Works};
use crate::plan::output::Output;
use crate::plan::patience::{Clock, READY_BEARS_FOR};
use crate::plan::selection::{Selection, malformed_address, undiscoverable};

/// A problem that `Ready` tolerates, with the clock of its duration.
pub struct Soft {
    /// Its own clock.
    pub clock: Clock,
    /// Reason and message.
    pub cause: Cause,
}

/// The problems that `Ready` tolerates for a minute: undiscoverable machines, errors of NIO, and the kubeconfig.
#[must_use]
pub fn soft_problems(observed: &Observed, selection: &Selection) -> Vec<Soft> {
    let mut problems = Vec::new();
    for machine in Role::ALL
        .iter()
        .flat_map(|role| &selection.for_role(*role).staying)
    {
        if let Some(cause) = unreachable(observed, machine) {
            problems.push(Soft {
                clock: Clock::Undiscoverable(machine.clone()),
                cause,
            });
        }
        let member = observed.member(machine);
        if let Some(complaint) = member.and_then(|member| member.complaint()) {
            let message =
                format!("Machine {machine}: {complaint}: see its NixosConfiguration and NIO's log");
            problems.push(Soft {
                clock: Clock::Complaint(machine.clone()),
                cause: Cause::new(Reason::NIOComplains, message),
            });
        }
    }
    let amiss = match &observed.kubeconfig.works {
        _ if observed.kubeconfig.secret != SecretView::Ours => None,
        Works::Yes => None,
        Works::Unknown => Some(Cause::new(
            Reason::Unknown,
            "the stored kubeconfig is being tried",
        )),
        Works::No(NotWorking { why, .. }) => {
            Some(Cause::new(Reason::KubeconfigBroken, cannot_list_nodes(why)))
        }
    };
    problems.extend(amiss.map(|cause| Soft {
        clock: Clock::Kubeconfig,
        cause,
    }));
    problems
}

/// Keeps the clocks of these problems, and plans again when the first of them has run out.
pub fn keep_soft_clocks(observed: &Observed, selection: &Selection, now: Timestamp) -> Output {
    let mut output = Output::default();
    for Soft { clock, .. } in soft_problems(observed, selection) {
        output.has_run(observed, clock, now, READY_BEARS_FOR);
    }
    output
}

/// Why NIO cannot reach a machine; `None` if it can.
pub(super) fn unreachable(observed: &Observed, machine: &MachineName) -> Option<Cause> {
    if observed.discoverable(machine) {
        return None;
    }
    let malformed = observed
        .machine(machine)
        .and_then(Machine::malformed_address);
    Some(if let Some(field) = malformed {
        malformed_address(machine, field)
    } else if observed.machines.contains_key(machine) {
        undiscoverable(observed, machine)
    } else {
        Cause::new(
            Reason::MachineMissing,
            format!(
                "Machine {machine} no longer exists, and its configuration is kept: create the Machine again, or, where it is permanently off, take it out of the spec and annotate the cluster {FORCE_RELEASE_ANNOTATION}: {machine}"
            ),
        )
    })
}
