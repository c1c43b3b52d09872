//! When the kubeconfig is fetched, stored and tried (SPEC 6).

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason};
use crate::api::names::{MachineName, kubeconfig_name};
use crate::api::status::Role;

use super::action::{Action, Clock, Plan};
use super::confirmed::is_confirmed;
use super::founding::Founding;
use super::observed::{KnownHostsView, NotWorking, Observed, SecretView, SshKeyView, Works};

/// How long a kubeconfig whose API server cannot be reached is held back (SPEC 6).
const UNVERIFIED_AFTER: Duration = Duration::from_secs(600);

/// How soon one that does not work is tried again.
pub const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Has the stored kubeconfig tried where that is due, and says where it does not work. Writes nothing.
pub fn try_stored(observed: &Observed, plan: &mut Plan) {
    let name = kubeconfig_name(&observed.cluster.name);
    if observed.kubeconfig.secret != SecretView::Ours {
        return;
    }
    if observed.kubeconfig.try_again {
        plan.actions.push(Action::VerifyKubeconfig);
    }
    if observed.kubeconfig.works != Works::Yes {
        plan.look_again_in(TRY_AGAIN);
    }
    if let Works::No(NotWorking { unreachable, why }) = &observed.kubeconfig.works {
        let (reason, mend) = if *unreachable {
            (Reason::Unverified, String::new())
        } else {
            (
                Reason::KubeconfigBroken,
                format!("; delete Secret {name} to have it read anew"),
            )
        };
        plan.wait(
            ConditionType::KubeconfigReady,
            reason,
            format!("nodes cannot be listed through the stored kubeconfig: {why}{mend}"),
        );
    }
}

/// Plans how a kubeconfig that is not there yet is had.
pub fn plan_kubeconfig(observed: &Observed, founding: &Founding, now: Timestamp, plan: &mut Plan) {
    let name = kubeconfig_name(&observed.cluster.name);
    let message = match observed.kubeconfig.secret {
        SecretView::Ours => return,
        SecretView::Absent => return fetch(observed, founding, now, plan),
        SecretView::Foreign | SecretView::Adopted | SecretView::Unusable => {
            format!(
                "Secret {name} exists and is not what NICO would write there: rename or delete it"
            )
        }
        SecretView::Terminating | SecretView::Leftover => {
            format!("Secret {name} is being deleted and a finalizer holds it")
        }
    };
    plan.wait(
        ConditionType::KubeconfigReady,
        Reason::SecretConflict,
        message,
    );
}

fn fetch(observed: &Observed, founding: &Founding, now: Timestamp, plan: &mut Plan) {
    let pick = &plan.selection.control_plane;
    let all_exist = founding.founded || (pick.total > 0 && pick.staying.len() == pick.total);
    let mut machines: Vec<MachineName> = observed
        .members_of(Role::ControlPlane)
        .filter(|(_, configuration)| {
            is_confirmed(configuration) && configuration.metadata.deletion_timestamp.is_none()
        })
        .map(|(machine, _)| machine)
        .collect();
    // The founder has the file first; the others follow in name order.
    machines.sort_by_key(|machine| Some(machine) != founding.bootstrap.as_ref());
    if !all_exist || machines.is_empty() {
        plan.wait(
            ConditionType::KubeconfigReady,
            Reason::WaitingForControlPlane,
            "the kubeconfig is read once a control plane machine is confirmed",
        );
        return;
    }
    if let Some((reason, message)) = no_key(observed, &machines) {
        plan.wait(ConditionType::KubeconfigReady, reason, message);
        return;
    }
    let fetch = &observed.kubeconfig.fetch;
    let at_hand = match &fetch.at_hand {
        None => {
            let (reason, message) = fetch.failure.clone().unwrap_or((
                Reason::Fetching,
                "the kubeconfig is being read from the control plane".to_owned(),
            ));
            plan.wait(ConditionType::KubeconfigReady, reason, message);
            None
        }
        Some(at_hand) => match &at_hand.verified {
            Ok(()) => Some(at_hand),
            Err(NotWorking { unreachable, why }) => {
                plan.wait(
                    ConditionType::KubeconfigReady,
                    Reason::Unverified,
                    format!(
                        "the kubeconfig was read, and nodes cannot be listed through it: {why}"
                    ),
                );
                // One that the API server refuses is worth nothing to anybody; one that only NICO cannot try may be.
                if *unreachable {
                    plan.clocks.insert(Clock::Unverified);
                }
                let waited = observed.elapsed(&Clock::Unverified, now);
                (*unreachable && waited >= UNVERIFIED_AFTER).then_some(at_hand)
            }
        },
    };
    // A key that was logged in to once is pinned, whatever came of the rest.
    if fetch.new_host_key && observed.known_hosts != KnownHostsView::Foreign {
        plan.actions.push(Action::PinHostKey);
    }
    match at_hand {
        Some(_) => plan.actions.push(Action::StoreKubeconfig),
        None if !fetch.running => plan.actions.push(Action::FetchKubeconfig(machines)),
        None => {}
    }
}

/// Why none of the machines can be logged in to; `None` where one can.
fn no_key(observed: &Observed, machines: &[MachineName]) -> Option<(Reason, String)> {
    let mut why = None;
    for machine in machines {
        match observed.ssh_keys.get(machine) {
            Some(SshKeyView::Usable { .. }) => return None,
            Some(SshKeyView::Unusable(reason, message)) => {
                why = why.or(Some((*reason, message.clone())));
            }
            None => {}
        }
    }
    why.or_else(|| {
        Some((
            Reason::MachineMissing,
            "no confirmed control plane machine has a Machine object to log in by".to_owned(),
        ))
    })
}
