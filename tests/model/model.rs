//! The search: which states there are, and what can happen in each. stateright walks them.

use stateright::{Model, Property};

use crate::canonical::canonical;
use crate::compact::{Attempt, Child, Estate, Kept, MOST, Machine, Proof, Slot};
use crate::drains;
use crate::estate;
use crate::judge;
use crate::mutation::Mutation;
use crate::nio;
use crate::nio_v1;
use crate::properties::properties;
use crate::search::Search;
use crate::state::{Operator, Pc, State};

/// Something that goes wrong without NICO's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// NIO says that a machine is out of reach, and forgets what it applied.
    Fades,
    /// NIO's status is wiped.
    Wiped,
    /// A machine's API server and Node are not well.
    Down,
    /// NIO cannot reach a machine.
    Hidden,
    /// No operator reaches the cluster.
    Silence,
    /// A person deletes the ledger.
    LedgerLost,
    /// A person deletes a configuration, and NIO lets go of the machine.
    ChildLost,
    /// A person makes a Node unschedulable, while NICO is not about to mark it.
    Cordoned,
    /// The same, at any moment.
    CordonedMeanwhile,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    /// The spec is edited.
    Edit,
    /// An operator goes on.
    Step(u8),
    /// An operator goes on, and its clocks of patience have run out.
    Patient(u8),
    /// An operator plans from its caches.
    CachedPass(u8),
    /// Its watches catch up.
    Watch(u8),
    /// It dies; `true`: the request that it had sent lives on.
    Crash(u8, bool),
    /// A request of a dead process arrives.
    Land(u8),
    Applies(u8),
    /// NIO v1 sees what its configuration holds, and starts a Job.
    Reconciles(u8),
    /// The schedule of NIO v1 starts a Job.
    Begins(u8),
    /// A Job of NIO v1 ends: its number, and whether it succeeds.
    Ends(u8, u8, bool),
    /// NIO lets go of a machine whose configuration is being deleted.
    LetsGo(u8),
    OlderEnds(u8, bool),
    HourPasses(u8),
    Fault(Fault, u8),
    Recovers(u8),
    Speaks,
    /// The cluster is deleted.
    Delete,
    /// The garbage collector deletes a configuration whose cluster is gone.
    Collects(u8),
    /// A kubeconfig of a cluster that was just founded is stored.
    Stores,
    /// The last pod of a Node that is drained goes.
    PodsGo(u8),
    /// The time of a drain runs out.
    DrainAges(u8),
}

impl Search {
    /// What happens when a move is made; none where it cannot be.
    pub fn after(&self, state: &State, made: Move) -> Option<State> {
        let mut next = state.clone();
        match made {
            Move::Edit => {
                next.edit += 1;
                self.edits.get(usize::from(next.edit))?;
                estate::forget_cluster(&mut next);
            }
            Move::Step(who) => self.step(&mut next, who.into(), false)?,
            Move::Patient(who) => self.step(&mut next, who.into(), true)?,
            Move::CachedPass(who) => self.cached_pass(&mut next, who.into())?,
            Move::Watch(who) => self.watch(&mut next, who.into())?,
            Move::Crash(who, late) => self.crash(&mut next, who.into(), late)?,
            Move::Land(index) => {
                let late = next.late.remove(index.into());
                self.land(&mut next, &late.into());
            }
            Move::Applies(machine) => nio::applies(&mut next, machine)?,
            Move::Reconciles(machine) => nio_v1::reconciles(&mut next, machine)?,
            Move::Begins(machine) => nio_v1::begins(&mut next, machine)?,
            Move::Ends(machine, job, succeeds) => {
                nio_v1::ends(&mut next, machine, job, succeeds)?;
            }
            Move::LetsGo(machine) => nio::lets_go(&mut next, machine)?,
            Move::OlderEnds(machine, succeeds) => nio::older_ends(&mut next, machine, succeeds)?,
            Move::HourPasses(machine) => nio::hour_passes(&mut next, machine)?,
            Move::Fault(fault, machine) => self.fault(&mut next, fault, machine)?,
            Move::Recovers(machine) => nio::recovers(&mut next, machine)?,
            Move::Speaks => {
                if !std::mem::take(&mut next.silent) {
                    return None;
                }
            }
            Move::Delete => estate::delete_cluster(&mut next)?,
            Move::Collects(machine) => estate::collects(&mut next, machine)?,
            Move::Stores => estate::stores_kubeconfig(&mut next)?,
            Move::PodsGo(machine) => drains::pods_go(&mut next, machine)?,
            Move::DrainAges(machine) => drains::drain_ages(&mut next, machine)?,
        }
        if self.without_kubelets {
            // A machine that left has no Node that could stay.
            for machine in &mut next.machines {
                machine.node &= !machine.leads || machine.child.is_some();
            }
        }
        self.label(&mut next.machines);
        let well = judge::well(self, &next);
        canonical(&mut next, self.mutation, well);
        (next != *state).then_some(next)
    }

    /// Labels that are no matter of NICO's or NIO's.
    fn label(&self, machines: &mut [Machine]) {
        for (index, machine) in machines.iter_mut().enumerate() {
            machine.leads |= machine.node && self.labelled & (1 << index) != 0;
        }
    }

    /// What NICO, NIO and the machines do of themselves, without new edits, crashes and faults.
    pub fn working_moves(&self, state: &State, moves: &mut Vec<Move>) {
        for who in (0..state.operators.len()).map(|who| u8::try_from(who).unwrap()) {
            moves.push(Move::Step(who));
            moves.push(Move::Patient(who));
            if state.operators[usize::from(who)].cache.is_some() {
                moves.push(Move::Watch(who));
                moves.push(Move::CachedPass(who));
            }
        }
        moves.extend((0..state.late.len()).map(|index| Move::Land(u8::try_from(index).unwrap())));
        for machine in 0..self.machines() {
            if self.by_jobs {
                moves.extend([Move::Reconciles(machine), Move::Begins(machine)]);
                for job in 0..2 {
                    moves.extend([true, false].map(|succeeds| Move::Ends(machine, job, succeeds)));
                }
            } else {
                moves.push(Move::Applies(machine));
                moves.push(Move::OlderEnds(machine, true));
                moves.push(Move::OlderEnds(machine, false));
                moves.push(Move::HourPasses(machine));
            }
            moves.push(Move::LetsGo(machine));
            moves.push(Move::Recovers(machine));
            if self.deletes {
                moves.push(Move::Collects(machine));
            }
            if self.drains {
                moves.extend([Move::PodsGo(machine), Move::DrainAges(machine)]);
            }
        }
        moves.push(Move::Speaks);
        if self.brings_up {
            moves.push(Move::Stores);
        }
    }
}

impl Model for Search {
    type State = State;
    type Action = Move;

    fn init_states(&self) -> Vec<State> {
        let mut machines = [Machine::default(); MOST];
        for index in 0..usize::from(self.machines()) {
            let first = self.first[index];
            machines[index].leads = first.map_or(index < self.leading, |claim| claim.leads);
            let Some(claim) = first else {
                continue;
            };
            if self.brings_up {
                continue;
            }
            let held = Attempt {
                text: claim.text,
                number: 0,
            };
            machines[index].node = true;
            machines[index].marks.pods = self.drains;
            machines[index].child = Some(Child {
                leads: claim.leads,
                held,
                kept: Kept::Is(held),
                proof: if self.by_jobs {
                    Proof::Jobs(nio_v1::applied(held))
                } else {
                    Proof::Success(held)
                },
                rewritten: false,
                terminating: false,
            });
        }
        self.label(&mut machines);
        let cached = self.caches || self.mutation == Mutation::ConfirmedInCache;
        let mut state = State {
            edit: 0,
            estate: if self.brings_up {
                Estate::default()
            } else {
                Estate::whole()
            },
            ledger: (!self.brings_up).then(Slot::default),
            machines,
            silent: false,
            operators: vec![Operator::default(); self.operators],
            late: Vec::new(),
            crashes: self.crashes,
            faults: self.faults,
            broken: None,
        };
        for who in 0..self.operators {
            if cached {
                state.operators[who].cache = Some(Box::default());
                self.watch(&mut state, who);
            }
        }
        vec![state]
    }

    fn actions(&self, state: &State, moves: &mut Vec<Move>) {
        if state.broken.is_some() {
            return;
        }
        self.working_moves(state, moves);
        if usize::from(state.edit) + 1 < self.edits.len() {
            moves.push(Move::Edit);
        }
        if self.deletes {
            moves.push(Move::Delete);
        }
        if state.crashes > 0 {
            for who in 0..state.operators.len() {
                if state.operators[who].pc != Pc::Idle {
                    let who = u8::try_from(who).unwrap();
                    moves.extend([Move::Crash(who, false), Move::Crash(who, true)]);
                }
            }
        }
        if state.faults > 0 {
            for fault in &self.kinds {
                let of_all = matches!(fault, Fault::Silence | Fault::LedgerLost);
                let machines = if of_all { 1 } else { self.machines() };
                moves.extend((0..machines).map(|machine| Move::Fault(*fault, machine)));
            }
        }
    }

    fn next_state(&self, state: &State, made: Move) -> Option<State> {
        self.after(state, made)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}
