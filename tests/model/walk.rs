//! One search, walked to its end or to what must never be.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use stateright::{Checker as _, HasDiscoveries, Model as _};

use crate::compact::State;
use crate::model::{Move, Search};

/// A way to what must never be.
pub struct Found {
    pub property: &'static str,
    pub moves: Vec<Move>,
    last: State,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} after {} moves", self.property, self.moves.len())?;
        for made in &self.moves {
            writeln!(f, "  {made:?}")?;
        }
        write!(f, "{:#?}", self.last)
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
        last: states.into_iter().next_back()?,
    })
}
