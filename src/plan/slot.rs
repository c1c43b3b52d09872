//! The slot: who may be disrupted now (SPEC 4.2), and when an entry ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::ledger::{Entry, EntryState, Ledger, Slot};
use crate::api::names::{MachineName, REWRITTEN_ANNOTATION, WRITTEN_ANNOTATION};
use crate::api::nio::NixosConfiguration;
use crate::api::status::Role;

use super::action::{Action, Plan};
use super::confirmed::{is_confirmed, once_confirmed, proved};
use super::health::{asks_the_cluster, node};
use super::observed::{LedgerView, Observed, precondition, role_of};
use super::patience::Clock;
use super::release::is_left_behind;

/// How long classic may run an older attempt (NIO.md: an apply may take 3600 s).
pub const OLDER_ATTEMPT: Duration = Duration::from_secs(3600);

/// A machine that is in flight: by its entry, or because it is not confirmed (SPEC 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Its role.
    pub role: Role,
    /// State of its entry, where it has one.
    pub entry: Option<EntryState>,
    /// Whether it was ever confirmed.
    pub once_confirmed: bool,
}

/// Every machine in flight.
#[must_use]
pub fn flights(
    observed: &Observed,
    founded: bool,
    now: Timestamp,
) -> BTreeMap<MachineName, Flight> {
    let mut flights = BTreeMap::new();
    for (machine, configuration) in observed.members() {
        let role = role_of(configuration);
        let once_confirmed = once_confirmed(configuration);
        let counts = match role {
            Role::ControlPlane => founded,
            Role::Worker => once_confirmed,
        };
        // An entry that was lost with its ledger said so of an older attempt, too. After its hour NIO's proof may have faded for
        // other reasons, and nobody is kept waiting for that.
        let older_runs = role == Role::ControlPlane
            && older_attempt(observed, configuration, now).is_some_and(|rest| !rest.is_zero());
        if counts && (!is_confirmed(configuration) || older_runs) {
            let flight = Flight {
                role,
                entry: None,
                once_confirmed,
            };
            flights.insert(machine, flight);
        }
    }
    for entry in entries(observed) {
        let held = owned(observed, &entry.machine);
        let flight = Flight {
            role: held.map_or(entry.role, role_of),
            entry: Some(entry.state),
            once_confirmed: held.is_some_and(once_confirmed),
        };
        flights.insert(entry.machine.clone(), flight);
    }
    flights
}

/// The entries that stand.
pub fn entries(observed: &Observed) -> impl Iterator<Item = &Entry> {
    observed
        .ledger
        .ours()
        .into_iter()
        .flat_map(|ledger| &ledger.slot.entries)
}

/// Whether a machine has an entry.
#[must_use]
pub fn has_entry(observed: &Observed, machine: &MachineName) -> bool {
    entries(observed).any(|entry| entry.machine == *machine)
}

/// Workers of a founded cluster that get their first configuration at once: those of which no old Node is left over (SPEC 4.5).
#[must_use]
pub fn free_to_join(
    observed: &Observed,
    founded: bool,
    joining: &BTreeSet<MachineName>,
) -> BTreeSet<MachineName> {
    let asks = asks_the_cluster(observed, founded);
    joining
        .iter()
        .filter(|machine| {
            let no_node = observed.word.nodes().is_some() && node(observed, machine).is_none();
            let entered = has_entry(observed, machine);
            !asks || (no_node && !entered)
        })
        .cloned()
        .collect()
}

/// The configuration of a machine, where the cluster is its controller.
#[must_use]
pub fn owned<'a>(observed: &'a Observed, machine: &MachineName) -> Option<&'a NixosConfiguration> {
    observed
        .configurations
        .get(machine.as_str())
        .map(|configuration| &**configuration)
        .filter(|configuration| observed.owns(configuration))
}

/// When a configuration was last written, by its annotation.
#[must_use]
pub fn written(configuration: &NixosConfiguration) -> Option<Timestamp> {
    time(configuration, WRITTEN_ANNOTATION)
}

fn time(configuration: &NixosConfiguration, annotation: &str) -> Option<Timestamp> {
    let annotations = configuration.metadata.annotations.as_ref()?;
    annotations.get(annotation)?.parse().ok()
}

/// Whether what was written under an entry is done with: the machine is confirmed, and no older attempt can still run on it.
#[must_use]
pub fn is_settled(observed: &Observed, configuration: &NixosConfiguration, now: Timestamp) -> bool {
    is_confirmed(configuration)
        && configuration.metadata.deletion_timestamp.is_none()
        && older_attempt(observed, configuration, now).is_none()
}

/// How long an older attempt of NIO's may still run on a machine; `None`: it has ended, and NIO's proof of today says so.
#[must_use]
pub fn older_attempt(
    observed: &Observed,
    configuration: &NixosConfiguration,
    now: Timestamp,
) -> Option<Duration> {
    let annotations = configuration.metadata.annotations.as_ref();
    annotations?.get(REWRITTEN_ANNOTATION)?;
    // What a person wrote there is no time: NIO's proof alone counts then.
    let ran = time(configuration, REWRITTEN_ANNOTATION).map_or(OLDER_ATTEMPT, |since| {
        Duration::try_from(now.duration_since(since)).unwrap_or_default()
    });
    let rest = OLDER_ATTEMPT.saturating_sub(ran);
    let machine = configuration
        .metadata
        .name
        .as_deref()
        .and_then(MachineName::parse)
        .and_then(|machine| observed.machines.get(&machine));
    let proved_now = observed
        .nio
        .is_some_and(|nio| proved(nio, configuration, machine.map(|machine| &**machine)));
    (!rest.is_zero() || !proved_now).then_some(rest)
}

/// Ends the entry of a machine, one step: to `releasing`, then the touch (or the wait where there is no child) and the removal.
/// The child is settled, or gone, as far as these reads know; the touch's own answer decides.
pub(super) fn end(
    observed: &Observed,
    entry: &Entry,
    founded: bool,
    late_requests: Duration,
    now: Timestamp,
    plan: &mut Plan,
) {
    let LedgerView::Ours(version, ledger) = &observed.ledger else {
        return;
    };
    if entry.state == EntryState::Active {
        let releasing = Entry {
            state: EntryState::Releasing,
            ..entry.clone()
        };
        let slot = ledger.slot.with(releasing);
        plan.actions
            .push(Action::UpdateLedger(version.clone(), of(ledger, slot)));
        return;
    }
    let after = of(ledger, ledger.slot.without(&entry.machine));
    if let Some(child) = owned(observed, &entry.machine) {
        plan.actions.push(Action::EndEntry {
            machine: entry.machine.clone(),
            child: precondition(child),
            ledger: version.clone(),
            after,
        });
        return;
    }
    // No child to touch: every POST of an older take has landed or failed by then, and the ledger stood still meanwhile.
    let clock = Clock::NoChild(entry.machine.clone(), version.clone());
    let waited = observed.elapsed(&clock, now);
    plan.clocks.insert(clock);
    if waited < late_requests {
        plan.look_again_in(late_requests.saturating_sub(waited));
    } else if node_is_gone(observed, entry, founded) {
        plan.actions
            .push(Action::UpdateLedger(version.clone(), after));
        if is_left_behind(observed, &entry.machine) {
            plan.actions
                .push(Action::TellLeftBehind(entry.machine.clone()));
        }
        if asks_the_cluster(observed, founded) && observed.word.nodes().is_none() {
            plan.actions
                .push(Action::TellNodeStays(entry.machine.clone()));
        }
    }
}

/// Whether the Node of a machine without a configuration is no obstacle to the end of its entry.
pub(super) fn node_is_gone(observed: &Observed, entry: &Entry, founded: bool) -> bool {
    entry.role == Role::Worker
        || observed.cluster.forces(entry.machine.as_str())
        || !asks_the_cluster(observed, founded)
        || (observed.word.nodes().is_some() && node(observed, &entry.machine).is_none())
}

/// A take: the entry of a machine made, or renewed (SPEC 4.2).
pub(super) fn take(ledger: &Ledger, machine: &MachineName, role: Role) -> Ledger {
    let entry = Entry {
        machine: machine.clone(),
        role,
        state: EntryState::Active,
    };
    of(ledger, ledger.slot.with(entry))
}

/// A ledger made anew in a founded cluster: everything that may still act on the lost one is made to fail (SPEC 4.2).
pub(super) fn fence(observed: &Observed, late_requests: Duration, now: Timestamp, plan: &mut Plan) {
    let LedgerView::Ours(version, ledger) = &observed.ledger else {
        return;
    };
    let clock = Clock::Fencing(version.uid.clone());
    let waited = observed.elapsed(&clock, now);
    plan.clocks.insert(clock);
    plan.wait(
        crate::api::conditions::ConditionType::RollingOut,
        crate::api::conditions::Reason::Fencing,
        format!(
            "the ledger was made anew: requests of before are waited for, up to {} seconds, before anything is changed",
            late_requests.as_secs()
        ),
    );
    if waited < late_requests {
        plan.look_again_in(late_requests.saturating_sub(waited));
        return;
    }
    for (machine, configuration) in observed.members() {
        if observed.owns(configuration) {
            plan.actions
                .push(Action::Touch(machine, precondition(configuration)));
        }
    }
    let open = Slot {
        fencing: false,
        ..ledger.slot.clone()
    };
    plan.actions
        .push(Action::UpdateLedger(version.clone(), of(ledger, open)));
}

fn of(ledger: &Ledger, slot: Slot) -> Ledger {
    Ledger {
        slot,
        ..ledger.clone()
    }
}
