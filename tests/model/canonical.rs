//! One state for all that differ in nothing that matters: attempts are numbered again, and what can only fail is given up at once.

use crate::compact::{Attempt, Child, Kept, MOST, Proof, Reads, Valid};
use crate::mutation::Mutation;
use crate::shell::give_up;
use crate::state::{Operator, Pc, State, Step};

/// The canonical form of a state. `well`: the machines that are well now.
pub fn canonical(state: &mut State, mutation: Mutation, well: u8) {
    see_who_is_well(state, well);
    for operator in &mut state.operators {
        skip_refused(operator, mutation);
    }
    state
        .late
        .retain(|late| can_land(late.step, late.valid, mutation));
    state.late.sort_unstable();
    for machine in &mut state.machines {
        machine.aged &= machine.child.is_some_and(|child| child.rewritten);
    }
    number_attempts(state);
    if state.operators.len() == 2 && state.operators[1] < state.operators[0] {
        // Nothing tells the operators apart.
        state.operators.swap(0, 1);
    }
}

/// What was well once after an entry was taken may be taken for well under it.
fn see_who_is_well(state: &mut State, well: u8) {
    for operator in &mut state.operators {
        match &mut operator.pc {
            Pc::Under { never_well, .. } => *never_well &= !well,
            // What is decided is judged by what was known then.
            Pc::Idle | Pc::Look(_) | Pc::Act { .. } => {}
        }
    }
}

/// A write that can only be refused is skipped as the refusal would skip it, and a pass of which no other is left ends.
fn skip_refused(operator: &mut Operator, mutation: Mutation) {
    loop {
        let Pc::Act { steps, valid, .. } = &mut operator.pc else {
            return;
        };
        match steps.first().copied() {
            None => operator.pc = Pc::Idle,
            Some(step) if can_land(step, *valid, mutation) => return,
            Some(Step::End(end)) => drop(steps.splice(..1, end.next(false))),
            Some(_) => {
                steps.remove(0);
                give_up(&mut operator.pc);
            }
        }
    }
}

fn can_land(step: Step, valid: Valid, mutation: Mutation) -> bool {
    let ledger = valid.ledger;
    let child = |machine: u8| valid.child(machine);
    match step {
        Step::Confirm(machine)
        | Step::Withdraw(machine)
        | Step::Touch(machine)
        | Step::GiveBack(machine)
        | Step::Release(machine) => child(machine),
        Step::End(end) => {
            mutation == Mutation::NoTouch
                || mutation == Mutation::ConfirmedInCache
                || child(end.machine)
        }
        Step::UpdateLedger(_) | Step::Take(..) => ledger || mutation == Mutation::EqualContent,
        Step::Remove(..) => {
            ledger
                || matches!(
                    mutation,
                    Mutation::EqualContent | Mutation::RemovalByAnyLedger
                )
        }
        Step::AddFinalizer | Step::RemoveFinalizer => valid.cluster,
        Step::LedgerStands => ledger,
        Step::CreateLedger(_)
        | Step::CreateToken(_)
        | Step::UnlessGone(_)
        | Step::DeleteChild(_)
        | Step::Drain(..)
        | Step::Undrain(..)
        | Step::DeleteNode(_) => true,
        Step::Write(write) => {
            let stands = child(write.machine) || mutation == Mutation::NoVersionOnWrite;
            write.joins || stands
        }
    }
}

fn number_attempts(state: &mut State) {
    for machine in 0..MOST {
        let mut numbers: Vec<u8> = Vec::new();
        let mut rename = |attempt: &mut Attempt| {
            let at = numbers.iter().position(|known| *known == attempt.number);
            let at = at.unwrap_or_else(|| {
                numbers.push(attempt.number);
                numbers.len() - 1
            });
            attempt.number = u8::try_from(at).unwrap_or(u8::MAX);
        };
        let known = &mut state.machines[machine];
        if let Some(child) = &mut known.child {
            of_child(child, &mut rename);
        }
        if let Some(older) = &mut known.older {
            rename(older);
        }
        for operator in &mut state.operators {
            let mut of_reads = |reads: &mut Reads| {
                if let Some(child) = &mut reads.children[machine] {
                    of_child(child, &mut rename);
                }
            };
            if let Some(cache) = &mut operator.cache {
                of_reads(cache);
            }
            match &mut operator.pc {
                Pc::Idle => {}
                Pc::Look(reads) | Pc::Under { reads, .. } => of_reads(reads),
                Pc::Act { before, .. } => {
                    if let Some(before) = before {
                        of_reads(before);
                    }
                }
            }
        }
    }
}

fn of_child(child: &mut Child, rename: &mut impl FnMut(&mut Attempt)) {
    rename(&mut child.held);
    if let Kept::Is(attempt) = &mut child.kept {
        rename(attempt);
    }
    match &mut child.proof {
        Proof::Nothing | Proof::Faded => {}
        Proof::Success(attempt) => rename(attempt),
        Proof::Jobs(jobs) => {
            jobs.running.sort_unstable();
            let ended = jobs.ended.iter_mut().flatten().map(|(number, _)| number);
            let running = jobs.running.iter_mut().flatten();
            for number in jobs.template.iter_mut().chain(ended).chain(running) {
                let mut attempt = Attempt {
                    text: 0,
                    number: *number,
                };
                rename(&mut attempt);
                *number = attempt.number;
            }
            jobs.running.sort_unstable();
        }
    }
}
