//! What classic NIO, the machines and people do.

use crate::compact::{Proof, Slot, State};
use crate::model::{Fault, Search};
use crate::mutation::Mutation;
use crate::server::{change, forget_ledger, write_ledger};

impl Search {
    /// NIO has applied what a configuration holds, and says so.
    pub fn applies(&self, state: &mut State, machine: u8) -> Option<()> {
        let at = usize::from(machine);
        let child = state.machines[at].child?;
        if child.proof == Proof::Success(child.held) || state.machines[at].hidden {
            return None;
        }
        change(state, machine, |child| {
            child.proof = Proof::Success(child.held);
        });
        let machine = &mut state.machines[at];
        machine.flying &= machine.older.is_some();
        machine.node = true;
        Some(())
    }

    /// An older attempt ends: it leaves the older configuration on the machine and says so, or comes to nothing.
    pub fn older_ends(&self, state: &mut State, machine: u8, succeeds: bool) -> Option<()> {
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

    /// An hour passes since a machine was rewritten: no older attempt runs that long (NIO.md).
    pub fn hour_passes(&self, state: &mut State, machine: u8) -> Option<()> {
        let machine = &mut state.machines[usize::from(machine)];
        let waits = machine.child.is_some_and(|child| child.rewritten);
        if !waits || machine.aged || machine.older.is_some() {
            return None;
        }
        machine.aged = true;
        Some(())
    }

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

    /// A machine is well again, is reached again, or the cluster is.
    pub fn recovers(&self, state: &mut State, machine: u8) -> Option<()> {
        let machine = &mut state.machines[usize::from(machine)];
        let hidden = std::mem::take(&mut machine.hidden);
        let down = std::mem::take(&mut machine.down);
        (hidden || down).then_some(())
    }
}
