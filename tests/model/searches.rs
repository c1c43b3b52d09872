//! The searches: every state of each is walked. Those of every day are small; `full_` is for a quiet hour (`main.rs`).

use crate::model::Fault::{ChildLost, Down, Fades, Hidden, LedgerLost, Silence, Wiped};
use crate::search::{Search, Sketch};
use crate::walk::walk;

/// Walks every state; the shortest way to what must never be is an error.
pub fn holds(name: &str, search: Search) {
    let found = walk(name, search);
    assert!(found.is_none(), "{name}: {}", found.unwrap());
}

/// Control plane machines alone, at repository `a` or `b`.
fn sketch(repository: &'static str, control_plane: u8) -> Sketch {
    Sketch {
        repository,
        control_plane,
        workers: 0,
    }
}

#[test]
fn three_and_one() {
    let search = Search::new(3, 1).edits([1, 0]).crashes(1).fine();
    holds("3+1, two edits, a crash", search);
}

#[test]
fn three_whose_nio_forgets() {
    let search = Search::new(3, 0).edits([1, 0]);
    holds("3+0, NIO forgets", search.faults(1, [Fades, Wiped]));
}

#[test]
fn three_with_an_outage() {
    let search = Search::new(3, 0).edits([1]);
    holds("3+0, an outage", search.faults(1, [Down, Hidden]));
    let search = Search::new(3, 0).edits([1, 0]);
    holds("3+0, silence", search.faults(1, [Silence]));
}

#[test]
fn three_without_a_quorum() {
    let search = Search::new(3, 0).edits([1]);
    holds("3+0, two down", search.faults(2, [Down]));
}

#[test]
fn five() {
    holds("5+0", Search::new(5, 0).edits([1]).crashes(1).fine());
}

#[test]
fn two_operators() {
    let search = Search::new(3, 0).edits([1]).operators(2).crashes(1);
    holds("3+0, two operators", search);
    let search = Search::new(2, 0).edits([1, 0]).operators(2);
    holds("2+0, two operators", search);
}

#[test]
fn two_with_caches() {
    let search = Search::new(2, 0).edits([1, 0]).crashes(1);
    holds("2+0, caches", search.caches());
}

#[test]
fn a_lost_ledger() {
    let search = Search::new(2, 0).edits([1, 0]).operators(2);
    holds("2+0, the ledger lost", search.faults(1, [LedgerLost]));
    let specs = [sketch("a", 2), sketch("a", 3), sketch("b", 3)];
    let search = Search::of(&specs).edits([1, 2]);
    holds("2 to 3, the ledger lost", search.faults(1, [LedgerLost]));
    let search = Search::new(3, 0).edits([1, 0]);
    holds("3+0, the ledger lost", search.faults(1, [LedgerLost]));
}

#[test]
fn a_configuration_deleted_by_hand() {
    let search = Search::new(3, 0).edits([1]).crashes(1);
    holds("3+0, one deleted", search.faults(1, [ChildLost]));
}

#[test]
fn two_workers() {
    holds("1+2", Search::new(1, 2).edits([1, 0]).crashes(1));
}

/// A control plane machine and two workers, which may be changed together; at `a` and `b`, and without the workers.
pub fn two_together() -> Search {
    let of = |repository, workers| Sketch {
        repository,
        control_plane: 1,
        workers,
    };
    Search::two_at_once(&[of("a", 2), of("b", 2), of("a", 0)])
}

#[test]
fn two_workers_together() {
    let search = two_together;
    holds("1+2 together", search().edits([1, 0]).crashes(1));
    holds(
        "1+2 together, each read",
        search().edits([1]).crashes(1).fine(),
    );
    holds(
        "1+2 together, two operators",
        search().edits([1]).operators(2),
    );
    holds("1+2 to 1 together", search().edits([2, 0]).crashes(1));
}

/// A worker joins the control plane, and is a worker again after all.
pub fn a_worker_leads() -> Search {
    Search::of_roles(&[("a", &["cp-1"], &["x"]), ("a", &["cp-1", "x"], &[])]).edits([1, 0])
}

/// A machine is asked for as one of the control plane, as a worker, and not any more.
pub fn one_joins_as_either() -> Search {
    Search::of_roles(&[
        ("a", &["cp-1"], &[]),
        ("a", &["cp-1", "x"], &[]),
        ("a", &["cp-1"], &["x"]),
        ("b", &["cp-1"], &[]),
    ])
    .edits([1, 2, 3])
}

#[test]
fn a_role_that_changes() {
    holds("x leads and works again", a_worker_leads().crashes(1));
    holds(
        "x leads, works, and stays out",
        one_joins_as_either().crashes(1),
    );
    let specs: [(_, &[&str], &[&str]); 2] =
        [("a", &["cp-1"], &["x", "y"]), ("a", &["cp-1", "x"], &["y"])];
    holds(
        "1+2, one leads",
        Search::of_roles(&specs).edits([1]).crashes(1),
    );
}

#[test]
fn workers_that_leave() {
    let of = |repository, workers| Sketch {
        repository,
        control_plane: 1,
        workers,
    };
    let specs = [of("a", 2), of("a", 0), of("b", 0)];
    let search = || Search::of(&specs).crashes(1);
    holds("1+2 to 1 and back", search().edits([1, 0]));
    holds("1+2 to 1, and another repository", search().edits([1, 2]));
}

#[test]
fn a_control_plane_that_shrinks() {
    let specs = [sketch("a", 4), sketch("a", 3), sketch("b", 3)];
    let search = || Search::of(&specs).edits([1, 2]);
    holds("4 to 3", search().crashes(1));
    holds("4 to 3, one down", search().faults(1, [Down]));
    let specs = [sketch("a", 3), sketch("a", 2)];
    let search = Search::of(&specs).edits([1]).operators(2).crashes(1);
    holds("3 to 2, two operators", search);
    let specs = [sketch("a", 2), sketch("a", 1)];
    holds("2 to 1, and nobody said so", Search::of(&specs).edits([1]));
}

#[test]
fn a_control_plane_that_grows() {
    let specs = [sketch("a", 1), sketch("a", 3), sketch("b", 3)];
    holds("1 to 3", Search::of(&specs).edits([1, 2]).crashes(1));
    let specs = [sketch("a", 2), sketch("a", 3), sketch("b", 2)];
    holds(
        "2 to 3 and back",
        Search::of(&specs).edits([1, 2]).crashes(1),
    );
    let specs = [sketch("a", 3), sketch("a", 4)];
    holds("3 to 4", Search::of(&specs).edits([1]).faults(1, [Down]));
}

#[test]
#[ignore = "the full size"]
fn full_three_and_one() {
    let search = || Search::new(3, 1).edits([1, 0]).crashes(1).fine();
    holds("3+1, caches", search().caches());
    holds("3+1, two crashes", search().crashes(2));
    holds(
        "3+1, A to B to C",
        Search::new(3, 1).edits([1, 2]).crashes(1).fine(),
    );
    let kinds = [Down, Hidden, Silence, Fades, Wiped];
    holds("3+1, a fault", search().faults(1, kinds));
}

#[test]
#[ignore = "the full size"]
fn full_five() {
    let search = || Search::new(5, 0).edits([1]).crashes(1).fine();
    holds("5+0, caches", search().caches());
    holds("5+0, two down", search().faults(2, [Down]));
    holds("5+0, the ledger lost", search().faults(1, [LedgerLost]));
}

#[test]
#[ignore = "the full size"]
fn full_two_operators() {
    let search = || Search::new(3, 0).edits([1]).operators(2);
    holds("3+0, two operators, each read", search().crashes(1).fine());
    let search = || Search::new(3, 0).edits([1, 0]).operators(2);
    holds("3+0, two operators, two edits", search().crashes(1));
    holds(
        "3+0, two operators, the ledger lost",
        search().faults(1, [LedgerLost]),
    );
    holds(
        "2+0, two operators, caches",
        Search::new(2, 0).edits([1]).operators(2).caches(),
    );
}

#[test]
#[ignore = "the full size"]
fn full_roles() {
    holds(
        "x leads and works again, two operators",
        a_worker_leads().operators(2),
    );
    holds(
        "x leads, works, and stays out, two crashes",
        one_joins_as_either().crashes(2),
    );
    holds(
        "x leads, works, and stays out, two operators",
        one_joins_as_either().operators(2),
    );
    let search = one_joins_as_either().faults(1, [ChildLost]);
    holds("x leads, works, and stays out, one deleted", search);
}

#[test]
#[ignore = "the full size"]
fn full_three_with_two_faults() {
    let kinds = [Down, Hidden, Silence, Fades, Wiped, LedgerLost, ChildLost];
    holds(
        "3+0, two faults",
        Search::new(3, 0).edits([1, 0]).faults(2, kinds),
    );
}
