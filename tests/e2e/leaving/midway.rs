//! A cluster is deleted in the middle of something else: at every write of a roll and of a release.

use rig::crds::Generation;
use rig::judge::rollout::Rules;
use rig::proxy::{Effect, Gate, Moment};
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::steps::{Step, at_nth};
use crate::common::{DEADLINE, listed, nico, over_both};

over_both![on demand: a_cluster_is_deleted_at_every_write_of_a_roll_and_of_a_release];

const LANES: usize = 3;
const CONTROL_PLANE: [&str; 3] = ["cp-01", "cp-02", "cp-03"];
const WORKERS: [&str; 2] = ["w-01", "w-02"];
const NAMES: [&str; 2] = ["blue", "green"];

/// A write at which a cluster is deleted: the how-manieth step of whom, before or after it, of what change.
struct At {
    machine: &'static str,
    step: Step,
    nth: usize,
    moment: Moment,
    change: Value,
}

/// Every write of a roll, and of the releases of both kinds.
fn writes() -> Vec<At> {
    let roll = json!({"gitRepo": "https://git.example.com/new.git"});
    let without_worker = json!({"dataPlane": {"machines": ["w-01"]}});
    let without_member = json!({"controlPlane": {"machines": ["cp-01", "cp-02"]}});
    let release = [
        (Step::Taken, 1),
        (Step::Taken, 2),
        (Step::Left, 1),
        (Step::Taken, 3),
        (Step::Releasing, 1),
    ];
    let rolled = Step::ALL.map(|step| (step, 1));
    let mut all = Vec::new();
    for (steps, before, after, changes) in [
        (rolled.as_slice(), "w-01", "cp-02", [&roll, &roll]),
        (
            release.as_slice(),
            "cp-03",
            "w-02",
            [&without_member, &without_worker],
        ),
    ] {
        for (step, nth) in steps {
            for (machine, moment, change) in [
                (before, Moment::Before, changes[0]),
                (after, Moment::After, changes[1]),
            ] {
                all.push(At {
                    machine,
                    step: *step,
                    nth: *nth,
                    moment,
                    change: change.clone(),
                });
            }
        }
    }
    all
}

/// A world in which one cluster after the other is changed, and deleted meanwhile; the next one waits for its machines.
struct Lane {
    case: Case,
    rules: Rules,
    turn: usize,
}

impl Lane {
    async fn new(generation: Generation) -> Self {
        let case = Case::of(generation, &nico()).await;
        case.world
            .machines_named(&[CONTROL_PLANE.as_slice(), &WORKERS].concat())
            .await;
        let spec = listed(&CONTROL_PLANE, &WORKERS);
        case.cluster(NAMES[0], spec).await;
        Self {
            case,
            rules: Rules::default(),
            turn: 0,
        }
    }

    fn name(&self) -> &'static str {
        NAMES[self.turn % 2]
    }

    /// Asks for a change.
    async fn change(&mut self, change: Value) {
        self.rules.rolls.push(self.case.world.nio().now());
        self.case.edit(self.name(), change).await;
    }

    /// Deletes the cluster and lets NICO go on; everything goes, and the machines are the next one's.
    async fn delete(&mut self, what: &str, go_on: impl FnOnce()) {
        let (case, name) = (&self.case, self.name());
        let (uid, since) = (case.uid(name).await, case.world.nio().now());
        self.rules.deletions.push((since, name.to_owned()));
        // The next one may get some of its workers later than others, and tells them then.
        self.rules.rolls.push(since);
        case.delete(name).await;
        let next = NAMES[(self.turn + 1) % 2];
        let spec = listed(&CONTROL_PLANE, &WORKERS);
        case.cluster(next, spec).await;
        go_on();
        println!("{name} is deleted: {what}");
        case.wait_gone(name).await;
        case.nothing_is_left_of(name, &uid).await;
        for attempt in case.world.nio().history() {
            let applied = attempt.applied;
            assert!(applied.skipped.is_empty(), "{what}: {applied:?}");
        }
        case.proxy.clear_faults();
        self.turn += 1;
        case.ready(next).await;
    }

    async fn finish(self) {
        let foundings = self.case.world.flake().foundings().len();
        assert_eq!(foundings, self.turn + 1);
        self.case.finish_rolled(&self.rules).await;
    }
}

/// Before or after each write in turn; with `NICO_LEAVING=all` before and after each.
async fn a_cluster_is_deleted_at_every_write_of_a_roll_and_of_a_release(generation: Generation) {
    let mut all = writes();
    assert_eq!(all.len(), 2 * (6 + 5));
    if std::env::var("NICO_LEAVING").is_err() {
        let in_turn = |n: usize| n % 2 == n / 2 % 2;
        let numbered = all.into_iter().enumerate();
        all = numbered.filter(|it| in_turn(it.0)).map(|it| it.1).collect();
        assert_eq!(all.len(), 6 + 5);
    }
    let all = &all;
    let lanes = (0..LANES).map(async |n| {
        let mut lane = Lane::new(generation).await;
        for at in all.iter().skip(n).step_by(LANES) {
            let At {
                machine,
                step,
                nth,
                moment,
                change,
            } = at;
            lane.case.ready(lane.name()).await;
            let gate = Gate::default();
            let effect = Effect::Gate(gate.clone());
            let fault = at_nth(machine, *step, *nth, *moment, effect);
            lane.case.proxy.fault(fault);
            lane.change(change.clone()).await;
            let what = format!("{moment:?} {step:?} #{nth} of {machine}");
            let reached = tokio::time::timeout(DEADLINE, gate.reached()).await;
            if reached.is_err() {
                let (lines, seen) = (lane.case.proxy.write_lines(), lane.case.world.describe());
                panic!("never came: {what}\n{lines}\n{}", seen.await);
            }
            lane.delete(&what, || gate.open()).await;
        }
        lane.finish().await;
    });
    futures::future::join_all(lanes).await;
}
