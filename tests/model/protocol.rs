//! Each step of the slot's protocol is needed: without it the search finds what must never be.

use crate::model::Fault;
use crate::mutation::Mutation;
use crate::search::{Search, Sketch};
use crate::searches::one_joins_as_either;
use crate::walk::walk;

pub fn is_found(mutation: Mutation, search: Search) {
    let found = walk(&format!("{mutation:?}"), search.with(mutation));
    let found = found.unwrap_or_else(|| panic!("{mutation:?} is not found"));
    println!(
        "{mutation:?}: {} after {} moves",
        found.property,
        found.moves.len()
    );
}

fn two_operators() -> Search {
    Search::new(2, 0).edits([1, 0]).operators(2)
}

#[test]
fn the_ledger_is_read_after_the_child() {
    is_found(Mutation::LedgerBeforeChild, two_operators());
}

#[test]
fn the_ledger_is_read_last() {
    is_found(Mutation::NoLastLedgerRead, two_operators());
}

#[test]
fn the_touch() {
    is_found(Mutation::NoTouch, two_operators());
}

#[test]
fn the_state_releasing() {
    is_found(Mutation::NoReleasing, two_operators());
}

#[test]
fn the_version_on_a_write() {
    is_found(Mutation::NoVersionOnWrite, two_operators());
}

#[test]
fn the_removal_by_the_ledger_from_before_the_touch() {
    is_found(Mutation::RemovalByAnyLedger, two_operators());
}

#[test]
fn the_ledger_compared_by_its_version() {
    is_found(Mutation::EqualContent, two_operators().crashes(1));
}

#[test]
fn the_slot_outside_of_the_status() {
    is_found(
        Mutation::SlotInStatus,
        two_operators().faults(1, [Fault::LedgerLost]),
    );
}

#[test]
fn the_fence_of_a_ledger_made_anew() {
    is_found(
        Mutation::NoFencing,
        two_operators().faults(1, [Fault::LedgerLost]),
    );
}

#[test]
fn no_word_of_a_cache_ends_an_entry() {
    let search = Search::new(2, 0).edits([1, 0]).crashes(1);
    is_found(Mutation::ConfirmedInCache, search);
}

#[test]
fn reads_after_the_take() {
    let search = Search::new(3, 0).edits([1]).faults(1, [Fault::Down]);
    is_found(Mutation::ReadsBeforeTake, search);
}

#[test]
fn the_wait_where_there_is_no_child() {
    is_found(Mutation::NoWaitWithoutChild, joins_and_stays_out());
}

/// A POST of the control plane may land as long as its entry waits, whatever the spec makes of its machine meanwhile.
#[test]
fn the_role_of_an_entry() {
    let search = one_joins_as_either().crashes(1);
    is_found(Mutation::RoleBySpec, search);
}

/// A third machine is asked for, and not any more.
fn joins_and_stays_out() -> Search {
    let of = |repository, control_plane| Sketch {
        repository,
        control_plane,
        workers: 0,
    };
    Search::of(&[of("a", 2), of("a", 3), of("b", 2)])
        .edits([1, 2])
        .crashes(1)
}
