//! A search: which cluster it starts with, what may happen to it, and how much of that.

use std::sync::Arc;

use nico::api::names::MachineName;
use serde_json::{Value, json};

use crate::compact::{MOST, State};
use crate::model::Fault;
use crate::mutation::Mutation;
use crate::objects::DRAIN_SECONDS;
use crate::planner::Planner;

/// A spec in few words.
#[derive(Clone, Copy, Debug)]
pub struct Sketch {
    pub repository: &'static str,
    pub control_plane: u8,
    pub workers: u8,
}

/// A search: where it starts, and how much may happen.
// Each is a choice of its own.
#[allow(clippy::struct_excessive_bools)]
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
    /// The cluster may be deleted.
    pub deletes: bool,
    /// It starts with nothing but the cluster object.
    pub brings_up: bool,
    /// A deletion is judged by what is there, and not by what its last LIST showed.
    pub punctual: bool,
    /// Nothing may be left of a cluster that is gone, also of what was made late.
    pub leaves_nothing: bool,
    /// Pods are given time to leave.
    pub drains: bool,
    /// What the machines of the beginning hold.
    pub texts: [Option<u16>; MOST],
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
        // No pods, and nothing to wait for.
        Self::with_drains(sketches, 0)
    }

    /// The same, and the pods of a machine that leaves are given time.
    pub fn draining(sketches: &[Sketch]) -> Self {
        Self {
            drains: true,
            ..Self::with_drains(sketches, DRAIN_SECONDS)
        }
    }

    fn with_drains(sketches: &[Sketch], seconds: i64) -> Self {
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
                "rollout": { "drainTimeoutSeconds": seconds },
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
            deletes: false,
            brings_up: false,
            punctual: false,
            leaves_nothing: false,
            drains: false,
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

    pub fn deleted(mut self) -> Self {
        self.deletes = true;
        self
    }

    pub fn punctual(mut self) -> Self {
        self.punctual = true;
        self
    }

    pub fn leaves_nothing(mut self) -> Self {
        self.leaves_nothing = true;
        self
    }

    pub fn brought_up(mut self) -> Self {
        self.brings_up = true;
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
}
