//! When the kubeconfig is fetched, stored and tried.

mod renewal;

use std::time::Duration;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::host::canonical;
use crate::api::names::{MachineName, kubeconfig_name};
use crate::api::nio::Machine;

use super::action::{Action, KubeconfigWork};
use super::known::Known;
use super::observed::{
    KnownHostsView, NotWorking, Observed, PAUSE, SecretView, SshKeyView, Stored, Works,
};
use super::output::Output;
use super::patience::{
    Clock, KUBECONFIG_TRIED_AGAIN_AFTER, NEVER_REACHABLE_AFTER, UNVERIFIED_STORED_AFTER,
};
use super::writes::{Child, Wanted};
use renewal::Renewal;

const READY: ConditionType = ConditionType::KubeconfigReady;

/// Starts a try of the stored kubeconfig if it is due. Writes nothing.
pub fn try_stored(observed: &Observed) -> Output {
    let kubeconfig = &observed.kubeconfig;
    let mut output = Output::default();
    if kubeconfig.secret == SecretView::Ours {
        if kubeconfig.try_again {
            output.act(Action::Kubeconfig(KubeconfigWork::Verify));
        }
        if kubeconfig.works != Works::Yes {
            output.look_again_in(KUBECONFIG_TRIED_AGAIN_AFTER);
        }
    }
    output
}

/// Reports that the stored kubeconfig does not work.
pub fn not_working(observed: &Observed) -> Output {
    let mut output = Output::default();
    if let (SecretView::Ours, Works::No(NotWorking { unreachable, why })) =
        (observed.kubeconfig.secret, &observed.kubeconfig.works)
    {
        let reason = if *unreachable {
            Reason::Unverified
        } else {
            Reason::KubeconfigBroken
        };
        output.wait(READY, reason, cannot_list_nodes(why));
    }
    output
}

/// The message for a stored kubeconfig that does not work.
#[must_use]
pub fn cannot_list_nodes(why: &str) -> String {
    format!(
        "nodes cannot be listed through the stored kubeconfig: {why}: check that an API server runs at its address, and that NICO reaches that"
    )
}

/// Fetches a kubeconfig, or another one, and reports if the stored one does not work.
pub fn kubeconfig(known: &Known<'_>) -> Output {
    let observed = known.observed;
    if known.founding.restart.is_some() {
        return not_working(observed);
    }
    Output::concat([host_keys(observed), stored_or_new(known)])
}

/// Exchanges keys with machines once they are confirmed. A changed host key is reported for each machine, even if the kubeconfig works.
fn host_keys(observed: &Observed) -> Output {
    let hosts = &observed.kubeconfig.fetch.hosts;
    let mut output = Output::default();
    // Without pins there are none of former machines to remove.
    if hosts.meet && (observed.known_hosts != KnownHostsView::Absent || meets_any(observed)) {
        output.act(Action::Kubeconfig(KubeconfigWork::Meet));
    }
    if hosts.to_decide.len() > 1 {
        let machines: Vec<&str> = hosts.to_decide.keys().map(MachineName::as_str).collect();
        let message = format!(
            "a person has to decide on the SSH host keys of machines {}",
            machines.join(", ")
        );
        output.wait(READY, Reason::HostKeyChanged, message);
    }
    for (machine, cause) in &hosts.to_decide {
        output.wait_for(machine.clone(), READY, cause.clone());
    }
    Output::concat([output, pin(observed)])
}

fn meets_any(observed: &Observed) -> bool {
    !observed.control_plane_hosts().confirmed.is_empty()
}

/// Whether the first host keys are still to be pinned: before that, nothing is read from a machine.
fn waits_for_pins(observed: &Observed) -> bool {
    observed.kubeconfig.fetch.hosts.pending
        && observed.known_hosts == KnownHostsView::Absent
        && meets_any(observed)
}

fn stored_or_new(known: &Known<'_>) -> Output {
    let observed = known.observed;
    let name = kubeconfig_name(&observed.cluster.name);
    let message = match (observed.kubeconfig.secret, &observed.kubeconfig.stored) {
        (SecretView::Ours | SecretView::Unusable, Some(stored)) => return renew(known, stored),
        // Only its name was read.
        (SecretView::Ours, None) => return not_working(observed),
        (SecretView::Absent, _) => return first(known),
        (SecretView::Terminating | SecretView::Leftover, _) => {
            format!(
                "Secret {name} is being deleted and a finalizer holds it: remove the finalizer if nobody else does"
            )
        }
        _ if observed.left.children.contains_key(&Child::Kubeconfig) => {
            format!("Secret {name} {PAUSE}")
        }
        _ => {
            format!(
                "Secret {name} exists and is not what NICO would write there: rename or delete it"
            )
        }
    };
    let mut output = Output::default();
    output.look_for_missing();
    output.wait(READY, Reason::SecretConflict, message);
    output
}

/// The cluster is founded according to its confirmations, but no kubeconfig can be read.
pub fn never_reachable(known: &Known<'_>) -> Output {
    let observed = known.observed;
    let fetch = &observed.kubeconfig.fetch;
    let mut output = Output::default();
    let sought = known.founding.founded
        && observed.kubeconfig.secret == SecretView::Absent
        && fetch.at_hand.is_none();
    if sought
        && output.has_run(
            observed,
            Clock::NeverReachable,
            known.now,
            NEVER_REACHABLE_AFTER,
        )
    {
        let why = fetch
            .failure
            .as_ref()
            .map_or("no control plane machine answers", |why| &why.message);
        output.wait(
            ConditionType::Stalled,
            Reason::NeverReachable,
            format!(
                "NIO has applied every control plane machine and no kubeconfig could be read ({why}): set spec.kubeconfig.path, or, where no API server ever came up, fix the flake, delete the cluster and apply it again"
            ),
        );
    }
    output
}

/// Fetches the first kubeconfig, also after its Secret was deleted.
fn first(known: &Known<'_>) -> Output {
    let observed = known.observed;
    let mut output = Output::default();
    let pick = &known.selection.control_plane;
    let all_exist = known.founding.founded || (pick.total > 0 && pick.staying.len() >= pick.total);
    let machines = sources(known);
    if !all_exist || machines.is_empty() {
        output.wait(
            READY,
            Reason::WaitingForControlPlane,
            "the kubeconfig is read once NIO has applied a control plane machine",
        );
        return output;
    }
    if let Some((cause, mut keyless)) = no_key(observed, &machines) {
        keyless.wait_because(READY, cause);
        return keyless;
    }
    let fetch = &observed.kubeconfig.fetch;
    if fetch.at_hand.is_none() {
        let reading = || {
            Cause::new(
                Reason::Fetching,
                "the kubeconfig is being read from the control plane",
            )
        };
        let failure = fetch.failure.clone().unwrap_or_else(reading);
        if !fetch
            .hosts
            .to_decide
            .values()
            .any(|known| *known == failure)
        {
            output.wait_because(READY, failure);
        }
    }
    let (good, tried) = is_good(known);
    let next = if good {
        Some(KubeconfigWork::Store(None))
    } else if fetch.running || waits_for_pins(observed) {
        None
    } else {
        Some(KubeconfigWork::Fetch(machines, Wanted::First))
    };
    let next = next.map(Action::Kubeconfig).into_iter().collect();
    Output::concat([output, tried, next])
}

/// Reads a kubeconfig again if that is due, and replaces the stored one if the new one works.
fn renew(known: &Known<'_>, stored: &Stored) -> Output {
    let observed = known.observed;
    let fetch = &observed.kubeconfig.fetch;
    let broken = not_working(observed);
    let (why, mut output) = Renewal::due(known, stored);
    let Some(why) = why else {
        if fetch.at_hand.is_some() || fetch.failure.is_some() {
            output.act(Action::Kubeconfig(KubeconfigWork::Drop));
        }
        return Output::concat([broken, output]);
    };
    if matches!(why, Renewal::Edited) {
        output.wait(
            READY,
            Reason::Fetching,
            "the stored kubeconfig was edited: it is read again",
        );
    }
    let mut machines = sources(known);
    if matches!(why, Renewal::Old(..)) {
        // The machine that it came from is first while it answers: another machine's would differ for no reason.
        let leads_to = |machine: &MachineName| {
            let machine = observed.machine(machine);
            let address = machine.and_then(Machine::canonical_address);
            address.is_some() && address == stored.host.as_deref().map(canonical)
        };
        machines.sort_by_key(|machine| !leads_to(machine));
    }
    if machines.is_empty() {
        output.wait(
            READY,
            Reason::WaitingForControlPlane,
            "the kubeconfig is read again once NIO has applied a control plane machine",
        );
        return Output::concat([broken, output]);
    }
    let (keyless, keys) = no_key(observed, &machines).unzip();
    let failure = keyless.or_else(|| fetch.failure.clone());
    // The cause that the user can fix comes before its consequences.
    let mendable = matches!(why, Renewal::Edited | Renewal::Broken)
        && failure
            .as_ref()
            .is_some_and(|it| it.reason != Reason::Unverified);
    let mut failed = keys.unwrap_or_default();
    if let Some(cause) = failure {
        failed.wait_because(READY, why.failed(cause));
    }
    // One that may work is not replaced by one that was not tried.
    let (works, tried) = if matches!(why, Renewal::Edited) {
        is_good(known)
    } else {
        let at_hand = fetch.at_hand.as_ref();
        let suits = at_hand.is_some_and(|it| it.suits(why.wanted()));
        (suits, Output::default())
    };
    let ran = fetch.began.map(|began| known.now.duration_since(began));
    let ran = ran.and_then(|ran| Duration::try_from(ran).ok());
    let rest = ran.map_or(Duration::ZERO, |ran| why.pause().saturating_sub(ran));
    let mut next = Output::default();
    if works {
        let version = Some(stored.version.clone());
        next.act(Action::Kubeconfig(KubeconfigWork::Store(version)));
    } else if !fetch.running && rest.is_zero() {
        let fetch = KubeconfigWork::Fetch(machines, why.wanted());
        next.act(Action::Kubeconfig(fetch));
    } else if !fetch.running {
        next.look_again_in(rest);
    }
    let said = if mendable {
        [failed, broken, output]
    } else {
        [broken, output, failed]
    };
    Output::concat(said.into_iter().chain([tried, next]))
}

/// Control plane machines from which it can be read. The founder has the file first; the others follow in name order.
fn sources(known: &Known<'_>) -> Vec<MachineName> {
    let founder = known.founding.bootstrap.as_ref();
    let mut machines: Vec<MachineName> = known
        .observed
        .control_plane()
        .filter(|it| it.is_confirmed() && !it.is_deleting())
        .map(|it| it.name)
        .collect();
    machines.sort_by_key(|machine| Some(machine) != founder);
    machines
}

/// Whether the fetched one should be stored: it works, or it could not be tried for so long that it is stored unverified.
fn is_good(known: &Known<'_>) -> (bool, Output) {
    let observed = known.observed;
    let mut output = Output::default();
    let Some(at_hand) = &observed.kubeconfig.fetch.at_hand else {
        return (false, output);
    };
    let Err(NotWorking { unreachable, why }) = &at_hand.verified else {
        return (true, output);
    };
    output.wait(
        READY,
        Reason::Unverified,
        format!("the kubeconfig was read, and nodes cannot be listed through it: {why}: check that the API server runs, and that NICO reaches its address"),
    );
    // One that the API server refuses is useless. One that only NICO cannot try may work for users.
    let (clock, patience) = (Clock::Unverified, UNVERIFIED_STORED_AFTER);
    let good = *unreachable && output.has_run(observed, clock, known.now, patience);
    (good, output)
}

/// Pins new host keys, whatever the result of the fetch.
fn pin(observed: &Observed) -> Output {
    let new =
        observed.kubeconfig.fetch.new_host_key && observed.known_hosts != KnownHostsView::Foreign;
    let pin = || Action::Kubeconfig(KubeconfigWork::PinHostKey);
    new.then(pin).into_iter().collect()
}

/// Why NICO can log in to none of the machines, and the read of their keys; `None` if it can log in to one.
fn no_key(observed: &Observed, machines: &[MachineName]) -> Option<(Cause, Output)> {
    let mut output = Output::default();
    let mut why = None;
    for machine in machines {
        match observed.ssh_keys.get(machine) {
            Some(SshKeyView::Usable { .. }) => return None,
            Some(SshKeyView::Unusable(cause)) => {
                output.look_for_missing();
                why.get_or_insert_with(|| cause.clone());
            }
            None => {}
        }
    }
    let no_machine = || {
        Cause::new(
            Reason::MachineMissing,
            "no control plane machine that NIO has applied has a Machine object to log in by: create the Machines again",
        )
    };
    Some((why.unwrap_or_else(no_machine), output))
}
