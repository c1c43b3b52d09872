//! Searches in which healthy machines leave and their pods are given time (SPEC 4.6), and their ends: who stays bears no mark of it.

use crate::ends::{Lasting, has_no_dead_end};
use crate::model::Fault::{ChildLost, Cordoned, Down, Silence};
use crate::search::{Search, Sketch};
use crate::searches::holds;

/// Machines at repository `a`.
fn sketch(control_plane: u8, workers: u8) -> Sketch {
    Sketch {
        repository: "a",
        control_plane,
        workers,
    }
}

/// No state breaks a rule, and from each of them a path leads to rest.
fn ends_well(name: &str, search: Search) {
    has_no_dead_end(name, &search, Lasting::Nothing);
    holds(name, search);
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
    ends_well("1+1 to 1 and back", a_worker_and_back().crashes(1));
    let by_hand = a_worker_and_back().faults(1, [Cordoned]);
    ends_well("1+1 to 1 and back, cordoned by hand", by_hand);
}

#[test]
fn a_worker_is_drained_by_two() {
    let search = a_worker_and_back().operators(2);
    ends_well("1+1 to 1 and back, two operators", search);
}

#[test]
fn a_control_plane_machine_is_drained() {
    ends_well(
        "4 to 3 and back, drained",
        one_of_four_and_back().crashes(1),
    );
}

#[test]
fn two_control_plane_machines_are_drained() {
    let search = Search::draining(&[sketch(5, 0), sketch(3, 0)]).edits([1]);
    ends_well("5 to 3, drained", search.crashes(1));
}

#[test]
#[ignore = "the full size"]
fn full_leaving() {
    let faults = one_of_four_and_back().faults(1, [Down, Silence, Cordoned, ChildLost]);
    ends_well("4 to 3 and back, drained, a fault", faults);
    let search = Search::draining(&[sketch(1, 2), sketch(1, 1)]).edits([1, 0]);
    ends_well("1+2 to 1+1 and back, two operators", search.operators(2));
    let search = Search::draining(&[sketch(5, 0), sketch(3, 0)]).edits([1, 0]);
    ends_well("5 to 3 and back, drained", search.crashes(1));
    ends_well(
        "4 to 3 and back, two operators",
        one_of_four_and_back().operators(2),
    );
}
