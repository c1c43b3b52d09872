//! NICO killed before and after every single write of a roll: the next one takes it up. Each roll sees one kill a
//! machine, and as many lives more.

use kube::api::{DynamicObject, ListParams};
use rig::crds::Generation;
use rig::judge::rollout::{Rules, order};
use rig::process::KillSwitch;
use rig::proxy::{Call, Effect, Moment};
use rig::wait::wait_describing;
use rig::world::World;

use crate::common::case::Case;
use crate::common::lives::{arm, lives};
use crate::common::steps::{Step, at, at_status_after, steps};
use crate::common::{DEADLINE, over_both};
use crate::rollout_faults::{ORDER, at_rest, edit, repository, setup, three_and_one};

/// Worlds side by side; each rolls again and again.
const LANES: usize = 4;

/// At which write of each machine lives end in a roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Step(Step),
    /// The status that tells that a machine is in flight.
    Status,
}

/// A world whose cluster is rolled again and again.
struct Lane {
    generation: Generation,
    case: Case,
    rules: Rules,
}

impl Lane {
    async fn new(generation: Generation) -> Self {
        let case = three_and_one(generation).await;
        // Else the last quiet writes of the bring-up come between the writes of the first roll.
        let reset = async || {
            schedules_are_reset(&case.world, generation)
                .await
                .then_some(())
        };
        let told = async || case.proxy.write_lines();
        wait_describing("the schedules are reset", DEADLINE, reset, told).await;
        Self {
            generation,
            case,
            rules: Rules::default(),
        }
    }

    /// A roll in which a life ends at this write of each machine. Returns how many did.
    async fn roll(self, kill: Option<(At, Moment)>) -> (Self, usize) {
        let Self {
            generation: nio,
            case,
            mut rules,
        } = self;
        let (written, began) = (case.proxy.writes().len(), case.world.nio().now());
        case.proxy.clear_faults();
        let mut switches = Vec::new();
        for machine in ORDER {
            let Some((write, moment)) = kill else { break };
            let switch = KillSwitch::default();
            let effect = Effect::Kill(switch.clone());
            case.proxy.fault(match write {
                At::Step(step) => at(machine, step, moment, effect),
                At::Status => at_status_after(machine, Step::Written, moment, effect),
            });
            switches.push(switch);
        }
        arm(&switches, &case.nico);
        let repository = repository(&format!("roll-{}", rules.rolls.len()));
        edit(&case, &mut rules, repository.clone()).await;
        let generation = case.generation("prod").await;
        let over = async |world: &World| {
            at_rest(&world.status("prod").await, generation)
                && schedules_are_reset(world, nio).await
        };
        let what = format!("{kill:?}");
        let (case, killed) = lives(case, &setup(), &switches, written, &what, over).await;
        let lines = || format!("{kill:?}\n{}", case.proxy.write_lines());
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
        let lane = Self {
            generation: nio,
            case,
            rules,
        };
        (lane, killed)
    }
}

/// Whether v1 has its own schedule for every machine again.
async fn schedules_are_reset(world: &World, generation: Generation) -> bool {
    let hurries = |held: &DynamicObject| held.data["spec"]["dayTwoSchedule"] == "* * * * *";
    let found = world.configurations().list(&ListParams::default()).await;
    generation == Generation::Classic || found.is_ok_and(|found| !found.items.iter().any(hurries))
}

over_both![a_roll_survives_a_kill_at_every_write];

async fn a_roll_survives_a_kill_at_every_write(generation: Generation) {
    let both = [Moment::Before, Moment::After];
    let settled = (generation == Generation::V1).then_some(Step::Settled);
    let all = || Step::ALL.into_iter().chain(settled);
    let writes = ORDER.len() * all().count();
    let kinds = all().map(At::Step).chain([At::Status]);
    let kills: Vec<_> = kinds
        .flat_map(|write| both.map(|moment| (write, moment)))
        .collect();
    let lanes = (0..LANES).map(async |n| {
        let mut lane = Lane::new(generation).await;
        if n == 0 {
            // What there is to be met: no write of a roll but these and the status.
            let before = lane.case.proxy.writes().len();
            (lane, _) = lane.roll(None).await;
            let mut clean = lane.case.proxy.writes().split_off(before);
            // Host keys of machines that were confirmed later may still be noted.
            let counts = |call: &Call| {
                call.subresource != "status"
                    && call.code != Some(409)
                    && !call.name.ends_with("-known-hosts")
            };
            clean.retain(counts);
            let all = ORDER.map(|machine| Step::ALL.map(|step| (machine.to_owned(), step)));
            let mut met = steps(&clean);
            met.retain(|(_, step)| *step != Step::Settled);
            // An entry is taken again if something changes, or is not to be read, before the write.
            let seen = met.len();
            met.dedup_by(|next, last| next == last && last.1 == Step::Taken);
            let again = seen - met.len();
            let lines = lane.case.proxy.write_lines();
            assert_eq!(met, all.concat(), "{lines}");
            assert_eq!(clean.len(), writes + again, "{lines}");
        }
        let (mut of_steps, mut of_status) = (0, 0);
        for (write, moment) in kills.iter().skip(n).step_by(LANES) {
            let killed;
            (lane, killed) = lane.roll(Some((*write, *moment))).await;
            if *write == At::Status {
                of_status += killed;
            } else {
                assert_eq!(killed, ORDER.len(), "{write:?} {moment:?}");
                of_steps += killed;
            }
        }
        lane.case.finish_rolled(&lane.rules).await;
        (of_steps, of_status)
    });
    let met = futures::future::join_all(lanes).await;
    let of_steps: usize = met.iter().map(|met| met.0).sum();
    let of_status: usize = met.iter().map(|met| met.1).sum();
    assert_eq!(of_steps, 2 * writes);
    println!(
        "{of_steps} kills at the {writes} writes of rolls of 3+1, and {of_status} of 8 at those of their status: each rolled out in the end"
    );
}
