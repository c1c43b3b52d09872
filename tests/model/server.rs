//! The management cluster's API server: a request lands under its preconditions, or is refused; a write makes every version of that
//! object that somebody holds an old one.

use crate::compact::{Attempt, Broken, Child, Jobs, Kept, Life, Proof, Slot, Valid};
use crate::drains;
use crate::estate;
use crate::judge;
use crate::mutation::Mutation;
use crate::search::Search;
use crate::state::{Known, Late, Pc, State, Step, Write};

/// A request, with what it insists on.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub step: Step,
    pub valid: Valid,
    pub known: Known,
    pub rests_on: Option<Slot>,
}

impl From<Late> for Request {
    fn from(late: Late) -> Self {
        let Late {
            step,
            valid,
            known,
            rests_on,
        } = late;
        Self {
            step,
            valid,
            known,
            rests_on,
        }
    }
}

/// The number of an attempt that was just written; `canonical.rs` gives it its own.
const FRESH: u8 = 200;

impl Search {
    /// A request arrives. Whether it went through.
    pub fn land(&self, state: &mut State, request: &Request) -> bool {
        let Request {
            step,
            valid,
            known,
            rests_on,
        } = request;
        let ledger_stands = match self.mutation {
            Mutation::EqualContent => state.ledger.is_some() && state.ledger == *rests_on,
            _ => valid.ledger,
        };
        state.broken = state
            .broken
            .or_else(|| estate::begins_too_late(*step, *known));
        match step {
            Step::Confirm(machine) => {
                valid.child(*machine) && {
                    change(state, *machine, |child| child.kept = Kept::Is(child.held));
                    true
                }
            }
            Step::Withdraw(machine) => {
                valid.child(*machine) && {
                    change(state, *machine, |child| child.kept = Kept::Withdrawn);
                    true
                }
            }
            Step::Touch(machine) => {
                valid.child(*machine) && {
                    change(state, *machine, |_| {});
                    true
                }
            }
            Step::End(end) => self.touch(state, end.machine, *valid),
            Step::UpdateLedger(slot) | Step::Take(_, slot) => {
                state.broken = state.broken.or(judge::slot(*slot));
                ledger_stands && {
                    write_ledger(state, *slot);
                    true
                }
            }
            Step::Remove(machines, slot) => {
                let held = state
                    .ledger
                    .filter(|_| ledger_stands || self.mutation == Mutation::RemovalByAnyLedger);
                held.is_some_and(|held| {
                    let after = match self.mutation {
                        Mutation::RemovalByAnyLedger => held.without_all(*machines),
                        _ => *slot,
                    };
                    write_ledger(state, after);
                    true
                })
            }
            Step::CreateLedger(slot) => {
                state.ledger.is_none() && {
                    state.estate.late |= state.estate.life != Life::Lives;
                    let fencing = slot.fencing && self.mutation != Mutation::NoFencing;
                    write_ledger(state, Slot { fencing, ..*slot });
                    true
                }
            }
            Step::Write(write) => self.write(state, *write, *valid, *known),
            Step::Release(machine) => {
                valid.child(*machine) && self.release(state, *machine, *known)
            }
            Step::DeleteNode(machine) => {
                state.broken = state
                    .broken
                    .or_else(|| judge::node_goes(self, state, *machine, *known));
                // It insists on the Node's uid: `nio.rs` drops it where another Node comes.
                drains::forget_node(state, *machine)
            }
            Step::LedgerStands => valid.ledger,
            Step::Drain(machine, _) => {
                let lives = self.lives(state);
                state.broken = state
                    .broken
                    .or_else(|| judge::leaves(self, state, *machine, *known).filter(|_| lives));
                drains::mark_node(state, *step)
            }
            Step::Undrain(..) => drains::mark_node(state, *step),
            Step::GiveBack(machine) => {
                valid.child(*machine) && {
                    if self.lives(state) {
                        state.broken = state.broken.or(Some(Broken::I3Numbers));
                    }
                    change(state, *machine, |child| child.terminating = true);
                    true
                }
            }
            Step::AddFinalizer
            | Step::CreateToken(_)
            | Step::UnlessGone(_)
            | Step::DeleteChild(_)
            | Step::RemoveFinalizer => self.land_on_estate(state, *step, valid.cluster, *known),
        }
    }

    /// The touch that ends an entry; whether its answer shows the machine settled.
    fn touch(&self, state: &mut State, machine: u8, valid: Valid) -> bool {
        if matches!(
            self.mutation,
            Mutation::NoTouch | Mutation::ConfirmedInCache
        ) {
            return true;
        }
        if !valid.child(machine) {
            return false;
        }
        change(state, machine, |_| {});
        let now = &state.machines[usize::from(machine)];
        now.child
            .is_some_and(|child| self.planner.is_settled(machine, &child, now.aged))
    }

    fn release(&self, state: &mut State, machine: u8, known: Known) -> bool {
        let lives = self.lives(state);
        state.broken = state
            .broken
            .or_else(|| judge::goes(self, state, machine, known).filter(|_| lives));
        change(state, machine, |child| child.terminating = true);
        state.machines[usize::from(machine)].flying = lives;
        state.broken = state.broken.or_else(|| judge::together(self, state));
        true
    }

    fn write(&self, state: &mut State, write: Write, valid: Valid, known: Known) -> bool {
        let at = usize::from(write.machine);
        let held = state.machines[at].child;
        let stands = match held {
            None => write.joins,
            Some(_) => {
                !write.joins
                    && (valid.child(write.machine) || self.mutation == Mutation::NoVersionOnWrite)
            }
        };
        if !stands {
            return false;
        }
        let lives = self.lives(state);
        let refers = judge::refers_to_what_is_gone(self, state);
        state.broken = state
            .broken
            .or(write.flaw)
            .or_else(|| judge::before(self, state, write, known).filter(|_| lives))
            .or(refers);
        let held_now = Attempt {
            text: write.text,
            number: FRESH,
        };
        let of_three = write.leads && state.members() > 2;
        let machine = &mut state.machines[at];
        let disrupts = write.leads || held.is_some_and(|held| held.kept != Kept::Never);
        if let Some(held) = held {
            // What was not done with may still be running, and end after the new one. One such is as bad as many.
            let unfinished = machine.flying && of_three && !self.by_jobs;
            machine.older = unfinished.then(|| machine.older.unwrap_or(held.held));
        }
        machine.child = Some(match held {
            None => Child {
                leads: write.leads,
                held: held_now,
                kept: Kept::Never,
                proof: if self.by_jobs {
                    Proof::Jobs(Jobs::default())
                } else {
                    Proof::Nothing
                },
                rewritten: false,
                terminating: false,
            },
            Some(held) => Child {
                held: held_now,
                rewritten: write.rewritten,
                ..held
            },
        });
        machine.aged = false;
        machine.flying = disrupts && lives;
        forget_child(state, write.machine);
        state.broken = state
            .broken
            .or_else(|| judge::after(self, state, write).filter(|_| lives));
        true
    }
}

/// Changes a configuration.
pub fn change(state: &mut State, machine: u8, change: impl FnOnce(&mut Child)) {
    if let Some(child) = &mut state.machines[usize::from(machine)].child {
        change(child);
        forget_child(state, machine);
    }
}

/// Changes the ledger.
pub fn write_ledger(state: &mut State, slot: Slot) {
    state.ledger = Some(slot);
    forget_ledger(state);
}

/// Every version of the ledger that somebody holds is an old one.
pub fn forget_ledger(state: &mut State) {
    each_version(state, |valid| valid.ledger = false);
    for operator in &mut state.operators {
        if let Pc::Under { stands, .. } = &mut operator.pc {
            *stands = false;
        }
    }
}

pub fn forget_child(state: &mut State, machine: u8) {
    each_version(state, |valid| valid.children &= !(1 << machine));
}

pub fn each_version(state: &mut State, mut forget: impl FnMut(&mut Valid)) {
    for operator in &mut state.operators {
        if let Some(cache) = &mut operator.cache {
            forget(&mut cache.valid);
        }
        match &mut operator.pc {
            Pc::Idle => {}
            Pc::Look(reads) | Pc::Under { reads, .. } => forget(&mut reads.valid),
            Pc::Act { valid, before, .. } => {
                forget(valid);
                if let Some(before) = before {
                    forget(&mut before.valid);
                }
            }
        }
    }
    for late in &mut state.late {
        forget(&mut late.valid);
    }
}
