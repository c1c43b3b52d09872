//! Searches in which the cluster is deleted, at any step of what goes on, and their ends: nothing is left of it.
//!
//! A deletion waits for no request of before it, as the end of an entry does. A POST that lands after the last LIST is seen by nobody. Then a
//! configuration refers to tokens that are gone: the garbage collector deletes it, since its owner is gone, and NIO lets go of it
//! (classic skips Secrets that are not there). But a token or a ledger that comes so late bears NICO's own finalizer,
//! and nobody takes that off. `what_comes_too_late` shows both, and that a wait of two minutes would keep them from coming.

use crate::compact::Life;
use crate::ends::{DeadEnd, Lasting, dead_ends, has_no_dead_end};
use crate::mutation::Mutation;
use crate::search::{Search, Sketch};
use crate::searches::holds;
use crate::walk::walk;

/// Machines at repository `a`.
fn sketch(control_plane: u8, workers: u8) -> Sketch {
    Sketch {
        repository: "a",
        control_plane,
        workers,
    }
}

/// No state breaks a rule, and from every state of a deletion a path leads to nothing being left.
fn all_goes(name: &str, search: Search) {
    let name = format!("{name}, deleted");
    let search = search.deleted();
    holds(&name, search.clone());
    has_no_dead_end(&name, &search, Lasting::Nothing);
}

/// Where nothing happens any more, a token or the ledger is there, held by NICO's own finalizer.
fn is_left_behind(name: &str, search: &Search) {
    let left = |DeadEnd { state, .. }: &&DeadEnd| {
        let children = state.estate.children != 0 || state.ledger.is_some();
        state.broken.is_none() && state.estate.life == Life::Gone && children
    };
    let ends = dead_ends(name, search, Lasting::Nothing);
    let end = ends.iter().find(left).expect("it is still found");
    let (length, moves) = (end.moves.len(), &end.moves);
    println!("{name}: something is left behind after {length} moves: {moves:?}");
}

fn comes_up() -> Search {
    Search::of(&[sketch(1, 1)]).brought_up()
}

/// Another worker joins.
fn a_worker_joins() -> Search {
    Search::of(&[sketch(1, 0), sketch(1, 1)]).edits([1])
}

#[test]
fn in_the_middle_of_a_roll() {
    all_goes("2+1", Search::new(2, 1).edits([1]).crashes(1));
}

#[test]
fn while_it_comes_up() {
    all_goes("1+1 comes up", comes_up().crashes(1));
    let search = Search::of(&[sketch(1, 0)]).brought_up();
    all_goes("1+0 comes up, two operators", search.operators(2));
}

#[test]
fn while_machines_come_and_go() {
    let search = Search::of(&[sketch(3, 0), sketch(3, 1)]).edits([1]);
    all_goes("3 to 3+1", search.crashes(1));
    let search = Search::of(&[sketch(4, 0), sketch(3, 0)]).edits([1]);
    all_goes("4 to 3", search.crashes(1));
    let search = Search::of(&[sketch(1, 0), sketch(2, 0)]).edits([1]);
    all_goes("1 to 2", search.crashes(1));
}

#[test]
fn by_two_operators() {
    let search = Search::of(&[sketch(2, 0)]).operators(2);
    all_goes("2+0, two operators", search.crashes(1));
    all_goes("1 to 1+1, two operators", a_worker_joins().operators(2));
}

/// What a request of before the deletion does that lands after its last LIST; and that nothing of it is left where a deletion waits
/// until none can land.
#[test]
fn what_comes_too_late() {
    let cases = || {
        [
            ("1 to 1+1, two operators", a_worker_joins().operators(2)),
            ("1 to 1+1, a crash", a_worker_joins().crashes(1)),
            ("1+1 comes up, a crash", comes_up().crashes(1)),
        ]
        .map(|(name, search)| (name, search.deleted().punctual()))
    };
    for (name, search) in cases() {
        let found = walk(name, search).expect("it is still found");
        let (length, moves) = (found.moves.len(), &found.moves);
        println!("{name}: {} after {length} moves: {moves:?}", found.property);
    }
    let (name, search) = cases().into_iter().last().unwrap();
    is_left_behind(name, &search);
    for (name, search) in cases() {
        let search = search.with(Mutation::DeletionWaits);
        has_no_dead_end(name, &search, Lasting::Nothing);
        holds(name, search);
    }
}

/// Two operators, and none dies: one makes a token or the ledger between the other's end of it and of the finalizer. A second look at
/// the cluster object, which heeds its deletionTimestamp, takes it away again.
#[test]
fn what_another_makes_too_late() {
    let search = || {
        Search::of(&[sketch(1, 0)])
            .brought_up()
            .operators(2)
            .deleted()
            .leaves_nothing()
    };
    let name = "1+0 comes up, two operators";
    is_left_behind(name, &search().with(Mutation::UnlessGoneAlone));
    has_no_dead_end(name, &search(), Lasting::Nothing);
}

#[test]
#[ignore = "the full size"]
fn full_deletions() {
    all_goes("3+1", Search::new(3, 1).edits([1]).crashes(1).fine());
    let search = Search::new(2, 1).edits([1]).crashes(1);
    all_goes("2+1, caches", search.caches());
    all_goes(
        "2+0, two operators",
        Search::new(2, 0).edits([1]).operators(2).crashes(1),
    );
    all_goes(
        "1+1 comes up, two operators",
        comes_up().operators(2).crashes(1),
    );
    let search = Search::of(&[sketch(4, 0), sketch(3, 0)]).edits([1]);
    all_goes("4 to 3, two operators", search.operators(2));
}
