//! What classic NIO, the machines and people do.

use crate::compact::{Jobs, Kept, Marks, Proof, Slot};
use crate::drains;
use crate::model::Fault;
use crate::mutation::Mutation;
use crate::search::Search;
use crate::server::{change, forget_child, forget_ledger, write_ledger};
use crate::shell::give_up;
use crate::state::{Pc, State, Step};

/// NIO has applied what a configuration holds, and says so.
pub fn applies(state: &mut State, machine: u8) -> Option<()> {
    let at = usize::from(machine);
    let child = state.machines[at].child?;
    let has_it = child.proof == Proof::Success(child.held);
    if has_it || child.terminating || state.machines[at].hidden {
        return None;
    }
    change(state, machine, |child| {
        child.proof = Proof::Success(child.held);
    });
    let now = &mut state.machines[at];
    now.flying &= now.older.is_some();
    runs(state, machine, child.leads);
    Some(())
}

/// A machine runs what was applied.
pub fn runs(state: &mut State, machine: u8, leads: bool) {
    let now = &mut state.machines[usize::from(machine)];
    now.leads = leads;
    if !std::mem::replace(&mut now.node, true) {
        now.down = false;
        now.marks = Marks::default();
        another_node(state, machine);
    }
}

/// NIO lets go of a machine: `#minimal` runs no kubelet, and the Node stays.
pub fn lets_go(state: &mut State, machine: u8) -> Option<()> {
    let now = &mut state.machines[usize::from(machine)];
    now.child.take_if(|child| child.terminating)?;
    now.older = None;
    now.flying = false;
    now.down = true;
    forget_child(state, machine);
    Some(())
}

/// An older attempt ends: it leaves the older configuration on the machine and says so, or comes to nothing.
pub fn older_ends(state: &mut State, machine: u8, succeeds: bool) -> Option<()> {
    let at = usize::from(machine);
    let older = state.machines[at].older.take()?;
    if succeeds {
        change(state, machine, |child| child.proof = Proof::Success(older));
        state.machines[at].flying = true;
    } else if let Some(child) = state.machines[at].child {
        state.machines[at].flying &= child.proof != Proof::Success(child.held);
    }
    Some(())
}

/// An hour passes since a machine was rewritten: no older attempt runs that long.
pub fn hour_passes(state: &mut State, machine: u8) -> Option<()> {
    let machine = &mut state.machines[usize::from(machine)];
    let waits = machine.child.is_some_and(|child| child.rewritten);
    if !waits || machine.aged || machine.older.is_some() {
        return None;
    }
    machine.aged = true;
    Some(())
}

/// A machine is well again, is reached again, or the cluster is.
pub fn recovers(state: &mut State, machine: u8) -> Option<()> {
    let machine = &mut state.machines[usize::from(machine)];
    let hidden = std::mem::take(&mut machine.hidden);
    // Without a configuration nothing runs there.
    let down = machine.child.is_some_and(|child| child.kept != Kept::Never)
        && std::mem::take(&mut machine.down);
    (hidden || down).then_some(())
}

impl Search {
    /// Something goes wrong that NICO has no part in.
    pub fn fault(&self, state: &mut State, fault: Fault, machine: u8) -> Option<()> {
        let at = usize::from(machine);
        state.faults = state.faults.checked_sub(1)?;
        match fault {
            Fault::Fades | Fault::Wiped => {
                let proof = if fault == Fault::Fades {
                    Proof::Faded
                } else {
                    Proof::Nothing
                };
                let child = state.machines[at].child?;
                if let Proof::Jobs(jobs) = child.proof {
                    // They are pruned after a day.
                    let pruned = Jobs {
                        ended: [None; 2],
                        ..jobs
                    };
                    if pruned == jobs {
                        return None;
                    }
                    state.machines[at].child.as_mut()?.proof = Proof::Jobs(pruned);
                    return Some(());
                }
                if child.proof == proof || child.proof == Proof::Nothing {
                    return None;
                }
                change(state, machine, |child| child.proof = proof);
            }
            Fault::Down => {
                if std::mem::replace(&mut state.machines[at].down, true) {
                    return None;
                }
            }
            Fault::Hidden => {
                if std::mem::replace(&mut state.machines[at].hidden, true) {
                    return None;
                }
            }
            Fault::Silence => {
                if std::mem::replace(&mut state.silent, true) {
                    return None;
                }
            }
            Fault::Cordoned => drains::cordoned_by_hand(state, machine, false)?,
            Fault::CordonedMeanwhile => drains::cordoned_by_hand(state, machine, true)?,
            Fault::ChildLost => {
                // NIO lets go of the machine: `#minimal` runs no kubelet, and the Node stays.
                let now = &mut state.machines[at];
                now.child.take()?;
                now.older = None;
                now.flying = false;
                now.down = true;
                forget_child(state, machine);
            }
            Fault::LedgerLost => {
                let slot = state.ledger.take()?;
                forget_ledger(state);
                if self.mutation == Mutation::SlotInStatus {
                    // What was in the status is as if it had never been; the rest of the ledger stands.
                    write_ledger(
                        state,
                        Slot {
                            entries: [None; 2],
                            ..slot
                        },
                    );
                }
            }
        }
        Some(())
    }
}

/// A machine's Node is another one now: who means to delete the old one is refused.
fn another_node(state: &mut State, machine: u8) {
    let old = |step: &Step| match step {
        Step::DeleteNode(of) | Step::Drain(of, _) | Step::Undrain(of, _) => *of == machine,
        _ => false,
    };
    state.late.retain(|late| !old(&late.step));
    for operator in &mut state.operators {
        if let Pc::Act { steps, .. } = &mut operator.pc {
            let refused = steps.first().is_some_and(old);
            steps.retain(|step| !(step.is_entered() && old(step)));
            if refused {
                give_up(&mut operator.pc);
            }
        }
    }
}
