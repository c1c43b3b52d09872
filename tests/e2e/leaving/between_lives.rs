//! NICO killed before and after every single write of a release: the next one takes it up, and the machine is free.
//! The entry of the machine that left stands for a while after each start: many lives end in one release.

use rig::crds::Generation;
use rig::judge::rollout::{Rules, order};
use rig::process::KillSwitch;
use rig::proxy::{Effect, Moment};
use rig::world::World;
use serde_json::json;

use crate::common::case::Case;
use crate::common::lives::{arm, lives};
use crate::common::steps::{Step, at_nth, steps};
use crate::common::{listed, nico, over_both};
use crate::leaving::at_rest;

over_both![on demand: releases_survive_a_kill_at_every_write];

/// What is written of a machine that leaves: an entry is taken for the drain, for the configuration and for the Node.
const RELEASE: [Step; 6] = [
    Step::Taken,
    Step::Taken,
    Step::Left,
    Step::Taken,
    Step::Releasing,
    Step::Removed,
];

/// A machine that leaves, and what the spec asks for without it.
#[derive(Clone, Copy)]
struct Leaver {
    machine: &'static str,
    before: [&'static [&'static str]; 2],
    after: [&'static [&'static str]; 2],
}

const WORKER: Leaver = Leaver {
    machine: "w-02",
    before: [&["cp-01"], &["w-01", "w-02"]],
    after: [&["cp-01"], &["w-01"]],
};
/// The founder: the others stay a quorum of three.
const CONTROL_PLANE: Leaver = Leaver {
    machine: "cp-01",
    before: [&["cp-01", "cp-02", "cp-03"], &[]],
    after: [&["cp-02", "cp-03"], &[]],
};

/// A release in which a life ends before, and another after, each of these steps, given with how often it comes before that.
async fn release(generation: Generation, leaver: Leaver, kills: &[(Step, usize, Moment)]) -> usize {
    let Leaver {
        machine,
        before,
        after,
    } = leaver;
    let case = Case::of(generation, &nico()).await;
    case.world.machines_named(&before.concat()).await;
    let spec = listed(before[0], before[1]);
    case.cluster("prod", spec).await;
    case.ready("prod").await;
    let node = case.world.node_name(machine);
    let (written, began) = (case.proxy.writes().len(), case.world.nio().now());
    let mut switches = Vec::new();
    for (step, nth, moment) in kills {
        let switch = KillSwitch::default();
        let kill = Effect::Kill(switch.clone());
        case.proxy
            .fault(at_nth(machine, *step, *nth, *moment, kill));
        switches.push(switch);
    }
    arm(&switches, &case.nico);
    let spec = json!({"controlPlane": {"machines": after[0]}, "dataPlane": {"machines": after[1]}});
    case.edit("prod", spec).await;
    let edited = case.generation("prod").await;
    let over = async |world: &World| {
        let status = world.status("prod").await;
        at_rest(&status, edited) && !status["machines"].to_string().contains(machine)
    };
    let what = format!("{machine} leaves, {kills:?}");
    let (case, killed) = lives(case, &nico(), &switches, written, &what, over).await;
    let lines = case.proxy.write_lines();
    assert_eq!(killed, kills.len(), "{lines}");
    let mut done = case.proxy.writes().split_off(written);
    done.retain(|call| call.code != Some(409));
    let mut of_it = steps(&done);
    of_it.retain(|(of, step)| of == machine && *step != Step::Settled);
    let of_it: Vec<Step> = of_it.into_iter().map(|(_, step)| step).collect();
    if kills.is_empty() {
        assert_eq!(of_it, RELEASE, "{lines}");
    }
    // Whoever was killed, it was given back once, and the others were told once.
    let told: Vec<&str> = after[1].iter().chain(after[0]).copied().collect();
    let order = order(&case.evidence(), began);
    assert_eq!(order, [vec![machine], told].concat(), "{lines}");
    assert!(!case.configurations().await.contains(&machine.to_owned()));
    case.removed_with_all_files(&[machine], began);
    assert!(case.world.nodes().get_opt(&node).await.unwrap().is_none());
    // It is another's at once.
    case.cluster("next", listed(&[machine], &[])).await;
    case.ready("next").await;
    let rules = Rules::of(vec![began]);
    case.finish_rolled(&rules).await;
    killed
}

/// Worlds side by side, in each of which lives end at another take; in the first, life ends before the entry is removed, too, and
/// that while passes again.
async fn survives(generation: Generation, leaver: Leaver) -> usize {
    let both = |step, nth| [(step, nth, Moment::Before), (step, nth, Moment::After)];
    let once = [both(Step::Left, 1), both(Step::Releasing, 1)].concat();
    let lanes = [
        [both(Step::Taken, 1), both(Step::Removed, 1)].concat(),
        [both(Step::Taken, 2).to_vec(), once].concat(),
        both(Step::Taken, 3).to_vec(),
        vec![],
    ];
    let lanes = lanes.iter().map(|kills| release(generation, leaver, kills));
    futures::future::join_all(lanes).await.into_iter().sum()
}

async fn releases_survive_a_kill_at_every_write(generation: Generation) {
    let (of_member, of_worker) = futures::join!(
        survives(generation, CONTROL_PLANE),
        survives(generation, WORKER)
    );
    let all = 2 * RELEASE.len();
    assert_eq!((of_member, of_worker), (all, all));
    println!(
        "{of_member} kills at the 6 writes of a control plane machine's release, {of_worker} at those of a worker's: each ended"
    );
}
