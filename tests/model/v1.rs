//! Searches beside NIO v1, which applies by Jobs: they overlap, an older one may end last, and a new commit starts one at once.

use crate::ends::{Lasting, has_no_dead_end};
use crate::model::Fault::{ChildLost, Down, Hidden, LedgerLost, Wiped};
use crate::mutation::Mutation;
use crate::protocol::is_found;
use crate::search::Search;
use crate::searches::holds;

#[test]
fn two_by_jobs() {
    let search = || Search::by_jobs(2, 0).edits([1, 0]);
    holds("2+0, v1", search().crashes(1));
    holds("2+0, v1, caches", search().caches());
    holds("2+0, v1, A to B to C", Search::by_jobs(2, 0).edits([1, 2]));
}

#[test]
fn three_by_jobs() {
    holds("3+0, v1", Search::by_jobs(3, 0).edits([1, 0]).crashes(1));
    let search = Search::by_jobs(3, 0).edits([1]).faults(1, [Wiped]);
    holds("3+0, v1, Jobs are pruned", search);
}

#[test]
fn one_and_one_by_jobs() {
    holds("1+1, v1", Search::by_jobs(1, 1).edits([1, 0]).crashes(1));
}

#[test]
fn jobs_lead_to_no_dead_end() {
    let search = Search::by_jobs(3, 0).edits([1, 0]).crashes(1);
    has_no_dead_end("3+0, v1", &search, Lasting::Nothing);
    let pruned = Search::by_jobs(3, 0).edits([1]).faults(1, [Wiped]);
    has_no_dead_end("3+0, v1, Jobs are pruned", &pruned, Lasting::Nothing);
}

/// A machine that v1 calls ready while nothing was applied yet.
#[test]
fn ready_is_no_proof() {
    is_found(Mutation::ReadyIsProof, Search::by_jobs(2, 0).edits([1]));
}

#[test]
fn no_job_is_a_proof_beside_one_that_runs() {
    let search = Search::by_jobs(2, 0).edits([1, 0]);
    is_found(Mutation::UnfinishedJobsAside, search);
}

#[test]
fn only_the_job_that_ended_last_is_a_proof() {
    let search = Search::by_jobs(2, 0).edits([1, 0]);
    is_found(Mutation::AnyCompleteJob, search);
}

#[test]
#[ignore = "the full size"]
fn full_by_jobs() {
    holds(
        "3+0, v1, two edits",
        Search::by_jobs(3, 0).edits([1, 2]).crashes(1),
    );
    holds(
        "3+1, v1, each read",
        Search::by_jobs(3, 1).edits([1]).crashes(1).fine(),
    );
    holds(
        "2+0, v1, two operators",
        Search::by_jobs(2, 0).edits([1, 0]).operators(2),
    );
    let kinds = [Down, Hidden, Wiped, ChildLost, LedgerLost];
    holds(
        "3+0, v1, a fault",
        Search::by_jobs(3, 0).edits([1, 0]).faults(1, kinds),
    );
}
