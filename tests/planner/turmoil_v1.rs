//! The histories of `turmoil.rs` beside NIO v1, with all that pinned commits add: pushes and force-pushes, refs that vanish, other refs
//! and policies in mid-roll, Jobs that hang or end late, and classic in the place of v1 for a while.

use std::collections::BTreeSet;

use nico::api::nio::{Generation, JobState};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::given::{PROD, settled};
use crate::nio_v1::{commit, job};
use crate::rollout::rolled;
use crate::sequences::assert_explained;
use crate::source::cases;
use crate::turmoil::{self, ready_of, turns_node_checks_off};
use crate::world::World;

/// What happens besides.
const MORE: u8 = 10;

fn happens(world: &mut World, what: u8, which: usize) {
    let digit = ['a', 'b', 'c', 'd'][which % 4];
    match what % (20 + MORE) {
        // To an older one, too: a force-push.
        20..22 => world.v1.head = commit(digit),
        22 => world.v1.git_is_away = ["", "there is no ref of that name"][which % 2],
        23 => world.edit(PROD, |spec| {
            let one = commit(digit);
            let refs = [
                json!("main"),
                json!("release"),
                json!(one.as_str()),
                Value::Null,
            ];
            spec["ref"] = refs[which % 4].clone();
        }),
        24 => world.edit(PROD, |spec| {
            let policies = [json!("Pin"), json!("Follow"), Value::Null];
            spec["refPolicy"] = policies[which % 3].clone();
        }),
        25 => {
            let generations = [Generation::Classic, Generation::V1];
            world.nio = Some(generations[which % 2]);
        }
        // A Job of no known attempt begins.
        26 => {
            let held: Vec<String> = world
                .configurations
                .values()
                .filter_map(|it| it.metadata.uid.clone())
                .collect();
            if let Some(uid) = held.get(which % held.len().max(1)) {
                let hangs = job(None, world.now, JobState::Unfinished);
                world.v1.jobs.entry(uid.clone()).or_default().push(hangs);
            }
        }
        // Those that run end.
        27 => end_jobs(world, which.is_multiple_of(2)),
        // All that ended are pruned.
        28 => {
            for jobs in world.v1.jobs.values_mut() {
                jobs.retain(|job| job.is_unfinished());
            }
        }
        29 => world.edit(PROD, |spec| spec["paused"] = which.is_multiple_of(2).into()),
        what => turmoil::happens(world, what, which),
    }
}

fn end_jobs(world: &mut World, fails: bool) {
    let now = world.now;
    let ends = if fails {
        JobState::Failed(now)
    } else {
        JobState::Complete(now)
    };
    for jobs in world.v1.jobs.values_mut() {
        let running = jobs.extract_if(.., |job| job.is_unfinished());
        let ended: Vec<_> = running
            .map(|it| job(it.marker.as_ref(), now, ends))
            .collect();
        // The last of a list is what ended last.
        jobs.extend(ended);
    }
    world.wait(1);
}

fn heal(world: &mut World) {
    turmoil::heal(world);
    world.nio = Some(Generation::V1);
    world.v1.git_is_away = "";
    end_jobs(world, true);
    world.edit(PROD, |spec| {
        spec["paused"] = false.into();
    });
}

/// From v1 back to classic, and there again: every machine is written once in order, and none keeps a commit that classic cannot apply.
#[test]
fn a_pinned_cluster_goes_back_to_classic_and_to_v1_again() {
    let refs = |world: &World| -> BTreeSet<String> {
        let held = world.configurations.values();
        held.filter_map(|it| it.spec.text("ref").map(str::to_owned))
            .collect()
    };
    let one = |text: &str| BTreeSet::from([text.to_owned()]);
    crate::v1::ready()
        .when(|world| {
            assert_eq!(refs(world), one(commit('a').as_str()));
            world.nio = Some(Generation::Classic);
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["v", "w", "a", "b", "c"]);
            assert_eq!(refs(&seen.world), one("main"));
            let ledger = seen.observed.ledger.ours().unwrap();
            assert_eq!(ledger.commit, None);
        })
        .when(|world| {
            world.written.clear();
            world.nio = Some(Generation::V1);
            world.v1.head = commit('b');
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["v", "w", "a", "b", "c"]);
            assert_eq!(refs(&seen.world), one(commit('b').as_str()));
        });
}

/// Another policy in the middle of a roll takes no second control plane machine, and ends where it asks for.
#[test]
fn another_policy_in_mid_roll_goes_to_the_machine_in_hand_first() {
    let rolling = |machine: &'static str| {
        crate::v1::ready().when(move |world| {
            world.v1.head = commit('b');
            world.broken.insert(crate::rollout::name(machine));
            crate::v1::passes_until(world, |world| rolled(world).contains(&machine.to_owned()));
            world.settle();
            world.written.clear();
            world.edit(PROD, |spec| spec["refPolicy"] = json!("Follow"));
        })
    };
    rolling("v")
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), ["v"]))
        .when(|world| world.broken.clear())
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["v", "w", "a", "b", "c"]);
        });
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_living_cluster_comes_to_rest_with_a_word_and_ends_ready_once_faults_stop(
        history in prop::collection::vec((any::<u8>(), 0_usize..60), 1..40)
    ) {
        let mut world = ready_of(Generation::V1);
        for (what, which) in &history {
            happens(&mut world, *what, *which);
        }
        world.settle();
        assert_explained(&world);
        heal(&mut world);
        let unchecked = history
            .iter()
            .any(|(what, which)| turns_node_checks_off(what % (20 + MORE), *which));
        prop_assert!(
            turmoil::ends_ready(&mut world, unchecked),
            "{history:?}: {}",
            world.story()
        );
    }
}
