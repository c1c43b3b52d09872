//! Searches in which healthy machines leave and their pods are given time, and their ends: who stays bears no mark of it.

use crate::ends::{Lasting, has_no_dead_end};
use crate::model::Fault::{Cordoned, CordonedMeanwhile, Down, Silence};
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

/// No state breaks a rule, and from each of them a path leads to rest.
fn ends_well(name: &str, search: &Search) {
    holds(name, search.clone());
    has_no_dead_end(name, search, Lasting::Nothing);
}

/// The only worker leaves, and stays after all.
fn a_worker_and_back() -> Search {
    Search::draining(&[sketch(1, 1), sketch(1, 0)]).edits([1, 0])
}

/// A control plane machine leaves, and stays after all.
fn one_of_four_and_back() -> Search {
    Search::draining(&[sketch(4, 0), sketch(3, 0)]).edits([1, 0])
}

#[test]
fn a_worker_is_drained() {
    ends_well("1+1 to 1 and back", &a_worker_and_back().crashes(1));
    let by_hand = a_worker_and_back().faults(1, [Cordoned]);
    ends_well("1+1 to 1 and back, cordoned by hand", &by_hand);
}

#[test]
fn a_worker_is_drained_by_two() {
    let search = a_worker_and_back().operators(2);
    ends_well("1+1 to 1 and back, two operators", &search);
}

#[test]
fn two_workers_are_drained_together() {
    let search = Search::draining_at_once(&[sketch(1, 2), sketch(1, 0)], 2);
    ends_well("1+2 to 1, together", &search.edits([1]).crashes(1));
}

#[test]
fn a_control_plane_machine_is_drained() {
    ends_well(
        "4 to 3 and back, drained",
        &one_of_four_and_back().crashes(1),
    );
}

#[test]
fn two_control_plane_machines_are_drained() {
    let search = Search::draining(&[sketch(5, 0), sketch(3, 0)]).edits([1]);
    ends_well("5 to 3, drained", &search.crashes(1));
}

#[test]
fn another_one_goes_down_meanwhile() {
    let search = Search::draining(&[sketch(3, 0), sketch(2, 0)]).edits([1]);
    ends_well("3 to 2, drained, one down", &search.faults(1, [Down]));
}

#[test]
fn one_of_two_is_not_drained() {
    let search = Search::draining(&[sketch(2, 0), sketch(1, 0)]).edits([1]);
    holds("2 to 1, drained, and nobody said so", search);
}

/// A person's hand between NICO's look at a Node and its write: that write insists on no version of the Node, and NICO takes the
/// person's mark for its own. The search finds it, as long as it is so.
#[test]
fn a_hand_meanwhile() {
    let search = a_worker_and_back().faults(1, [CordonedMeanwhile]);
    let found = walk("1+1 to 1 and back, cordoned meanwhile", search).expect("it is still found");
    println!(
        "{} after {} moves: {:?}",
        found.property,
        found.moves.len(),
        found.moves
    );
}

#[test]
#[ignore = "the full size"]
fn full_leaving() {
    let faults = one_of_four_and_back().faults(1, [Down, Silence, Cordoned]);
    ends_well("4 to 3 and back, drained, a fault", &faults);
    let search = Search::draining(&[sketch(1, 2), sketch(1, 1)]).edits([1, 0]);
    ends_well("1+2 to 1+1 and back, two operators", &search.operators(2));
    let search = Search::draining(&[sketch(5, 0), sketch(3, 0)]).edits([1, 0]);
    ends_well("5 to 3 and back, drained", &search.crashes(1));
    ends_well(
        "4 to 3 and back, two operators",
        &one_of_four_and_back().operators(2),
    );
}
