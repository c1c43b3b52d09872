//! What the API server does to a roll, and two operators that roll at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use rig::crds::Generation;
use rig::environment::Environment;
use rig::judge::rollout::{Evidence, Rules, broken_rolls, order};
use rig::proxy::{Call, Effect, Fault, Moment, Proxy};
use rig::wait::{wait_describing, wait_for};
use serde_json::json;

use crate::common::case::Case;
use crate::common::steps::{Step, Steps, at};
use crate::common::traffic::Counter;
use crate::common::{DEADLINE, over_both};
use crate::rollout_faults::{
    ORDER, assert_all_hold, edit, found, repository, rolled_once, rolled_to_a, setup, three_and_one,
};

over_both![
    on demand:
    every_write_of_an_entry_meets_bad_answers,
    a_roll_outlives_restarts_of_the_api_server,
    a_spec_that_goes_there_and_back_under_a_stale_cache_ends_fresh,
    an_entry_under_which_something_changed_is_taken_anew,
    two_operators_roll_at_once
];

/// A call at which NICO is held until the test lets it go on.
pub(crate) struct Stop {
    reached: Arc<tokio::sync::Notify>,
    go: Sender<()>,
}

impl Stop {
    /// Lies in wait for a step of a machine; then the connection is cut.
    pub(crate) fn at(proxy: &Proxy, machine: &str, step: Step, moment: Moment) -> Self {
        let (stop, hold) = Self::new();
        proxy.fault(at(machine, step, moment, Effect::Call(Arc::new(hold))));
        stop
    }

    /// Lies in wait for the first call that `matches`, which then goes on. Until then the proxy answers nobody, the test included.
    fn before(proxy: &Proxy, matches: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        let (stop, hold) = Self::new();
        let met = AtomicBool::new(false);
        let look = move |call: &Call| {
            if matches(call) && !met.swap(true, Ordering::SeqCst) {
                hold();
            }
            false
        };
        proxy.fault(Fault::on(look, Moment::Before, Effect::Reset));
        stop
    }

    fn new() -> (Self, impl Fn() + Send + Sync + 'static) {
        let reached = Arc::new(tokio::sync::Notify::new());
        let (go, gone): (Sender<()>, Receiver<()>) = channel();
        let (notify, gone) = (Arc::clone(&reached), Mutex::new(gone));
        let hold = move || {
            notify.notify_one();
            // The rig's thread waits, and with it NICO's call.
            let _ = gone
                .lock()
                .map(|gone| gone.recv_timeout(Duration::from_secs(20)));
        };
        (Self { reached, go }, hold)
    }

    /// Waits until NICO is there.
    pub(crate) async fn reached(&self) {
        tokio::time::timeout(DEADLINE, self.reached.notified())
            .await
            .expect("NICO gets there");
    }

    /// Lets NICO go on.
    pub(crate) fn go(&self) {
        let _ = self.go.send(());
    }
}

/// Every write under an entry, of its end, and of the ledger meets every bad answer once, one a machine.
async fn every_write_of_an_entry_meets_bad_answers(generation: Generation) {
    use Moment::{After, Before};
    let lanes = Step::ALL.chunks(2).map(async |steps| {
        let case = three_and_one(generation).await;
        let mut rules = Rules::default();
        for (n, step) in steps.iter().enumerate() {
            let bad = [
                (Before, Effect::Status(409)),
                (After, Effect::Reset),
                (Before, Effect::Status(500)),
                // A call may take half a minute: once a world.
                if n == 0 {
                    (After, Effect::Hang)
                } else {
                    (After, Effect::Status(500))
                },
            ];
            case.proxy.clear_faults();
            for (machine, (moment, effect)) in ORDER.iter().zip(bad) {
                case.proxy.fault(at(machine, *step, moment, effect));
            }
            let before = case.proxy.writes().len();
            let name = format!("{step:?}").to_lowercase();
            edit(&case, &mut rules, repository(&name)).await;
            rolled_once(&case, &rules, &name).await;
            let writes = case.proxy.writes().split_off(before);
            let met = writes.iter().filter(|call| call.faulted).count();
            assert_eq!(met, ORDER.len(), "{step:?}\n{}", case.proxy.write_lines());
        }
        case.finish_rolled(&rules).await;
    });
    futures::future::join_all(lanes).await;
}

/// In a management cluster of its own: everybody would notice.
async fn a_roll_outlives_restarts_of_the_api_server(generation: Generation) {
    let environment = Box::leak(Box::new(Environment::start(generation).await));
    let case = Case::on(environment, &setup()).await;
    found(&case).await;
    let mut rules = Rules::default();
    let before = case.proxy.writes().len();
    edit(&case, &mut rules, repository("b")).await;
    let server = &case.world.environment().control_plane;
    for writes in [5, 16] {
        let enough = || async { (case.proxy.writes().len() >= before + writes).then_some(()) };
        wait_for("the writes before it goes away", DEADLINE, enough).await;
        case.proxy.server_starts(true);
        server.stop_api_server();
        server.start_api_server().await.expect("it starts again");
        case.proxy.server_starts(false);
    }
    rolled_once(&case, &rules, "b").await;
    case.finish_rolled(&rules).await;
}

/// The watch of configurations stands still while the spec goes from A to B and, under an entry, back to A.
async fn a_spec_that_goes_there_and_back_under_a_stale_cache_ends_fresh(generation: Generation) {
    let case = three_and_one(generation).await;
    let mut rules = Rules::default();
    let old = rolled_to_a(&case, &mut rules).await;
    case.proxy.hold("nixosconfigurations", true);
    let stop = Stop::at(&case.proxy, "cp-01", Step::Taken, Moment::After);
    edit(&case, &mut rules, repository("b")).await;
    stop.reached().await;
    let marker_of_b = case.marker("w-01").await;
    edit(&case, &mut rules, repository("a")).await;
    stop.go();
    // Under the stale cache it gets at least so far.
    case.wait_marker_changed("w-01", &marker_of_b).await;
    let looks = Counter::on(&case.proxy, |call| {
        call.verb == "list" && call.resource == "nixosconfigurations"
    });
    looks.more("three live looks", 3, DEADLINE).await;
    case.proxy.hold("nixosconfigurations", false);
    case.rolled_out("prod").await;
    assert_all_hold(&case, "a").await;
    // Only the worker had been told of B: the others are A still, and the worker is A again under another marker.
    let told = order(&case.evidence(), rules.rolls[1]);
    assert_eq!(told, ["w-01"], "{}", case.proxy.write_lines());
    assert!(!old.contains(&case.marker("w-01").await));
    case.finish_rolled(&rules).await;
}

/// What changes after an entry was taken makes it worth nothing: the ledger, and the child after it was read.
async fn an_entry_under_which_something_changed_is_taken_anew(generation: Generation) {
    let case = three_and_one(generation).await;
    let mut rules = Rules::default();
    let mark = Patch::Merge(json!({"metadata": {"annotations": {"example.com/mark": "yes"}}}));
    let params = PatchParams::default();
    let is_child = |call: &Call| {
        call.verb == "get" && call.resource == "nixosconfigurations" && call.name == "cp-01"
    };
    let of_it = |since: usize| {
        let writes = case.proxy.writes().split_off(since);
        let mut read = Steps::default();
        let all = writes.iter().filter_map(|call| {
            let (machine, step) = read.read(call)?;
            (machine == "cp-01").then_some((step, call.code))
        });
        all.take(3).collect::<Vec<_>>()
    };
    let since = case.proxy.writes().len();
    // The ledger, before the child is read: the next write is another take.
    let stop = Stop::before(&case.proxy, is_child);
    edit(&case, &mut rules, repository("b")).await;
    stop.reached().await;
    case.maps()
        .patch("prod-nico", &params, &mark)
        .await
        .unwrap();
    stop.go();
    rolled_once(&case, &rules, "b").await;
    let ok = Some(200);
    let wanted = [(Step::Taken, ok), (Step::Taken, ok), (Step::Written, ok)];
    assert_eq!(of_it(since), wanted, "{}", case.proxy.write_lines());
    // The child, after it was read and before the ledger is: the write is refused, and the entry taken again.
    let (since, read) = (case.proxy.writes().len(), AtomicBool::new(false));
    let stop = Stop::before(&case.proxy, move |call| {
        let before = read.fetch_or(is_child(call), Ordering::SeqCst);
        before && call.verb == "get" && call.name == "prod-nico"
    });
    edit(&case, &mut rules, repository("c")).await;
    stop.reached().await;
    let children = case.world.configurations();
    children.patch("cp-01", &params, &mark).await.unwrap();
    stop.go();
    rolled_once(&case, &rules, "c").await;
    let conflict = Some(409);
    let wanted = [
        (Step::Taken, ok),
        (Step::Written, conflict),
        (Step::Taken, ok),
    ];
    assert_eq!(of_it(since), wanted, "{}", case.proxy.write_lines());
    case.finish_rolled(&rules).await;
}

/// Two operators at work at the same time, through three edits, one of them in mid-roll.
async fn two_operators_roll_at_once(generation: Generation) {
    let case = three_and_one(generation).await;
    let second = case.world.proxy().await;
    let other = case.world.nico(&setup(), &second).await;
    let mut rules = Rules::default();
    for name in ["b", "c"] {
        edit(&case, &mut rules, repository(name)).await;
        case.rolled_out("prod").await;
        assert_all_hold(&case, name).await;
    }
    let old = case.marker("w-01").await;
    edit(&case, &mut rules, repository("d")).await;
    case.wait_marker_changed("w-01", &old).await;
    edit(&case, &mut rules, repository("b")).await;
    case.rolled_out("prod").await;
    assert_all_hold(&case, "b").await;
    let quiet = || async {
        let before = (case.proxy.writes().len(), second.writes().len());
        case.two_more_passes().await;
        let after = (case.proxy.writes().len(), second.writes().len());
        (before == after).then_some(())
    };
    let told = || async { format!("{}\n{}", case.proxy.write_lines(), second.write_lines()) };
    wait_describing("both are quiet", DEADLINE, quiet, told).await;
    let wrote = |proxy: &Proxy| proxy.writes().iter().any(|call| call.code == Some(200));
    assert!(wrote(&second), "the second operator did something");
    assert_eq!(other.exit_status(), None);
    let evidence = Evidence::of(case.world.nio(), &[&case.proxy, &second]);
    let broken = broken_rolls(&evidence, &rules);
    assert_eq!(broken, Vec::<String>::new(), "{}", told().await);
    let broken = rig::judge::broken_rules(&evidence.writes);
    assert_eq!(broken, Vec::<String>::new(), "{}", told().await);
    assert!(second.forbidden().is_empty());
}
