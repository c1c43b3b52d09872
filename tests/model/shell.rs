//! The shell's part, step by step, each API call a step of its own: what `controller/reconcile.rs`, `reconcile/entered.rs` and
//! `act/slot.rs` do. A [`Mutation`] does one of them otherwise.

use crate::compact::{Estate, Life, Reads, Slot, Valid};
use crate::judge;
use crate::mutation::Mutation;
use crate::reads::Read;
use crate::search::Search;
use crate::server::Request;
use crate::state::{End, Known, Late, Operator, Pc, State, Step};

/// Entries that were taken, as `Pc::Under` has them.
#[derive(Clone, Copy)]
struct Entered {
    machines: u8,
    stands: bool,
    rests_on: Option<Slot>,
    never_well: u8,
}

/// The next step of a pass was refused, or can only be. The pass is given up, but for the writes under entries: each of them stands
/// alone.
pub fn give_up(pc: &mut Pc) {
    let Pc::Act { steps, .. } = pc else {
        return;
    };
    steps.retain(Step::is_entered);
    if steps.is_empty() {
        *pc = Pc::Idle;
    }
}

impl Search {
    /// One step of an operator; `patient`: its clocks of patience have run out by now. None where nothing comes of it.
    pub fn step(&self, state: &mut State, who: usize, patient: bool) -> Option<()> {
        let operator = std::mem::take(&mut state.operators[who]);
        let cache = operator.cache.clone();
        state.operators[who].cache = operator.cache;
        match operator.pc {
            Pc::Idle => self.look(state, who, Reads::default(), cache.as_deref(), patient),
            Pc::Look(reads) => self.look(state, who, reads, cache.as_deref(), patient),
            Pc::Act { .. } if patient => None,
            Pc::Act {
                mut steps,
                valid,
                known,
                rests_on,
                before,
            } => {
                let step = steps.remove(0);
                // Put back while it lands: its own versions fall with everyone's.
                let kept = Pc::Act {
                    steps,
                    valid,
                    known,
                    rests_on,
                    before,
                };
                self.act(state, who, step, kept);
                Some(())
            }
            Pc::Under {
                machines,
                reads,
                stands,
                rests_on,
                never_well,
            } => {
                let entries = Entered {
                    machines,
                    stands,
                    rests_on,
                    never_well,
                };
                self.under(state, who, entries, reads, patient)
            }
        }
    }

    /// Reads the next group; after the last one it is planned.
    fn look(
        &self,
        state: &mut State,
        who: usize,
        mut reads: Reads,
        cache: Option<&Reads>,
        patient: bool,
    ) -> Option<()> {
        if reads.done == 0 && state.estate.life == Life::Gone {
            return None;
        }
        let groups = self.looks();
        for read in groups[usize::from(reads.done)] {
            self.read(state, *read, 0, &mut reads);
        }
        if let (Mutation::ConfirmedInCache, Some(cache)) = (self.mutation, cache) {
            reads.children = cache.children;
            reads.valid.children = cache.valid.children;
        }
        reads.done += 1;
        if usize::from(reads.done) < groups.len() {
            state.operators[who].pc = Pc::Look(reads);
            return (!patient).then_some(());
        }
        let steps = self.plan(state, who, &reads, None, patient)?;
        let before = (self.mutation == Mutation::ReadsBeforeTake).then(|| Box::new(reads));
        state.operators[who].pc = Pc::Act {
            steps,
            valid: reads.valid,
            known: judge::known(self, &reads),
            rests_on: self.by_content(reads.ledger),
            before,
        };
        Some(())
    }

    /// What the ledger said, where it is compared by that.
    fn by_content(&self, ledger: Option<Slot>) -> Option<Slot> {
        ledger.filter(|_| {
            matches!(
                self.mutation,
                Mutation::EqualContent | Mutation::NoLastLedgerRead
            )
        })
    }

    /// Carries a step out, or gives the pass up.
    fn act(&self, state: &mut State, who: usize, step: Step, kept: Pc) {
        let Pc::Act {
            steps,
            valid,
            known,
            rests_on,
            before,
        } = kept
        else {
            return;
        };
        let request = Request {
            step: self.instead(state, step),
            valid,
            known,
            rests_on,
        };
        state.operators[who].pc = Pc::Act {
            steps,
            valid,
            known,
            rests_on,
            before: before.clone(),
        };
        let landed = self.land(state, &request);
        if let Step::End(end) = request.step {
            if let Pc::Act { steps, .. } = &mut state.operators[who].pc {
                steps.splice(..0, end.next(landed));
            }
            return;
        }
        if !landed {
            give_up(&mut state.operators[who].pc);
            return;
        }
        match request.step {
            Step::Take(machines, taken) => {
                let mut under = before.map_or_else(Reads::default, |before| *before);
                under.done = 0;
                if self.mutation != Mutation::ReadsBeforeTake {
                    // Nothing can come between the take and the first read that could not as well come before both.
                    for read in self.reads_under(machines)[0] {
                        self.read(state, *read, machines, &mut under);
                    }
                    under.done = 1;
                }
                state.operators[who].pc = Pc::Under {
                    machines,
                    reads: under,
                    stands: true,
                    rests_on: self.by_content(Some(taken)),
                    never_well: !judge::well(self, state),
                };
            }
            Step::CreateLedger(_) | Step::UpdateLedger(_) | Step::CreateToken(_) => {
                self.go_on_after(state, who, request.step);
            }
            // The cluster object was written: what follows rests on reads made after that.
            Step::AddFinalizer | Step::RemoveFinalizer => state.operators[who].pc = Pc::Idle,
            _ => {}
        }
    }

    /// Something was made, or the ledger was written: the rest of the pass rests on that, and what was made goes again where the
    /// cluster is gone.
    fn go_on_after(&self, state: &mut State, who: usize, step: Step) {
        let Pc::Act { steps, valid, .. } = &mut state.operators[who].pc else {
            return;
        };
        if !matches!(step, Step::CreateToken(_)) && steps.contains(&Step::LedgerStands) {
            valid.ledger = true;
        }
        let made = match step {
            Step::CreateLedger(_) => Some(Estate::LEDGER),
            Step::CreateToken(token) => Some(token),
            _ => None,
        };
        let check = made.map(Step::UnlessGone);
        steps.splice(
            ..0,
            check.filter(|_| self.mutation != Mutation::NoUnlessGone),
        );
    }

    /// What a mutation does instead of a step.
    fn instead(&self, state: &State, step: Step) -> Step {
        let Step::UpdateLedger(slot) = step else {
            return step;
        };
        let mut releasing = slot.entries.iter().flatten().filter(|it| it.releasing);
        match (self.mutation, releasing.next()) {
            (Mutation::NoReleasing, Some(entry))
                if state.machines[usize::from(entry.machine)].child.is_some() =>
            {
                Step::End(End::of(1 << entry.machine, slot))
            }
            _ => step,
        }
    }

    /// Reads the next group under entries; after the last one it is planned, and the writes decided.
    fn under(
        &self,
        state: &mut State,
        who: usize,
        entries: Entered,
        mut reads: Reads,
        patient: bool,
    ) -> Option<()> {
        let Entered {
            machines,
            stands,
            rests_on,
            never_well,
        } = entries;
        if reads.done == 0 && state.estate.life == Life::Gone {
            state.operators[who].pc = Pc::Idle;
            return (!patient).then_some(());
        }
        let groups = self.reads_under(machines);
        for read in groups[usize::from(reads.done)] {
            self.read(state, *read, machines, &mut reads);
            if *read == Read::Ledger {
                reads.stood = match self.mutation {
                    Mutation::EqualContent => reads.ledger == rests_on,
                    Mutation::NoLastLedgerRead => true,
                    _ => stands,
                };
            }
        }
        if self.mutation == Mutation::NoLastLedgerRead {
            reads.ledger = rests_on;
        }
        reads.done += 1;
        if usize::from(reads.done) < groups.len() {
            state.operators[who].pc = Pc::Under {
                machines,
                reads,
                stands,
                rests_on,
                never_well,
            };
            return (!patient).then_some(());
        }
        let entered = Some((machines, reads.stood));
        let mut steps = self.plan(state, who, &reads, entered, patient)?;
        steps.retain(Step::is_entered);
        state.operators[who].pc = Pc::Act {
            steps,
            valid: Valid {
                cluster: false,
                ledger: false,
                children: reads.valid.children & machines,
            },
            known: Known {
                patient,
                never_well,
                ..judge::known(self, &reads)
            },
            rests_on: None,
            before: None,
        };
        Some(())
    }

    /// A pass on what the watches showed: only quiet writes rest on it, and the end of an entry, which a touch decides.
    pub fn cached_pass(&self, state: &mut State, who: usize) -> Option<()> {
        let reads = match (&state.operators[who].pc, &state.operators[who].cache) {
            (Pc::Idle, Some(cache)) if self.caches => **cache,
            _ => return None,
        };
        let planned = self.planner.plan(&self.view(state, &reads, None));
        let quiet = |step: &Step| match step {
            // No write's precondition covers a Job.
            Step::Confirm(_) | Step::Withdraw(_) => !self.by_jobs,
            Step::End(_) => true,
            _ => false,
        };
        if !planned.steps.iter().all(quiet) {
            return None;
        }
        state.operators[who].pc = Pc::Act {
            steps: planned.steps.clone(),
            valid: reads.valid,
            known: judge::known(self, &reads),
            rests_on: None,
            before: None,
        };
        Some(())
    }

    /// The watches of an operator catch up.
    pub fn watch(&self, state: &mut State, who: usize) -> Option<()> {
        state.operators[who].cache.as_ref()?;
        let mut reads = Reads::default();
        self.read_all(state, &mut reads);
        state.operators[who].cache = Some(Box::new(reads));
        Some(())
    }

    /// An operator dies, and starts again. What it had sent may still be on its way.
    pub fn crash(&self, state: &mut State, who: usize, late: bool) -> Option<()> {
        state.crashes = state.crashes.checked_sub(1)?;
        let operator = std::mem::take(&mut state.operators[who]);
        match operator.pc {
            Pc::Idle => return None,
            Pc::Act {
                steps,
                valid,
                known,
                rests_on,
                ..
            } if late => {
                let step = self.instead(state, *steps.first()?);
                if matches!(step, Step::LedgerStands | Step::UnlessGone(_)) {
                    // It reads first.
                    return None;
                }
                state.late.push(Late {
                    step,
                    valid,
                    known,
                    rests_on,
                });
            }
            _ if late => return None,
            _ => {}
        }
        state.operators[who] = Operator::default();
        if operator.cache.is_some() {
            state.operators[who].cache = Some(Box::default());
            self.watch(state, who);
        }
        Some(())
    }
}
