//! The slot: who may be disrupted now (SPEC 4.2), and when an entry ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason};
use crate::api::ledger::{Entry, EntryState, Ledger, Slot};
use crate::api::names::MachineName;
use crate::api::status::Role;

use super::action::{Action, LedgerWrite, Mark, Notice, Plan, SlotWrite};
use super::confirmed::Proof;
use super::observed::{LedgerView, Member, Observed, elapsed};
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

impl Observed {
    /// Every machine in flight.
    #[must_use]
    pub fn flights(&self, founded: bool, now: Timestamp) -> BTreeMap<MachineName, Flight> {
        let mut flights = BTreeMap::new();
        for member in self.members() {
            let role = member.role();
            let once_confirmed = member.was_confirmed();
            let counts = match role {
                Role::ControlPlane => founded,
                Role::Worker => once_confirmed,
            };
            // An entry that was lost with its ledger said so of an older attempt, too. After its hour NIO's proof may have faded
            // for other reasons, and nobody is kept waiting for that.
            let older_runs = role == Role::ControlPlane
                && member
                    .older_attempt(now)
                    .is_some_and(|rest| !rest.is_zero());
            if counts && (!member.is_confirmed() || older_runs) {
                let flight = Flight {
                    role,
                    entry: None,
                    once_confirmed,
                };
                flights.insert(member.name, flight);
            }
        }
        for entry in self.entries() {
            let held = self.controlled(&entry.machine);
            let flight = Flight {
                role: held.as_ref().map_or(entry.role, Member::role),
                entry: Some(entry.state),
                once_confirmed: held.is_some_and(|held| held.was_confirmed()),
            };
            flights.insert(entry.machine.clone(), flight);
        }
        flights
    }

    /// Workers of a founded cluster that get their first configuration at once: those of which no old Node is left over (SPEC 4.5).
    #[must_use]
    pub fn free_to_join(
        &self,
        founded: bool,
        joining: &BTreeSet<MachineName>,
    ) -> BTreeSet<MachineName> {
        let asks = self.asks(founded);
        let no_node =
            |machine: &MachineName| self.word.nodes().is_some() && self.node(machine).is_none();
        joining
            .iter()
            .filter(|machine| !asks || (no_node(machine) && self.entry(machine).is_none()))
            .cloned()
            .collect()
    }

    /// Whether the Node of a machine without a configuration is no obstacle to the end of its entry.
    pub(super) fn node_is_gone(&self, entry: &Entry, asks: bool) -> bool {
        entry.role == Role::Worker
            || self.cluster.forces(entry.machine.as_str())
            || !asks
            || (self.word.nodes().is_some() && self.node(&entry.machine).is_none())
    }
}

impl Member<'_> {
    /// Whether what was written under an entry is done with: the machine is confirmed, and no older attempt can still run on it.
    #[must_use]
    pub fn is_settled(&self, now: Timestamp) -> bool {
        self.is_confirmed() && !self.is_deleting() && self.older_attempt(now).is_none()
    }

    /// How long an older attempt of NIO's may still run on its machine; `None`: it has ended, and NIO's proof of today says so.
    #[must_use]
    pub fn older_attempt(&self, now: Timestamp) -> Option<Duration> {
        // What a person wrote there is no time: NIO's proof alone counts then.
        let ran = self
            .rewritten()?
            .map_or(OLDER_ATTEMPT, |since| elapsed(since, now));
        let rest = OLDER_ATTEMPT.saturating_sub(ran);
        (!rest.is_zero() || self.proof() != Some(Proof::OfHeld)).then_some(rest)
    }
}

/// Ends the entry of a machine, one step: to `releasing`, then the touch (or the wait where there is no child) and the removal.
/// The child is settled, or gone, as far as these reads know; the touch's own answer decides.
pub(super) fn end(
    observed: &Observed,
    entry: &Entry,
    asks: bool,
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
        plan.actions.push(Action::Ledger(LedgerWrite::Update(
            version.clone(),
            of(ledger, slot),
        )));
        return;
    }
    let after = of(ledger, ledger.slot.without(&entry.machine));
    if let Some(child) = observed.controlled(&entry.machine) {
        plan.actions.push(Action::Slot(SlotWrite::End {
            machine: entry.machine.clone(),
            child: child.version(),
            ledger: version.clone(),
            after,
        }));
        return;
    }
    // No child to touch: every POST of an older take has landed or failed by then, and the ledger stood still meanwhile.
    let clock = Clock::NoChild(entry.machine.clone(), version.clone());
    let waited = observed.elapsed(&clock, now);
    plan.clocks.insert(clock);
    if waited < late_requests {
        plan.look_again_in(late_requests.saturating_sub(waited));
    } else if observed.node_is_gone(entry, asks) {
        plan.actions
            .push(Action::Ledger(LedgerWrite::Update(version.clone(), after)));
        if is_left_behind(observed, &entry.machine) {
            plan.actions
                .push(Action::Tell(Notice::LeftBehind(entry.machine.clone())));
        }
        if asks && observed.word.nodes().is_none() {
            plan.actions
                .push(Action::Tell(Notice::NodeStays(entry.machine.clone())));
        }
    }
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
        ConditionType::RollingOut,
        Reason::Fencing,
        format!(
            "the ledger was made anew: requests of before are waited for, up to {} seconds, before anything is changed",
            late_requests.as_secs()
        ),
    );
    if waited < late_requests {
        plan.look_again_in(late_requests.saturating_sub(waited));
        return;
    }
    for member in observed.members().filter(|it| it.controlled) {
        plan.actions.push(member.mark(Mark::Touched));
    }
    let open = Slot {
        fencing: false,
        ..ledger.slot.clone()
    };
    plan.actions.push(Action::Ledger(LedgerWrite::Update(
        version.clone(),
        of(ledger, open),
    )));
}

fn of(ledger: &Ledger, slot: Slot) -> Ledger {
    Ledger {
        slot,
        ..ledger.clone()
    }
}
