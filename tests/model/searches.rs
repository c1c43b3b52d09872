//! The searches: every state of each is walked.

use crate::model::{Fault, Search, Sketch};
use crate::walk::walk;

/// Walks every state; the shortest way to what must never be is an error.
fn holds(name: &str, search: Search) {
    let found = walk(name, search);
    assert!(found.is_none(), "{name}: {}", found.unwrap());
}

#[test]
fn three_and_one_with_two_edits_and_a_crash() {
    holds("3+1", Search::new(3, 1).edits([1, 0]).crashes(1));
}

#[test]
fn three_with_faults() {
    use Fault::{Down, Fades, Hidden, Silence, Wiped};
    let kinds = [Down, Fades, Hidden, Silence, Wiped];
    holds(
        "3+0, a fault",
        Search::new(3, 0).edits([1, 0]).faults(1, kinds),
    );
}

#[test]
fn five_with_one_edit() {
    holds("5+0", Search::new(5, 0).edits([1]).crashes(1));
}

#[test]
fn two_operators() {
    holds(
        "3+0, two operators",
        Search::new(3, 0).edits([1]).operators(2),
    );
}

#[test]
fn a_lost_ledger() {
    let search = Search::new(2, 0).edits([1]).crashes(1);
    holds(
        "2+0, the ledger lost",
        search.faults(1, [Fault::LedgerLost]),
    );
}

#[test]
fn a_control_plane_that_grows() {
    let of = |repository, control_plane| Sketch {
        repository,
        control_plane,
        workers: 0,
    };
    let specs = [of("a", 1), of("a", 3), of("b", 3)];
    holds("1 to 3", Search::of(&specs).edits([1, 2]).crashes(1));
    let specs = [of("a", 2), of("a", 3), of("b", 2)];
    holds(
        "2 to 3 and back",
        Search::of(&specs).edits([1, 2]).crashes(1),
    );
}

#[test]
#[ignore = "the full size"]
fn full_three_and_one_fine_with_caches() {
    let search = Search::new(3, 1).edits([1, 0]).crashes(1).fine().caches();
    holds("3+1, each read a step, caches", search);
}

#[test]
#[ignore = "the full size"]
fn full_three_and_one_fine() {
    let search = Search::new(3, 1).edits([1, 0]).crashes(1).fine();
    holds("3+1, each read a step", search);
}

#[test]
#[ignore = "the full size"]
fn full_two_operators_crash() {
    let search = Search::new(3, 0).edits([1, 0]).operators(2).crashes(1);
    holds("3+0, two operators, two edits, crash", search);
}

#[test]
#[ignore = "the full size"]
fn full_two_operators_ledger() {
    let search = Search::new(3, 0)
        .edits([1, 0])
        .operators(2)
        .faults(1, [Fault::LedgerLost]);
    holds("3+0, two operators, two edits, ledger lost", search);
}

#[test]
#[ignore = "the full size"]
fn full_three_lost_ledger() {
    let search = Search::new(3, 0)
        .edits([1, 0])
        .crashes(1)
        .faults(1, [Fault::LedgerLost]);
    holds("3+0, two edits, ledger lost", search);
}
