//! NICO killed before and after every single write of a roll (C1, C2, C7): the next one takes it up.

use rig::judge::rollout::{Rules, order};
use rig::process::KillSwitch;
use rig::proxy::Call;

use crate::common::case::Case;
use crate::common::lives::{Kill, next_life};
use crate::common::traffic::{kinds, named};
use crate::{at_rest, edit, repository, setup, three_and_one};

/// Worlds side by side; each rolls again and again.
const LANES: usize = 4;

/// Who is rolled, in this order.
const ORDER: [&str; 4] = ["w-01", "cp-01", "cp-02", "cp-03"];

/// A world whose cluster is rolled again and again.
struct Lane {
    case: Case,
    rules: Rules,
}

impl Lane {
    async fn new() -> Self {
        Self {
            case: three_and_one().await,
            rules: Rules::default(),
        }
    }

    /// A roll, with one life ended on the way or none. Returns its writes, and whether the kill was met.
    async fn roll(self, kill: Option<&Kill>) -> (Self, Vec<Call>, bool) {
        let Self { case, mut rules } = self;
        let name = kill.map_or_else(|| "a clean roll".to_owned(), Kill::name);
        let (writes, began) = (case.proxy.writes().len(), case.world.nio().now());
        let switch = KillSwitch::default();
        case.proxy.clear_faults();
        if let Some(kill) = kill {
            case.proxy.fault(kill.fault(&switch));
        }
        switch.arm(&case.nico);
        let repository = repository(&format!("roll-{}", rules.rolls.len()));
        edit(&case, &mut rules, repository.clone()).await;
        let generation = case.generation("prod").await;
        let Case { world, proxy, nico } = case;
        let reached = async || {
            let status = world.status("prod").await;
            at_rest(&status, generation).then_some(())
        };
        let setup = setup();
        let around = (&world, &proxy, &setup);
        let (killed, nico) = next_life(around, writes, &switch, nico, reached).await;
        let case = Case { world, proxy, nico };
        case.rolled_out("prod").await;
        let lines = || format!("{name}\n{}", case.proxy.write_lines());
        for machine in ORDER {
            let held = case.configuration(machine).await;
            assert_eq!(
                held.data["spec"]["gitRepo"],
                repository["gitRepo"],
                "{}",
                lines()
            );
        }
        assert_eq!(order(&case.evidence(), began), ORDER, "{}", lines());
        let missed = kill.is_some_and(|kill| !killed && !kill.may_be_missed());
        assert!(!missed, "it was never met: {}", lines());
        let writes = case.proxy.writes().split_off(writes);
        (Self { case, rules }, writes, killed)
    }

    async fn finish(self) {
        self.case.finish_rolled(&self.rules).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_survives_a_kill_at_every_write() {
    let (lane, clean, _) = Lane::new().await.roll(None).await;
    lane.finish().await;
    let (status, writes): (Vec<_>, Vec<_>) = named(&clean)
        .into_iter()
        .partition(|write| write.resource.ends_with("/status"));
    for call in &clean {
        println!("{:?} {}", call.at, call.line());
    }
    // Of each machine: the entry taken, released and removed; the configuration written, confirmed and touched.
    assert_eq!(writes.len(), 4 * (3 + 3), "{:#?}", kinds(&clean));
    let kills = [Kill::all(&writes), Kill::all(&status)].concat();
    let lanes = (0..LANES).map(async |lane| {
        let (mut lane_of, mut met) = (Lane::new().await, Vec::new());
        for kill in kills.iter().skip(lane).step_by(LANES) {
            let killed;
            (lane_of, _, killed) = lane_of.roll(Some(kill)).await;
            if killed {
                met.push(kill.is_of_status());
            }
        }
        lane_of.finish().await;
        met
    });
    let met = futures::future::join_all(lanes).await.concat();
    let of_others = met.iter().filter(|of_status| !**of_status).count();
    assert_eq!(of_others, 2 * writes.len());
    println!(
        "{} writes of a roll of 3+1 and {} of its status: {of_others} and {} kills met, each time rolled out in the end",
        writes.len(),
        status.len(),
        met.len() - of_others
    );
}
