//! The slot: the steps that create and end entries.

use std::collections::BTreeMap;

use crate::api::conditions::{ConditionType, Reason};
use crate::api::ledger::{Entry, EntryState, Ledger, Slot};
use crate::api::names::{MachineName, ledger_name};
use crate::api::status::Role;

use super::action::{Action, LedgerWrite, Mark, Notice, SlotWrite};
use super::known::Known;
use super::observed::LedgerView;
use super::output::Output;
use super::patience::Clock;
use super::release::is_left_behind;

/// Ends entries by one step: first to `releasing`, then the touch and the removal. A control plane machine without a configuration has a
/// pause instead of the touch. In these reads the configurations are settled or gone; the response to the touch decides. Returns `true` if
/// a step is taken now, and `false` if there is only a wait.
pub(super) fn end(known: &Known<'_>, entries: &[&Entry]) -> (bool, Output) {
    let observed = known.observed;
    let mut output = Output::default();
    let LedgerView::Ours(version, ledger) = &observed.ledger else {
        return (false, output);
    };
    let mut slot = ledger.slot.clone();
    let mut gone = Vec::new();
    let mut children = BTreeMap::new();
    for entry in entries {
        let machine = &entry.machine;
        match observed.controlled(machine) {
            _ if entry.state == EntryState::Active => {
                slot = slot.with(Entry {
                    state: EntryState::Releasing,
                    ..(*entry).clone()
                });
            }
            Some(child) => {
                children.insert(machine.clone(), child.version());
            }
            None => {
                // After this pause, every POST of an older take has landed or failed, and the ledger has not changed meanwhile. A worker
                // needs no pause: a POST that lands later creates its first configuration, which disrupts nothing.
                let clock = Clock::NoChild(machine.clone(), version.clone());
                let late = known.late_requests;
                if entry.role == Role::Worker || output.has_run(observed, clock, known.now, late) {
                    slot = slot.without(machine);
                    gone.push(*entry);
                }
            }
        }
    }
    if slot != ledger.slot {
        let update = LedgerWrite::Update(version.clone(), with_slot(ledger, slot));
        output.act(Action::Ledger(update));
    } else if !children.is_empty() {
        output.act(Action::Slot(SlotWrite::End {
            children,
            ledger: version.clone(),
            before: ledger.clone(),
        }));
    }
    for entry in gone {
        let machine = &entry.machine;
        if is_left_behind(observed, machine) {
            output.act(Action::Notify(Notice::LeftBehind(machine.clone())));
        }
        if known.asks() && observed.workload.nodes().is_none() {
            output.act(Action::Notify(Notice::NodeStays(machine.clone())));
        }
        // If control plane machines have Nodes, the member is removed together with its Node.
        if known.asks() && entry.role == Role::ControlPlane && observed.has_no_control_plane_node()
        {
            output.act(Action::Notify(Notice::MemberStays(machine.clone())));
        }
    }
    (!output.actions.is_empty(), output)
}

/// Keeps the clock of the pause for late requests running while something else keeps the entry. The pause began with the current version of
/// the ledger, whatever else the entry waits for.
pub(super) fn keep_pause(known: &Known<'_>, entry: &Entry) -> Output {
    let mut output = Output::default();
    let gone = known.observed.controlled(&entry.machine).is_none();
    if let LedgerView::Ours(version, _) = &known.observed.ledger
        && gone
        && entry.state == EntryState::Releasing
    {
        let clock = Clock::NoChild(entry.machine.clone(), version.clone());
        output.keep(known.observed, clock, known.now);
    }
    output
}

/// The ledger after a take: with new or renewed entries of these machines. A control plane entry keeps its role until it ends, since an
/// older POST may still land.
pub(super) fn take<'a>(
    ledger: &Ledger,
    machines: impl IntoIterator<Item = (&'a MachineName, Role)>,
) -> Ledger {
    let mut slot = ledger.slot.clone();
    for (machine, role) in machines {
        let renewed = slot.entry(machine).map(|entry| entry.role);
        slot = slot.with(Entry {
            machine: machine.clone(),
            role: renewed.map_or(role, |before| before.stricter(role)),
            state: EntryState::Active,
        });
    }
    with_slot(ledger, slot)
}

/// Fences a ledger that was created again in a founded cluster: all writes that are still based on the lost ledger must fail.
pub(super) fn fence(known: &Known<'_>) -> Output {
    let mut output = Output::default();
    let LedgerView::Ours(version, ledger) = &known.observed.ledger else {
        return output;
    };
    output.wait(
        ConditionType::RollingOut,
        Reason::Fencing,
        format!(
            "ConfigMap {} was created again: NICO waits up to {} seconds for older requests before it changes anything",
            ledger_name(&known.observed.cluster.name),
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
    let ledger = with_slot(ledger, open);
    output.act(Action::Ledger(LedgerWrite::Update(version.clone(), ledger)));
    output
}

fn with_slot(ledger: &Ledger, slot: Slot) -> Ledger {
    Ledger {
        slot,
        ..ledger.clone()
    }
}
