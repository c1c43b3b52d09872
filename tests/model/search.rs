//! A search: which cluster it starts with, what may happen to it, and how much of that.

use std::collections::BTreeSet;
use std::sync::Arc;

use nico::api::names::MachineName;
use nico::api::nio::Generation;
use serde_json::{Value, json};

use crate::compact::MOST;
use crate::model::Fault;
use crate::mutation::Mutation;
use crate::objects::DRAIN_SECONDS;
use crate::planner::Planner;
use crate::state::{State, Write};

/// A spec in few words.
#[derive(Clone, Copy, Debug)]
pub struct Sketch {
    pub repository: &'static str,
    pub control_plane: u8,
    pub workers: u8,
}

/// A spec with its machines by name.
struct Roles {
    repository: &'static str,
    control_plane: Vec<String>,
    workers: Vec<String>,
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
    /// No kubelet runs on the control plane, so that it has no Nodes.
    pub without_kubelets: bool,
    /// Workers whose Nodes bear the control plane's label, a bit each.
    pub labelled: u8,
    /// NIO is v1.
    pub by_jobs: bool,
    /// How many workers may be in flight at once.
    pub most_workers: usize,
    /// The workers of each spec, a bit each.
    pub workers: Vec<u8>,
    /// The first so many machines are of the control plane at some time.
    pub leading: usize,
    /// What the machines of the beginning hold.
    pub first: [Option<Write>; MOST],
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
        Self::sketched(sketches, 0, 1)
    }

    /// A founded cluster beside NIO v1 at commit A, and edits to commits B and C.
    pub fn by_jobs(control_plane: u8, workers: u8) -> Self {
        let of = |repository| Sketch {
            repository,
            control_plane,
            workers,
        };
        let sketches = [of("a"), of("b"), of("c")];
        Self::built(&Self::roles(&sketches), (0, 1), Generation::V1)
    }

    /// The same, and the pods of a machine that leaves are given time.
    pub fn draining(sketches: &[Sketch]) -> Self {
        Self::draining_at_once(sketches, 1)
    }

    /// Two workers may be changed at once.
    pub fn two_at_once(sketches: &[Sketch]) -> Self {
        Self::sketched(sketches, 0, 2)
    }

    /// The same, and the pods of a machine that leaves are given time.
    pub fn draining_at_once(sketches: &[Sketch], most_workers: u8) -> Self {
        Self {
            drains: true,
            ..Self::sketched(sketches, DRAIN_SECONDS, most_workers)
        }
    }

    fn sketched(sketches: &[Sketch], drain_seconds: i64, most_workers: u8) -> Self {
        let rollout = (drain_seconds, most_workers);
        Self::built(&Self::roles(sketches), rollout, Generation::Classic)
    }

    fn roles(sketches: &[Sketch]) -> Vec<Roles> {
        let named = |kind: &str, count: u8| -> Vec<String> {
            (1..=count).map(|index| format!("{kind}-{index}")).collect()
        };
        let specs = sketches.iter().map(|it| Roles {
            repository: it.repository,
            control_plane: named("cp", it.control_plane),
            workers: named("worker", it.workers),
        });
        specs.collect()
    }

    /// A founded cluster at the first of these specs: repository, control plane and workers.
    pub fn of_roles(specs: &[(&'static str, &[&str], &[&str])]) -> Self {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let specs = specs
            .iter()
            .map(|(repository, control_plane, workers)| Roles {
                repository,
                control_plane: owned(control_plane),
                workers: owned(workers),
            });
        Self::built(&specs.collect::<Vec<_>>(), (0, 1), Generation::Classic)
    }

    fn built(specs: &[Roles], (drain_seconds, most_workers): (i64, u8), nio: Generation) -> Self {
        let all = |of: fn(&Roles) -> &Vec<String>| -> BTreeSet<String> {
            specs.iter().flat_map(of).cloned().collect()
        };
        let (leading, working) = (all(|it| &it.control_plane), all(|it| &it.workers));
        let names = leading.iter().chain(working.difference(&leading));
        let names: Vec<_> = names
            .map(|name| MachineName::parse(name).unwrap())
            .collect();
        let workers = specs.iter().map(|spec| {
            let is_worker = |name: &MachineName| spec.workers.iter().any(|it| it == name.as_str());
            let bits = names.iter().enumerate();
            bits.map(|(index, name)| u8::from(is_worker(name)) << index)
                .sum()
        });
        let workers = workers.collect();
        let spec = |it: &Roles| -> Value {
            let mut spec = json!({
                "gitRepo": format!("https://example.com/{}.git", it.repository),
                "controlPlane": { "machines": it.control_plane },
                "rollout": { "drainTimeoutSeconds": drain_seconds, "maxUnavailable": most_workers },
            });
            if nio == Generation::V1 {
                spec["ref"] = json!(it.repository.repeat(40));
                spec["refPolicy"] = json!("Follow");
            }
            if !it.workers.is_empty() {
                spec["dataPlane"] = json!({ "machines": it.workers });
            }
            spec
        };
        let planner = Planner::new(names, &specs.iter().map(spec).collect::<Vec<_>>(), nio);
        let first = planner.first_claims(0);
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
            without_kubelets: false,
            labelled: 0,
            by_jobs: nio == Generation::V1,
            most_workers: most_workers.into(),
            workers,
            leading: leading.len(),
            first,
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

    pub fn without_kubelets(mut self) -> Self {
        self.without_kubelets = true;
        let planner = Arc::get_mut(&mut self.planner).expect("nobody searches yet");
        planner.without_kubelets = true;
        self
    }

    /// The Nodes of these workers, counted from 0, bear the control plane's label, whatever is applied.
    pub fn labelled<const N: usize>(mut self, workers: [usize; N]) -> Self {
        let machines = workers.map(|worker| 1 << (self.leading + worker));
        self.labelled = machines.iter().sum();
        self
    }

    pub fn with(mut self, mutation: Mutation) -> Self {
        self.mutation = mutation;
        let planner = Arc::get_mut(&mut self.planner).expect("nobody searches yet");
        planner.mutation = mutation;
        self
    }

    pub fn machines(&self) -> u8 {
        u8::try_from(self.planner.names.len()).unwrap()
    }

    /// Machines that NIO cannot reach, a bit each.
    pub fn hidden(&self, state: &State) -> u8 {
        let hidden = (0..self.machines()).filter(|it| state.machines[usize::from(*it)].hidden);
        hidden.map(|machine| 1 << machine).sum()
    }
}
