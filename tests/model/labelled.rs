//! Workers whose Nodes bear the control plane's label: they may be members of etcd, so each is changed, and leaves, alone and by the
//! control plane's rules.

use crate::ends::{Lasting, has_no_dead_end};
use crate::model::Fault::Down;
use crate::search::{Search, Sketch};
use crate::searches::holds;

/// Machines at a repository; two workers may be changed at once.
fn of<const N: usize>(sketches: [(&'static str, u8, u8); N]) -> Search {
    let sketches = sketches.map(|(repository, control_plane, workers)| Sketch {
        repository,
        control_plane,
        workers,
    });
    Search::two_at_once(&sketches)
}

fn ends_well(name: &str, search: &Search, lasting: Lasting) {
    holds(name, search.clone());
    has_no_dead_end(name, search, lasting);
}

#[test]
fn one_is_rolled() {
    let search = || of([("a", 4, 1), ("b", 4, 1)]).labelled([0]).edits([1]);
    ends_well("4+1, labelled", &search().crashes(1), Lasting::Nothing);
    let down = search().faults(1, [Down]);
    ends_well("4+1, labelled, one down", &down, Lasting::Outage);
}

/// The numbers of three and one that counts as sick forbid every change of the three: a person takes the label away.
#[test]
fn one_of_two_is_rolled_alone() {
    for labelled in [0, 1] {
        let search = || {
            of([("a", 3, 2), ("b", 3, 2)])
                .labelled([labelled])
                .edits([1])
        };
        let crash = search().crashes(1);
        ends_well("3+2, one labelled", &crash, Lasting::Outage);
        holds("3+2, one labelled, two operators", search().operators(2));
    }
}

#[test]
fn two_are_rolled_one_after_the_other() {
    let search = of([("a", 3, 2), ("b", 3, 2)]).labelled([0, 1]).edits([1]);
    ends_well("3+2, both labelled", &search.crashes(1), Lasting::Outage);
}

#[test]
fn two_leave_one_after_the_other() {
    let search = || of([("a", 3, 2), ("a", 3, 0)]).labelled([0, 1]).edits([1]);
    let crash = search().crashes(1);
    ends_well("3+2 to 3, labelled", &crash, Lasting::Nothing);
    let down = search().faults(1, [Down]);
    ends_well("3+2 to 3, labelled, one down", &down, Lasting::Nothing);
}

/// It may be one of two members of etcd.
#[test]
fn one_beside_one_leaves_only_with_a_persons_word() {
    let search = of([("a", 1, 1), ("a", 1, 0)]).labelled([0]).edits([1]);
    ends_well("1+1 to 1, labelled", &search, Lasting::Outage);
}
