//! One search, walked to its end or to what must never be.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;

use stateright::{Checker as _, HasDiscoveries, Model as _};

use crate::compact::{Attempt, Estate, Kept, Proof};
use crate::model::Move;
use crate::search::Search;
use crate::state::{Pc, State};

/// A way to what must never be.
pub struct Found {
    pub property: &'static str,
    pub moves: Vec<Move>,
    states: Vec<State>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} after {} moves", self.property, self.moves.len())?;
        for (at, state) in self.states.iter().enumerate() {
            writeln!(f, "{}", story(state))?;
            if let Some(made) = self.moves.get(at) {
                writeln!(f, "{:>3} {made:?}", at + 1)?;
            }
        }
        Ok(())
    }
}

/// Walks a search and prints how many states there are; the shortest way to what must never be, where there is one.
pub fn walk(name: &str, search: Search) -> Option<Found> {
    let begun = Instant::now();
    let planner = Arc::clone(&search.planner);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = search
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!(
        "{name}: {} states, {} of them different, depth {}, {} views planned, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        planner.views(),
        begun.elapsed().as_secs_f32()
    );
    let mut found = checker.discoveries().into_iter();
    let (property, path) = found.next()?;
    let (states, moves): (Vec<State>, Vec<Option<Move>>) = path.into_vec().into_iter().unzip();
    Some(Found {
        property,
        moves: moves.into_iter().flatten().collect(),
        states,
    })
}

/// A state in a few lines: who holds what, who is where in its pass. An attempt is `text.number`.
pub fn story(state: &State) -> String {
    let attempt = |it: &Attempt| format!("{}.{}", it.text, it.number);
    let mut story = format!("    edit {}, slot", state.edit);
    match &state.ledger {
        None => story.push_str(" lost"),
        Some(slot) => {
            for entry in slot.entries.iter().flatten() {
                let role = if entry.leads {
                    "control plane"
                } else {
                    "worker"
                };
                let releasing = if entry.releasing { " releasing" } else { "" };
                let _ = write!(story, " {} as {role}{releasing}", entry.machine);
            }
            story.push_str(if slot.fencing { " fencing" } else { "" });
            story.push_str(if slot.founding { " not founded" } else { "" });
        }
    }
    if state.estate != Estate::whole() {
        let _ = write!(story, ", {:?}", state.estate);
    }
    for (index, machine) in state.machines.iter().enumerate() {
        let marks = machine.marks;
        if machine.node && (marks.is_marked() || marks.unschedulable) {
            let _ = write!(story, "\n    Node of {index}: {marks:?}");
        }
        let Some(child) = &machine.child else {
            continue;
        };
        let kept = match &child.kept {
            Kept::Never => "never".to_owned(),
            Kept::Is(it) => attempt(it),
            Kept::Withdrawn => "withdrawn".to_owned(),
        };
        let proof = match &child.proof {
            Proof::Nothing => "-".to_owned(),
            Proof::Faded => "faded".to_owned(),
            Proof::Success(it) => attempt(it),
            Proof::Jobs(jobs) => format!("{jobs:?}"),
        };
        let held = attempt(&child.held);
        let _ = write!(story, "\n    {index}: {held} confirmed {kept} NIO {proof}");
        let words = [
            (child.leads, "control plane"),
            (machine.flying, "in flight"),
            (child.rewritten, "rewritten"),
            (machine.aged, "an hour ago"),
            (machine.older.is_some(), "older one running"),
            (machine.down, "down"),
            (machine.hidden, "hidden"),
            (child.terminating, "terminating"),
        ];
        for (_, word) in words.iter().filter(|(is, _)| *is) {
            let _ = write!(story, ", {word}");
        }
    }
    for operator in &state.operators {
        let pc = match &operator.pc {
            Pc::Idle => "idle".to_owned(),
            Pc::Look(reads) => format!("looks, {} done", reads.done),
            Pc::Act { steps, .. } => format!("does {steps:?}"),
            Pc::Under {
                machines, reads, ..
            } => format!("under the entries of {machines:05b}, {} done", reads.done),
        };
        let _ = write!(story, "\n    operator: {pc}");
    }
    for late in &state.late {
        let _ = write!(story, "\n    late: {:?}", late.step);
    }
    story
}
