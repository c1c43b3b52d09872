//! Control planes without kubelets, and so without Nodes: no rule is broken, and no machine waits for ever.

use crate::ends::{Lasting, has_no_dead_end};
use crate::model::Fault::{Down, Silence};
use crate::search::{Search, Sketch};
use crate::searches::holds;

fn sketch(repository: &'static str, control_plane: u8) -> Sketch {
    Sketch {
        repository,
        control_plane,
        workers: 0,
    }
}

fn ends_well(name: &str, search: &Search) {
    holds(name, search.clone());
    has_no_dead_end(name, search, Lasting::Nothing);
}

#[test]
fn three_and_one() {
    let search = Search::new(3, 1).without_kubelets();
    ends_well("3+1 without Nodes", &search.edits([1, 0]).crashes(1));
}

#[test]
fn three_with_an_outage() {
    let search = || Search::new(3, 0).without_kubelets().edits([1]);
    ends_well(
        "3+0 without Nodes, a fault",
        &search().faults(1, [Down, Silence]),
    );
    holds("3+0 without Nodes, two down", search().faults(2, [Down]));
}

#[test]
fn two_operators() {
    let search = Search::new(3, 0).without_kubelets().edits([1]);
    let search = search.operators(2).crashes(1);
    holds("3+0 without Nodes, two operators", search);
}

#[test]
fn one_leaves_and_one_joins() {
    let specs = [sketch("a", 4), sketch("a", 3), sketch("b", 3)];
    let search = Search::of(&specs).without_kubelets().edits([1, 2]);
    ends_well("4 to 3 without Nodes", &search.crashes(1));
    let specs = [sketch("a", 3), sketch("a", 4)];
    let search = Search::of(&specs).without_kubelets().edits([1]);
    ends_well("3 to 4 without Nodes", &search.faults(1, [Down]));
}
