//! The slot: the steps by which entries are made and end (SPEC 4.2).

use crate::api::conditions::{ConditionType, Reason};
use crate::api::ledger::{Entry, EntryState, Ledger, Slot};
use crate::api::names::MachineName;
use crate::api::status::Role;

use super::action::{Action, LedgerWrite, Mark, Notice, SlotWrite};
use super::known::Known;
use super::observed::LedgerView;
use super::output::Output;
use super::patience::Clock;
use super::release::is_left_behind;

/// Ends the entry of a machine, one step: to `releasing`, then the touch (or the wait where there is no child) and the removal.
/// The child is settled, or gone, as far as these reads know; the touch's own answer decides. `true`: the step is taken now, not
/// only waited for.
///
/// The entry of a worker without a child is removed at once: a POST that lands later is its first configuration, which disrupts
/// nothing.
pub(super) fn end(known: &Known<'_>, entry: &Entry) -> (bool, Output) {
    let observed = known.observed;
    let mut output = Output::default();
    let LedgerView::Ours(version, ledger) = &observed.ledger else {
        return (false, output);
    };
    let child = observed.controlled(&entry.machine);
    let waits = child.is_some() || entry.role == Role::ControlPlane;
    if waits && entry.state == EntryState::Active {
        let releasing = Entry {
            state: EntryState::Releasing,
            ..entry.clone()
        };
        let ledger = of(ledger, ledger.slot.with(releasing));
        output.act(Action::Ledger(LedgerWrite::Update(version.clone(), ledger)));
        return (true, output);
    }
    let machine = &entry.machine;
    let after = of(ledger, ledger.slot.without(machine));
    if let Some(child) = child {
        output.act(Action::Slot(SlotWrite::End {
            machine: machine.clone(),
            child: child.version(),
            ledger: version.clone(),
            after,
        }));
        return (true, output);
    }
    // No child to touch: every POST of an older take has landed or failed by then, and the ledger stood still meanwhile.
    let clock = Clock::NoChild(machine.clone(), version.clone());
    let waited = !waits || output.has_run(observed, clock, known.now, known.late_requests);
    let ends = waited && observed.node_is_gone(entry, known.asks());
    if ends {
        output.act(Action::Ledger(LedgerWrite::Update(version.clone(), after)));
        if is_left_behind(observed, machine) {
            output.act(Action::Tell(Notice::LeftBehind(machine.clone())));
        }
        if known.asks() && observed.word.nodes().is_none() {
            output.act(Action::Tell(Notice::NodeStays(machine.clone())));
        }
    }
    (ends, output)
}

/// A take: the entry of a machine made, or renewed (SPEC 4.2). An entry of the control plane stays one until it ends: a POST of
/// before may still land.
pub(super) fn take(ledger: &Ledger, machine: &MachineName, role: Role) -> Ledger {
    let renewed = ledger.slot.entry(machine).map(|entry| entry.role);
    let entry = Entry {
        machine: machine.clone(),
        role: renewed.map_or(role, |before| before.stricter(role)),
        state: EntryState::Active,
    };
    of(ledger, ledger.slot.with(entry))
}

/// A ledger made anew in a founded cluster: everything that may still act on the lost one is made to fail (SPEC 4.2).
pub(super) fn fence(known: &Known<'_>) -> Output {
    let mut output = Output::default();
    let LedgerView::Ours(version, ledger) = &known.observed.ledger else {
        return output;
    };
    output.wait(
        ConditionType::RollingOut,
        Reason::Fencing,
        format!(
            "the ledger was made anew: requests of before are waited for, up to {} seconds, before anything is changed",
            known.late_requests.as_secs()
        ),
    );
    let clock = Clock::Fencing(version.uid.clone());
    if !output.has_run(known.observed, clock, known.now, known.late_requests) {
        return output;
    }
    let members = known.observed.members().filter(|it| it.controlled);
    output
        .actions
        .extend(members.map(|it| it.mark(Mark::Touched)));
    let open = Slot {
        fencing: false,
        ..ledger.slot.clone()
    };
    let ledger = of(ledger, open);
    output.act(Action::Ledger(LedgerWrite::Update(version.clone(), ledger)));
    output
}

fn of(ledger: &Ledger, slot: Slot) -> Ledger {
    Ledger {
        slot,
        ..ledger.clone()
    }
}
