//! When a cluster is looked at again though nothing happens: what no watch tells of, each step of the planner asks for itself.

use nico::api::ledger::LedgerError;
use nico::plan::observed::{LedgerView, SecretView, WorkloadHealth};
use serde_json::json;

use crate::given::{Given, PROD, Seen, cluster, given, machine, planned, settled};
use crate::rollout::{new_repository, ready};

#[track_caller]
fn seconds(seen: &Seen) -> Option<u64> {
    seen.plan.look_again.map(|delay| delay.as_secs())
}

#[test]
fn what_is_missing_and_no_watch_shows_is_looked_for_after_five_seconds() {
    let one = || given(cluster().control_plane(["a"])).machines(["a"]);
    let with = |change: &dyn Fn(&mut Seen)| {
        let mut seen = one().when(planned);
        change(&mut seen);
        seen.plan = nico::plan::plan(&seen.observed, seen.world.now, &seen.world.settings);
        seconds(&seen)
    };
    assert_eq!(with(&|_| {}), None, "nothing is missing");
    assert_eq!(with(&|seen| seen.observed.nio = None), Some(5));
    assert_eq!(
        with(&|seen| seen.observed.join_token = SecretView::Foreign),
        Some(5)
    );
    assert_eq!(
        with(&|seen| seen.observed.ledger = LedgerView::Foreign),
        Some(5)
    );
    let unreadable = LedgerView::Unreadable(LedgerError::Missing("id"));
    assert_eq!(
        with(&|seen| seen.observed.ledger = unreadable.clone()),
        Some(5)
    );
    assert_eq!(
        with(&|seen| seen.observed.kubeconfig.secret = SecretView::Foreign),
        Some(5)
    );
}

#[test]
fn a_key_that_cannot_be_used_is_looked_for_after_five_seconds() {
    let keyless = |inject: bool| -> Given {
        let cluster = cluster().control_plane(["a"]);
        given(cluster.set("injectSSHKey", json!(inject))).with(machine("a").without_key())
    };
    assert_eq!(seconds(&keyless(true).when(planned)), Some(5));
    assert_eq!(seconds(&keyless(false).when(planned)), None);
}

#[test]
fn the_cluster_is_asked_again_sooner_while_a_machine_is_changed() {
    let rolling = || {
        let mut given = ready();
        new_repository(&mut given.0);
        given
    };
    let seen = rolling().when(planned);
    assert!(seen.plan.needs_probe && !seen.plan.next.is_empty());
    assert_eq!(seconds(&seen), Some(2), "one is next");
    let seen = rolling()
        .and(|world| assert!(world.pass(PROD)))
        .when(planned);
    assert!(!seen.plan.in_flight.is_empty());
    assert_eq!(seconds(&seen), Some(2), "one is in flight");
    let mut seen = rolling().when(planned);
    seen.observed.workload = WorkloadHealth::NotReachable("down".to_owned());
    seen.plan = nico::plan::plan(&seen.observed, seen.world.now, &seen.world.settings);
    assert!(seen.plan.needs_probe && seen.plan.next.is_empty());
    assert_eq!(seconds(&seen), Some(10), "nothing moves");
}

/// However late the look comes, the next is when NIO is late, and not as long again.
#[test]
fn a_deletion_is_looked_at_when_nio_is_late() {
    let waits = |seconds: i64| {
        let deleting = given(cluster().control_plane(["a"]))
            .machines(["a"])
            .when(settled)
            .when(|world| {
                world.delete_cluster(PROD);
                world.pass(PROD);
                world.wait(seconds);
            });
        self::seconds(&deleting)
    };
    assert_eq!(waits(0), Some(240));
    assert_eq!(waits(230), Some(10));
    assert_eq!(waits(240), None, "it is said that NIO is late");
}
