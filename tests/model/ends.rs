//! No dead ends: from every state that can come about, a path leads to rest, or to a wait that a person can end. It is computed backwards
//! over the whole graph, since stateright's `eventually` takes a cycle for an end.

use std::collections::HashMap;
use std::time::Instant;

use nico::api::conditions::Reason;
use stateright::Model as _;

use crate::compact::{Life, Reads};
use crate::model::{Fault, Move};
use crate::planner::View;
use crate::search::{Search, Sketch};
use crate::searches::{a_worker_leads, one_joins_as_either, two_together};
use crate::state::{Pc, State};

/// What does not come right by itself in this world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// All does: NIO works, machines and the cluster come back, time passes.
    Nothing,
    /// NIO never applies anything of the edited repository.
    BadRevision,
    /// What is down, hidden or silent stays so.
    Outage,
}

impl Search {
    /// Whether a move is one that the world makes of itself, sooner or later.
    fn comes(&self, state: &State, made: Move, lasting: Lasting) -> bool {
        match made {
            Move::Edit | Move::Delete | Move::Crash(..) | Move::Fault(..) => false,
            Move::Applies(machine) => {
                let held = state.machines[usize::from(machine)].child;
                lasting != Lasting::BadRevision
                    || held.is_some_and(|child| {
                        !self.planner.repository(child.held.text).contains("/b.")
                    })
            }
            Move::Recovers(_) | Move::Speaks => lasting != Lasting::Outage,
            _ => true,
        }
    }

    /// What the planner makes of the world as it is, once every clock has run out.
    fn in_the_end(&self, state: &State) -> std::sync::Arc<crate::planner::Planned> {
        let mut reads = Reads::default();
        self.read_all(state, &mut reads);
        let view = self.view(state, &reads, None);
        self.planner.plan(&View {
            patient: true,
            overdue: true,
            ..view
        })
    }

    /// Nothing is left to be done, and nobody is doing anything: the cluster is as the spec says, or nothing is left of it.
    fn is_at_rest(&self, state: &State) -> bool {
        if state.operators.iter().any(|it| it.pc != Pc::Idle) || !state.late.is_empty() {
            return false;
        }
        if state.estate.life != Life::Lives {
            return self.is_all_gone(state);
        }
        let mut members = state.machines.iter().filter(|it| it.child.is_some());
        members.all(|machine| !machine.marks.is_marked())
            && state
                .ledger
                .is_some_and(|slot| slot.is_empty() && !slot.fencing)
            && self.in_the_end(state).settled
    }

    /// A condition says what a person has to do.
    fn waits_for_a_person(&self, state: &State) -> bool {
        let planned = self.in_the_end(state);
        planned.waits.iter().any(|(reason, stalled)| {
            *stalled
                || matches!(
                    reason,
                    Reason::QuorumLost
                        | Reason::QuorumAtRisk
                        | Reason::ClusterUnreachable
                        | Reason::NodeNotReady
                        | Reason::ApiServerNotReady
                        | Reason::WouldLoseQuorum
                        | Reason::MachineUndiscoverable
                )
        })
    }
}

/// Every state, and which lead to which by what the world does of itself.
struct Graph {
    states: Vec<State>,
    /// For each state those that lead to it.
    from: Vec<Vec<u32>>,
    /// For each state the move by which it first came about, and from which one.
    first: Vec<Option<(usize, Move)>>,
}

impl Graph {
    /// The shortest way to a state.
    fn way_to(&self, mut at: usize) -> Vec<Move> {
        let mut moves = Vec::new();
        while let Some((before, made)) = self.first[at] {
            moves.push(made);
            at = before;
        }
        moves.reverse();
        moves
    }
}

fn explore(search: &Search, lasting: Lasting) -> Graph {
    let mut graph = Graph {
        states: Vec::new(),
        from: Vec::new(),
        first: Vec::new(),
    };
    let mut known: HashMap<State, u32> = HashMap::new();
    let mut find = |state: State, came: Option<(usize, Move)>, graph: &mut Graph| {
        *known.entry(state).or_insert_with_key(|state| {
            graph.states.push(state.clone());
            graph.from.push(Vec::new());
            graph.first.push(came);
            u32::try_from(graph.states.len() - 1).unwrap()
        })
    };
    for state in search.init_states() {
        find(state, None, &mut graph);
    }
    let mut at = 0;
    let mut moves = Vec::new();
    while at < graph.states.len() {
        let state = graph.states[at].clone();
        search.actions(&state, &mut moves);
        for made in moves.drain(..) {
            let Some(next) = search.next_state(&state, made) else {
                continue;
            };
            let next = find(next, Some((at, made)), &mut graph);
            if search.comes(&state, made, lasting) {
                graph.from[next as usize].push(u32::try_from(at).unwrap());
            }
        }
        at += 1;
    }
    graph
}

/// The states from which no path leads to a good one.
fn dead(graph: &Graph, good: impl Fn(&State) -> bool) -> (usize, Vec<usize>) {
    let mut leads: Vec<bool> = graph.states.iter().map(good).collect();
    let mut open: Vec<usize> = (0..leads.len()).filter(|at| leads[*at]).collect();
    let good = open.len();
    while let Some(at) = open.pop() {
        for before in &graph.from[at] {
            let before = *before as usize;
            if !std::mem::replace(&mut leads[before], true) {
                open.push(before);
            }
        }
    }
    let dead = (0..leads.len()).filter(|at| !leads[*at]);
    (good, dead.collect())
}

pub fn has_no_dead_end(name: &str, search: &Search, lasting: Lasting) {
    if let Some(DeadEnd { state, moves }) = dead_ends(name, search, lasting).first() {
        let (length, story) = (moves.len(), crate::walk::story(state));
        panic!("{name}: a dead end after {length} moves: {moves:?}\n{story}");
    }
}

/// A state from which no path leads to rest, and the shortest way to it.
pub struct DeadEnd {
    pub state: State,
    pub moves: Vec<Move>,
}

/// The dead ends, the first one first.
pub fn dead_ends(name: &str, search: &Search, lasting: Lasting) -> Vec<DeadEnd> {
    let begun = Instant::now();
    let graph = explore(search, lasting);
    let good = |state: &State| {
        search.is_at_rest(state) || lasting != Lasting::Nothing && search.waits_for_a_person(state)
    };
    let (good, dead) = dead(&graph, good);
    println!(
        "{name}, lasting: {lasting:?}: {} states, {good} at rest or named, {} dead ends, {:.1} s",
        graph.states.len(),
        dead.len(),
        begun.elapsed().as_secs_f32()
    );
    let ends = dead.into_iter().map(|at| DeadEnd {
        state: graph.states[at].clone(),
        moves: graph.way_to(at),
    });
    ends.collect()
}

#[test]
fn three_and_one() {
    let search = Search::new(3, 1).edits([1, 0]).crashes(1);
    has_no_dead_end("3+1", &search, Lasting::Nothing);
    has_no_dead_end("3+1", &search, Lasting::BadRevision);
}

#[test]
fn three_with_outages() {
    let search = Search::new(3, 0)
        .edits([1])
        .faults(1, [Fault::Down, Fault::Hidden, Fault::Silence]);
    has_no_dead_end("3+0, a fault", &search, Lasting::Nothing);
    has_no_dead_end("3+0, a fault", &search, Lasting::Outage);
}

#[test]
fn a_lost_ledger() {
    let search = Search::new(2, 0)
        .edits([1, 0])
        .crashes(1)
        .faults(1, [Fault::LedgerLost]);
    has_no_dead_end("2+0, the ledger lost", &search, Lasting::Nothing);
}

#[test]
fn a_configuration_deleted_by_hand() {
    let search = Search::new(3, 0)
        .edits([1])
        .crashes(1)
        .faults(1, [Fault::ChildLost]);
    has_no_dead_end("3+0, one deleted", &search, Lasting::Nothing);
}

#[test]
fn a_control_plane_that_shrinks() {
    let of = |control_plane| Sketch {
        repository: "a",
        control_plane,
        workers: 0,
    };
    let search = Search::of(&[of(4), of(3)]).edits([1]).crashes(1);
    has_no_dead_end("4 to 3", &search, Lasting::Nothing);
    let search = Search::of(&[of(3), of(1)]).edits([1]).crashes(1);
    // A person has to say that one of two may go.
    has_no_dead_end("3 to 1", &search, Lasting::Outage);
}

#[test]
fn two_workers_together() {
    let search = two_together().edits([1, 0]).crashes(1);
    has_no_dead_end("1+2 together", &search, Lasting::Nothing);
    has_no_dead_end("1+2 together", &search, Lasting::BadRevision);
    let search = two_together().edits([2, 0]).crashes(1);
    has_no_dead_end("1+2 to 1 together", &search, Lasting::Nothing);
}

#[test]
fn a_role_that_changes() {
    // A person has to say that one of two may go.
    let search = a_worker_leads().crashes(1);
    has_no_dead_end("x leads and works again", &search, Lasting::Outage);
    let search = one_joins_as_either().crashes(1);
    has_no_dead_end("x leads, works, and stays out", &search, Lasting::Outage);
}

#[test]
fn two_operators() {
    let search = Search::new(3, 0).edits([1]).operators(2).crashes(1);
    has_no_dead_end("3+0, two operators", &search, Lasting::Nothing);
}
