//! Histories: plans carried out one after the other, with crashes between any two writes, rivals, and edits, until nothing
//! changes any more (I1, L1, L2, L3).

use std::collections::BTreeSet;

use nico::api::nio::Generation;
use nico::api::status::Phase;
use nico::plan::action::Plan;
use nico::plan::cluster_nix::held_values;
use nico::plan::nio;
use nico::plan::observed::Fetch;
use proptest::prelude::*;

use crate::arbitrary::{past, spec};
use crate::given::{PROD, cluster, given, machine};
use crate::source::{Source, cases, sources};
use crate::world::World;

/// Faults stop: everything is discoverable again, nothing is in the way.
fn heal(world: &mut World) {
    for machine in world.machines.values_mut() {
        machine.status.get_or_insert_default().discoverable = true;
    }
    world.broken.clear();
}

/// Every cluster is Ready, or says in a word why it is not (L4).
pub fn assert_explained(world: &World) {
    for (name, cluster) in &world.clusters {
        let status = &cluster.view.status;
        let ready = status.conditions.iter().find(|it| it.kind == "Ready");
        let ready = ready.expect("a status was written");
        if ready.status != "True" {
            let vague = ["Progressing", "Unknown", "AsExpected"];
            assert!(
                !vague.contains(&ready.reason.as_str()) && !ready.message.is_empty(),
                "{name} is stuck without a word: {}",
                world.story()
            );
        }
    }
}

/// One id and one founder among the configurations of each cluster.
fn assert_one_founding(world: &World) {
    for cluster in world.clusters.values() {
        let mut ids = BTreeSet::new();
        let mut founders = BTreeSet::new();
        for configuration in world.configurations.values() {
            let ours = configuration.metadata.owner_references.iter().flatten();
            if ours.into_iter().any(|owner| owner.uid == cluster.view.uid)
                && let Some(values) = held_values(configuration)
            {
                ids.insert(values.id.clone());
                founders.extend(values.bootstrap.clone());
            }
        }
        assert!(
            ids.len() <= 1 && founders.len() <= 1,
            "{ids:?} {founders:?}"
        );
    }
}

fn three_and_two(generation: Generation) -> World {
    let cluster = cluster()
        .control_plane(["m-1", "m-2", "m-3"])
        .workers(["m-4", "m-5"]);
    let given = given(cluster).machines(["m-1", "m-2", "m-3", "m-4", "m-5"]);
    given.and(|world| world.nio = Some(generation)).0
}

/// Stories that are told beside every generation of NIO.
macro_rules! over_all {
    ($($story:ident),+ $(,)?) => {
        mod classic {
            $(#[test]
            fn $story() {
                super::$story(nico::api::nio::Generation::Classic);
            })+
        }
        mod v1 {
            $(#[test]
            fn $story() {
                super::$story(nico::api::nio::Generation::V1);
            })+
        }
    };
}

over_all![
    a_bring_up_ends_ready_and_then_nothing_is_written,
    a_crash_between_any_two_writes_still_ends_ready_with_one_id_and_one_founder,
    a_deletion_at_every_step_ends_with_every_machine_free,
];

fn a_bring_up_ends_ready_and_then_nothing_is_written(generation: Generation) {
    let mut world = three_and_two(generation);
    world.settle();
    assert!(world.ready(PROD));
    let kinds: Vec<&str> = world
        .written
        .iter()
        .map(|(_, it)| crate::given::kind(it))
        .collect();
    let count = |kind| kinds.iter().filter(|it| **it == kind).count();
    assert_eq!(count("AddFinalizer"), 1);
    assert_eq!(
        count("CreateLedger") + count("UpdateLedger"),
        2,
        "{kinds:?}"
    );
    let by_jobs = nio::for_generation(generation).works_by_jobs();
    assert_eq!(count("Settle"), if by_jobs { 10 } else { 0 }, "{kinds:?}");
    assert_eq!(count("CreateToken"), 2);
    assert_eq!(count("Claim"), 5);
    assert_eq!(count("Confirm"), 5);
    assert_eq!(count("PinHostKey"), 1);
    assert_eq!(count("StoreKubeconfig"), 1);
    let before = world.written.len();
    for _ in 0..3 {
        world.wait(300);
        world.settle();
    }
    assert_eq!(
        world.written.len(),
        before,
        "{:?}",
        &world.written[before..]
    );
    assert!(world.ready(PROD));
}

fn a_crash_between_any_two_writes_still_ends_ready_with_one_id_and_one_founder(
    generation: Generation,
) {
    let mut whole = three_and_two(generation);
    whole.settle();
    for crash in 0..whole.written.len() {
        let mut world = three_and_two(generation);
        while world.written.len() < crash {
            let Some((_, plan)) = world.plan(PROD) else {
                break;
            };
            for action in &plan.actions {
                world.apply(PROD, action).unwrap();
                if world.written.len() == crash {
                    break;
                }
            }
            if world.written.len() < crash {
                world.work();
            }
        }
        // What lived in memory alone is gone.
        let memory = world.cluster(PROD);
        memory.since.clear();
        memory.kubeconfig.fetch = Fetch::default();
        world.settle();
        assert!(world.ready(PROD), "crash after write {crash}");
        assert_one_founding(&world);
        let made = |kind: &str| {
            let kinds = world.written.iter().map(|(_, it)| crate::given::kind(it));
            kinds.filter(|it| *it == kind).count()
        };
        assert_eq!(made("Claim"), 5, "crash after write {crash}");
        assert_eq!(made("CreateToken"), 2, "crash after write {crash}");
    }
}

fn a_deletion_at_every_step_ends_with_every_machine_free(generation: Generation) {
    let mut whole = three_and_two(generation);
    whole.settle();
    for steps in 0..whole.written.len() {
        let mut world = three_and_two(generation);
        while world.written.len() < steps {
            let Some((_, plan)) = world.plan(PROD) else {
                break;
            };
            for action in &plan.actions {
                world.apply(PROD, action).unwrap();
                if world.written.len() == steps {
                    break;
                }
            }
            world.work();
        }
        world.delete_cluster(PROD);
        world.settle();
        assert!(world.clusters.is_empty() && world.configurations.is_empty());
    }
}

/// One operator's pass over one cluster, cut at any point by the others.
#[derive(Default)]
struct Hand {
    plan: Option<(Plan, usize)>,
}

impl Hand {
    /// The next write, or a new plan where the last is done or failed.
    fn go_on(&mut self, world: &mut World, name: &str) {
        let Some((plan, next)) = &mut self.plan else {
            self.plan = world.plan(name).map(|(_, plan)| (plan, 0));
            return;
        };
        let done = match plan.actions.get(*next) {
            Some(action) => world.apply(name, action).is_err(),
            None => true,
        };
        *next += 1;
        if done {
            self.plan = None;
        }
    }
}

const RIVALS: [&str; 2] = ["blue", "green"];

/// Two clusters that want the same machines, their writes in any order.
fn race(source: &mut Source, blue: serde_json::Value, green: serde_json::Value) -> World {
    let mut world = World::new();
    for name in ["m-1", "m-2", "m-3", "m-4"] {
        let built = machine(name).cp();
        world
            .ssh_keys
            .insert(built.name.clone(), crate::world::usable_key(&built.name));
        world.machines.insert(built.name, built.object);
    }
    world.create_cluster("blue", blue);
    world.wait(source.below(2).try_into().unwrap());
    world.create_cluster("green", green);
    let mut hands = [Hand::default(), Hand::default()];
    while !source.is_spent() {
        match source.below(12) {
            0 => world.wait(20),
            1 => world.work_deletions(),
            // A crash.
            2 => hands[source.below(2)].plan = None,
            n => hands[n % 2].go_on(&mut world, RIVALS[n % 2]),
        }
    }
    // NIO takes minutes: it confirms nothing before the race is over.
    for round in 0..8 {
        world.pass(RIVALS[round % 2]);
        world.work_deletions();
        world.wait(20);
    }
    world
}

proptest! {
    #![proptest_config(cases(128))]

    /// L1, L2, L4: whatever happened, it ends Ready or with a word that says why not, and then nothing more is written.
    #[test]
    fn every_past_comes_to_rest_with_a_word(mut source in sources(400)) {
        let mut world = past(&mut source);
        heal(&mut world);
        world.settle();
        assert_explained(&world);
        let written = world.written.len();
        world.wait(600);
        world.settle();
        prop_assert_eq!(written, world.written.len());
    }

    /// L3: whatever happened, a deletion ends.
    #[test]
    fn every_past_can_be_deleted(mut source in sources(400)) {
        let mut world = past(&mut source);
        world.edit(PROD, |spec| spec["paused"] = false.into());
        world.delete_cluster(PROD);
        world.settle();
        prop_assert!(world.clusters.is_empty());
        let ours = |it: &nico::api::nio::NixosConfiguration| it.metadata.owner_references.iter().flatten().any(|it| it.uid.starts_with(PROD));
        prop_assert!(!world.configurations.values().any(ours));
    }

    /// L1: from a past of crashes, edits and failures that founded nothing, a sound spec ends Ready.
    #[test]
    fn an_unfounded_past_and_a_sound_spec_end_ready(mut source in sources(300)) {
        let mut world = World::new();
        for name in ["m-1", "m-2", "m-3", "m-4", "m-5", "m-6", "m-7"] {
            let built = machine(name).cp();
            world.ssh_keys.insert(built.name.clone(), crate::world::usable_key(&built.name));
            world.broken.insert(built.name.clone());
            world.machines.insert(built.name, built.object);
        }
        world.create_cluster(PROD, cluster().control_plane(["m-1", "m-2", "m-3"]).0);
        while !source.is_spent() {
            match source.below(5) {
                0 => {
                    let mut new = spec(&mut source);
                    new["paused"] = false.into();
                    world.edit(PROD, |spec| *spec = new);
                }
                1 => { world.work(); }
                2 => world.wait(20),
                _ => {
                    if let Some((_, plan)) = world.plan(PROD) {
                        let done = source.below(plan.actions.len() + 1);
                        let _ = plan.actions[..done].iter().try_for_each(|it| world.apply(PROD, it));
                    }
                }
            }
        }
        heal(&mut world);
        // Another control plane altogether, so that every configuration is written again.
        world.edit(PROD, |spec| *spec = cluster().control_plane(["m-5", "m-6", "m-7"]).workers(["m-4"]).0);
        world.settle();
        prop_assert!(world.ready(PROD), "{}", world.story());
        assert_one_founding(&world);
        prop_assert_eq!(world.configurations.len(), 4);
    }

    /// I1: two clusters that list the same machines never share one, one becomes Ready, and the other once the first is gone.
    #[test]
    fn of_two_clusters_one_wins_and_the_other_follows(mut source in sources(160)) {
        let listed = cluster().control_plane(["m-1", "m-2", "m-3"]).0;
        let other = if source.once_in(2) {
            cluster().select_control_plane(3).0
        } else {
            cluster().control_plane(["m-2", "m-3", "m-4"]).0
        };
        let mut world = race(&mut source, listed, other);
        world.settle();
        let ready: Vec<&str> = RIVALS.into_iter().filter(|it| world.ready(it)).collect();
        prop_assert_eq!(ready.len(), 1, "{}", world.story());
        assert_explained(&world);
        assert_one_founding(&world);
        let loser = if ready[0] == "blue" { "green" } else { "blue" };
        prop_assert_eq!(world.configurations.len(), 3, "the loser holds nothing");
        world.delete_cluster(ready[0]);
        world.settle();
        prop_assert!(world.ready(loser), "{}", world.story());
    }

    /// Two clusters for which there is enough both become Ready.
    #[test]
    fn two_clusters_for_which_there_is_enough_both_become_ready(mut source in sources(160)) {
        let small = || cluster().select_control_plane(2).0;
        let mut world = race(&mut source, small(), small());
        world.settle();
        prop_assert!(RIVALS.into_iter().all(|it| world.ready(it)), "{}", world.story());
        assert_one_founding(&world);
    }
}

#[test]
fn a_paused_deletion_goes_on_once_it_is_let_go() {
    let mut world = three_and_two(Generation::Classic);
    world.settle();
    world.edit(PROD, |spec| spec["paused"] = true.into());
    world.delete_cluster(PROD);
    world.settle();
    assert_eq!(world.configurations.len(), 5);
    assert_eq!(world.cluster(PROD).view.status.phase, Some(Phase::Deleting));
    world.edit(PROD, |spec| spec["paused"] = false.into());
    world.settle();
    assert!(world.clusters.is_empty() && world.configurations.is_empty());
}
