//! When the kubeconfig is fetched, stored and tried (SPEC 6).

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::names::{MachineName, kubeconfig_name};

use super::action::{Action, KubeconfigWork, Plan, Wait};
use super::founding::Founding;
use super::observed::{
    KnownHostsView, NotWorking, Observed, SecretView, SshKeyView, Stored, Works,
};
use super::patience::Clock;
use super::writes::Wanted;

/// How long a kubeconfig whose API server cannot be reached is held back (SPEC 6).
const UNVERIFIED_AFTER: Duration = Duration::from_secs(600);

/// How soon one that does not work is tried again.
pub const TRY_AGAIN: Duration = Duration::from_secs(10);
/// So many failures in a row, and it is read anew (SPEC 6).
const FAILURES: u32 = 3;
/// How soon one that could not be replaced is read anew once more.
const FETCH_AGAIN: Duration = Duration::from_secs(60);
/// How often one is read anew whose client certificate has passed half of its life (SPEC 6).
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// Has the stored kubeconfig tried where that is due, and says where it does not work. Writes nothing.
pub fn try_stored(observed: &Observed, plan: &mut Plan) {
    let kubeconfig = &observed.kubeconfig;
    if kubeconfig.secret != SecretView::Ours {
        return;
    }
    if kubeconfig.try_again {
        plan.actions
            .push(Action::Kubeconfig(KubeconfigWork::Verify));
    }
    if kubeconfig.works != Works::Yes {
        plan.look_again_in(TRY_AGAIN);
    }
    if let Works::No(NotWorking { unreachable, why }) = &kubeconfig.works {
        let reason = if *unreachable {
            Reason::Unverified
        } else {
            Reason::KubeconfigBroken
        };
        plan.wait(
            ConditionType::KubeconfigReady,
            reason,
            format!("nodes cannot be listed through the stored kubeconfig: {why}"),
        );
    }
}

/// Plans how a kubeconfig is had, and had anew.
pub fn plan_kubeconfig(observed: &Observed, founding: &Founding, now: Timestamp, plan: &mut Plan) {
    let name = kubeconfig_name(&observed.cluster.name);
    let message = match (observed.kubeconfig.secret, &observed.kubeconfig.stored) {
        (SecretView::Ours | SecretView::Unusable, Some(stored)) => {
            return renew(observed, founding, stored, now, plan);
        }
        // Somebody looked at its name alone.
        (SecretView::Ours, None) => return,
        (SecretView::Absent, _) => return first(observed, founding, now, plan),
        (SecretView::Terminating | SecretView::Leftover, _) => {
            format!("Secret {name} is being deleted and a finalizer holds it")
        }
        _ => {
            format!(
                "Secret {name} exists and is not what NICO would write there: rename or delete it"
            )
        }
    };
    plan.wait(
        ConditionType::KubeconfigReady,
        Reason::SecretConflict,
        message,
    );
}

/// The first one, or the one after a Secret that somebody deleted.
fn first(observed: &Observed, founding: &Founding, now: Timestamp, plan: &mut Plan) {
    let pick = &plan.selection.control_plane;
    let all_exist = founding.founded || (pick.total > 0 && pick.staying.len() >= pick.total);
    let machines = sources(observed, founding.bootstrap.as_ref());
    if !all_exist || machines.is_empty() {
        plan.wait(
            ConditionType::KubeconfigReady,
            Reason::WaitingForControlPlane,
            "the kubeconfig is read once a control plane machine is confirmed",
        );
        return;
    }
    if let Some(cause) = no_key(observed, &machines) {
        plan.wait_because(ConditionType::KubeconfigReady, cause);
        return;
    }
    let fetch = &observed.kubeconfig.fetch;
    if fetch.at_hand.is_none() {
        let reading = || {
            Cause::new(
                Reason::Fetching,
                "the kubeconfig is being read from the control plane",
            )
        };
        let cause = fetch.failure.clone().unwrap_or_else(reading);
        plan.wait_because(ConditionType::KubeconfigReady, cause);
    }
    let good = is_good(observed, now, plan);
    pin(observed, plan);
    if good {
        plan.actions
            .push(Action::Kubeconfig(KubeconfigWork::Store(None)));
    } else if !fetch.running {
        plan.actions.push(Action::Kubeconfig(KubeconfigWork::Fetch(
            machines,
            Wanted::First,
        )));
    }
}

/// Why a stored kubeconfig is read anew.
enum Renewal {
    /// Somebody edited it, and there is nothing left that could be tried.
    Edited,
    /// The spec's endpoint is another one.
    Moved,
    /// It does not work.
    Broken,
    /// Its client certificate has passed half of its life: how long that is, and when it ends.
    Old(Duration, Timestamp),
}

impl Renewal {
    /// How long after one attempt the next one is made.
    fn pause(&self) -> Duration {
        match self {
            Self::Edited => TRY_AGAIN,
            Self::Moved | Self::Broken => FETCH_AGAIN,
            // Daily, and oftener where a day would be too late.
            Self::Old(life, _) => (*life / 10).clamp(TRY_AGAIN, A_DAY),
        }
    }

    fn wanted(&self) -> Wanted {
        match self {
            Self::Edited => Wanted::Any,
            Self::Moved | Self::Broken => Wanted::Working,
            Self::Old(_, ends) => Wanted::Later(*ends),
        }
    }
}

/// Reads a stored kubeconfig anew where that is due, and replaces it by one that works (SPEC 6).
fn renew(
    observed: &Observed,
    founding: &Founding,
    stored: &Stored,
    now: Timestamp,
    plan: &mut Plan,
) {
    let fetch = &observed.kubeconfig.fetch;
    pin(observed, plan);
    let Some(why) = renewal(observed, stored, now, plan) else {
        if fetch.at_hand.is_some() || fetch.failure.is_some() {
            plan.actions.push(Action::Kubeconfig(KubeconfigWork::Drop));
        }
        return;
    };
    let mut machines = sources(observed, founding.bootstrap.as_ref());
    if matches!(why, Renewal::Old(..)) {
        // The one that it came from, while that answers: another's would differ for no reason.
        let leads_to = |machine: &MachineName| {
            let address = observed.machine(machine).and_then(|it| it.address());
            address.is_some() && address == stored.host.as_deref()
        };
        machines.sort_by_key(|machine| !leads_to(machine));
    }
    if machines.is_empty() {
        plan.wait(
            ConditionType::KubeconfigReady,
            Reason::WaitingForControlPlane,
            "the kubeconfig is read anew once a control plane machine is confirmed",
        );
        return;
    }
    let failure = no_key(observed, &machines).or_else(|| fetch.failure.clone());
    match (&why, failure) {
        (_, None) => {}
        (Renewal::Old(_, ends), Some(Cause { reason, message })) => plan.wait(
            ConditionType::KubeconfigReady,
            reason,
            format!("its client certificate ends at {ends}, and it cannot be read anew: {message}"),
        ),
        (Renewal::Moved, Some(Cause { reason, message })) => plan.wait(
            ConditionType::KubeconfigReady,
            reason,
            format!("it is not made for spec.controlPlaneEndpoint yet: {message}"),
        ),
        (_, Some(Cause { reason, message })) => {
            let message = format!("the kubeconfig cannot be read anew: {message}");
            let wait = Wait {
                condition: ConditionType::KubeconfigReady,
                cause: Cause::new(reason, message),
                machine: None,
            };
            // What a person can mend comes before what came of it.
            let at = if reason == Reason::Unverified {
                plan.waits.len()
            } else {
                0
            };
            plan.waits.insert(at, wait);
        }
    }
    // One that may work is not given up for one that was not tried.
    let works = if matches!(why, Renewal::Edited) {
        is_good(observed, now, plan)
    } else {
        let at_hand = fetch.at_hand.as_ref();
        at_hand.is_some_and(|it| it.suits(why.wanted()))
    };
    if works {
        let version = Some(stored.version.clone());
        plan.actions
            .push(Action::Kubeconfig(KubeconfigWork::Store(version)));
        return;
    }
    if fetch.running {
        return;
    }
    let since = fetch.began.map(|began| now.duration_since(began));
    let waited = since.and_then(|since| Duration::try_from(since).ok());
    match waited.map(|waited| why.pause().saturating_sub(waited)) {
        Some(rest) if !rest.is_zero() => plan.look_again_in(rest),
        _ => plan.actions.push(Action::Kubeconfig(KubeconfigWork::Fetch(
            machines,
            why.wanted(),
        ))),
    }
}

fn renewal(
    observed: &Observed,
    stored: &Stored,
    now: Timestamp,
    plan: &mut Plan,
) -> Option<Renewal> {
    if stored.host.is_none() {
        plan.wait(
            ConditionType::KubeconfigReady,
            Reason::Fetching,
            "the stored kubeconfig was edited: it is read anew",
        );
        return Some(Renewal::Edited);
    }
    if observed.kubeconfig.failures >= FAILURES {
        return Some(Renewal::Broken);
    }
    let spec = observed.spec.as_ref().ok()?;
    let endpoint = spec.endpoint.as_ref().map(ToString::to_string);
    if endpoint.unwrap_or_default() != stored.endpoint {
        return Some(Renewal::Moved);
    }
    let (from, to) = stored.client_certificate?;
    let life = Duration::try_from(to.duration_since(from)).ok()?;
    let lived = Duration::try_from(now.duration_since(from)).unwrap_or_default();
    let half = life / 2;
    if lived < half {
        plan.look_again_in(half.saturating_sub(lived).max(Duration::from_secs(1)));
        return None;
    }
    Some(Renewal::Old(life, to))
}

/// Control plane machines from which it can be read. The founder has the file first; the others follow in name order.
fn sources(observed: &Observed, founder: Option<&MachineName>) -> Vec<MachineName> {
    let mut machines: Vec<MachineName> = observed
        .control_plane()
        .filter(|it| it.is_confirmed() && !it.is_deleting())
        .map(|it| it.name)
        .collect();
    machines.sort_by_key(|machine| Some(machine) != founder);
    machines
}

/// Whether what was read is to be stored: it works, or nobody could try it for so long that it may.
fn is_good(observed: &Observed, now: Timestamp, plan: &mut Plan) -> bool {
    let Some(at_hand) = &observed.kubeconfig.fetch.at_hand else {
        return false;
    };
    let Err(NotWorking { unreachable, why }) = &at_hand.verified else {
        return true;
    };
    plan.wait(
        ConditionType::KubeconfigReady,
        Reason::Unverified,
        format!("the kubeconfig was read, and nodes cannot be listed through it: {why}"),
    );
    // One that the API server refuses is worth nothing to anybody; one that only NICO cannot try may be.
    if *unreachable {
        plan.clocks.insert(Clock::Unverified);
    }
    *unreachable && observed.elapsed(&Clock::Unverified, now) >= UNVERIFIED_AFTER
}

/// A key that was logged in to once is pinned, whatever came of the rest.
fn pin(observed: &Observed, plan: &mut Plan) {
    if observed.kubeconfig.fetch.new_host_key && observed.known_hosts != KnownHostsView::Foreign {
        plan.actions
            .push(Action::Kubeconfig(KubeconfigWork::PinHostKey));
    }
}

/// Why none of the machines can be logged in to; `None` where one can.
fn no_key(observed: &Observed, machines: &[MachineName]) -> Option<Cause> {
    let mut why = None;
    for machine in machines {
        match observed.ssh_keys.get(machine) {
            Some(SshKeyView::Usable { .. }) => return None,
            Some(SshKeyView::Unusable(cause)) => why = why.or(Some(cause.clone())),
            None => {}
        }
    }
    why.or_else(|| {
        Some(Cause::new(
            Reason::MachineMissing,
            "no confirmed control plane machine has a Machine object to log in by",
        ))
    })
}
