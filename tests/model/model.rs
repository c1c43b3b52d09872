//! The search: which states there are, and what can happen in each. stateright walks them.

use std::sync::Arc;

use nico::api::names::MachineName;
use serde_json::{Value, json};
use stateright::{Model, Property};

use crate::canonical::canonical;
use crate::compact::{
    Attempt, Broken, Child, Kept, MOST, Machine, Operator, Pc, Proof, Slot, State,
};
use crate::judge;
use crate::mutation::Mutation;
use crate::nio;
use crate::planner::Planner;

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
    OlderEnds(u8, bool),
    HourPasses(u8),
    Fault(Fault, u8),
    Recovers(u8),
    Speaks,
}

/// A spec in few words.
#[derive(Clone, Copy, Debug)]
pub struct Sketch {
    pub repository: &'static str,
    pub control_plane: u8,
    pub workers: u8,
}

/// A search: where it starts, and how much may happen.
#[derive(Clone)]
pub struct Search {
    pub planner: Arc<Planner>,
    /// Index of the spec after so many edits.
    pub edits: Vec<u8>,
    pub crashes: u8,
    pub faults: u8,
    pub kinds: Vec<Fault>,
    pub operators: usize,
    /// Each read is a step of its own.
    pub fine: bool,
    /// Passes from caches, as old as they may be.
    pub caches: bool,
    pub mutation: Mutation,
    /// What the machines of the beginning hold.
    texts: [Option<u16>; MOST],
}

impl Search {
    /// A founded cluster at spec A, and edits B and C, which differ from it by `gitRepo`.
    pub fn new(control_plane: u8, workers: u8) -> Self {
        let of = |repository| Sketch {
            repository,
            control_plane,
            workers,
        };
        Self::of(&[of("a"), of("b"), of("c")])
    }

    /// A founded cluster at the first of these specs. Those with the most machines have them all.
    pub fn of(sketches: &[Sketch]) -> Self {
        let most = |of: fn(&Sketch) -> u8| sketches.iter().map(of).max().unwrap_or_default();
        let control_plane = most(|it| it.control_plane);
        let name = |kind: &str, index: u8| MachineName::parse(&format!("{kind}-{index}")).unwrap();
        let named = |kind: &str, count: u8| -> Vec<MachineName> {
            (1..=count).map(|index| name(kind, index)).collect()
        };
        let spec = |sketch: &Sketch| -> Value {
            let mut spec = json!({
                "gitRepo": format!("https://example.com/{}.git", sketch.repository),
                "controlPlane": { "machines": named("cp", sketch.control_plane) },
            });
            if sketch.workers > 0 {
                spec["dataPlane"] = json!({ "machines": named("worker", sketch.workers) });
            }
            spec
        };
        let specs: Vec<Value> = sketches.iter().map(spec).collect();
        let mut names = named("cp", control_plane);
        names.extend(named("worker", most(|it| it.workers)));
        let planner = Planner::new(names, control_plane, &specs);
        let texts = planner.first_texts(0);
        Self {
            planner: Arc::new(planner),
            edits: vec![0],
            crashes: 0,
            faults: 0,
            kinds: Vec::new(),
            operators: 1,
            fine: false,
            caches: false,
            mutation: Mutation::Faithful,
            texts,
        }
    }

    /// The spec is edited to these, one after the other.
    pub fn edits<const N: usize>(mut self, specs: [u8; N]) -> Self {
        self.edits.extend(specs);
        self
    }

    pub fn crashes(mut self, crashes: u8) -> Self {
        self.crashes = crashes;
        self
    }

    /// So many faults of these kinds.
    pub fn faults<const N: usize>(mut self, faults: u8, kinds: [Fault; N]) -> Self {
        self.faults = faults;
        self.kinds = kinds.to_vec();
        self
    }

    pub fn operators(mut self, operators: usize) -> Self {
        self.operators = operators;
        self
    }

    pub fn fine(mut self) -> Self {
        self.fine = true;
        self
    }

    pub fn caches(mut self) -> Self {
        self.caches = true;
        self
    }

    pub fn with(mut self, mutation: Mutation) -> Self {
        self.mutation = mutation;
        self
    }

    pub fn machines(&self) -> u8 {
        u8::try_from(self.planner.names.len()).unwrap()
    }

    pub fn is_control_plane(&self, machine: u8) -> bool {
        machine < self.planner.control_plane
    }

    /// How many control plane configurations there are.
    pub fn members(&self, state: &State) -> usize {
        let members = &state.machines[..usize::from(self.planner.control_plane)];
        members.iter().filter(|it| it.child.is_some()).count()
    }

    /// Machines that NIO cannot reach, a bit each.
    pub fn hidden(&self, state: &State) -> u8 {
        let hidden = (0..self.machines()).filter(|it| state.machines[usize::from(*it)].hidden);
        hidden.map(|machine| 1 << machine).sum()
    }

    /// What happens when a move is made; none where it cannot be.
    pub fn after(&self, state: &State, made: Move) -> Option<State> {
        let mut next = state.clone();
        match made {
            Move::Edit => {
                next.edit += 1;
                self.edits.get(usize::from(next.edit))?;
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
            Move::OlderEnds(machine, succeeds) => nio::older_ends(&mut next, machine, succeeds)?,
            Move::HourPasses(machine) => nio::hour_passes(&mut next, machine)?,
            Move::Fault(fault, machine) => self.fault(&mut next, fault, machine)?,
            Move::Recovers(machine) => nio::recovers(&mut next, machine)?,
            Move::Speaks => {
                if !std::mem::take(&mut next.silent) {
                    return None;
                }
            }
        }
        let well = judge::well(self, &next);
        canonical(&mut next, self.mutation, well);
        (next != *state).then_some(next)
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
            moves.push(Move::Applies(machine));
            moves.push(Move::OlderEnds(machine, true));
            moves.push(Move::OlderEnds(machine, false));
            moves.push(Move::HourPasses(machine));
            moves.push(Move::Recovers(machine));
        }
        moves.push(Move::Speaks);
    }
}

impl Model for Search {
    type State = State;
    type Action = Move;

    fn init_states(&self) -> Vec<State> {
        let mut machines = [Machine::default(); MOST];
        for index in 0..usize::from(self.machines()) {
            let Some(text) = self.texts[index] else {
                continue;
            };
            let held = Attempt { text, number: 0 };
            machines[index].node = true;
            machines[index].child = Some(Child {
                held,
                kept: Kept::Is(held),
                proof: Proof::Success(held),
                rewritten: false,
            });
        }
        let cached = self.caches || self.mutation == Mutation::ConfirmedInCache;
        let mut state = State {
            edit: 0,
            ledger: Some(Slot::default()),
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
        vec![
            Property::always(
                "I1: each machine has one configuration, its own",
                |_, it: &State| it.broken != Some(Broken::I1),
            ),
            Property::always(
                "I3: one control plane machine in flight",
                |_, it: &State| it.broken != Some(Broken::I3Flight),
            ),
            Property::always("I3: the numbers of the control plane", |_, it: &State| {
                it.broken != Some(Broken::I3Numbers)
            }),
            Property::always("I4: the order", |_, it: &State| {
                it.broken != Some(Broken::I4)
            }),
            Property::always("I14: nobody is told to found again", |_, it: &State| {
                it.broken != Some(Broken::I14)
            }),
            Property::always("I15: each attempt has its own marker", |_, it: &State| {
                it.broken != Some(Broken::I15)
            }),
            Property::always("the status decides nothing", |_, it: &State| {
                it.broken != Some(Broken::Status)
            }),
        ]
    }
}
