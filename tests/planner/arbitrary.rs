//! Any state at all: a world with a random past, then nonsense laid over what is observed of it.

use jiff::Timestamp;
use nico::api::names::MachineName;
use nico::api::nio::Generation;
use nico::api::status::ClusterStatus;
use nico::plan::observed::Observed;
use nico::plan::{Settings, status};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::given::{PROD, cluster, machine, of_rival, selected, stranger};
use crate::nonsense::{distort, misread};
use crate::rules;
use crate::source::{Source, cases, sources};
use crate::world::{World, unusable_key, usable_key};

/// The machines of these worlds.
pub const NAMES: [&str; 7] = ["m-1", "m-2", "m-3", "m-4", "m-5", "m-6", "m-7"];
/// A spec; now and then one that breaks a rule.
pub fn spec(source: &mut Source) -> Value {
    let listed = |source: &mut Source, from: usize, most: usize| -> Vec<&str> {
        let count = 1 + source.below(most);
        NAMES.iter().skip(from).take(count).copied().collect()
    };
    let mut spec = cluster().0;
    spec["controlPlane"] = if source.once_in(3) {
        selected("cp", 1 + source.below(3))
    } else {
        json!({ "machines": listed(source, 0, 3) })
    };
    match source.below(4) {
        0 => {}
        1 => spec["dataPlane"] = selected("worker", source.below(4)),
        2 => spec["dataPlane"] = selected("cp", 1 + source.below(2)),
        _ => spec["dataPlane"] = json!({ "machines": listed(source, 3, 4) }),
    }
    let rare = [
        ("gitRepo", json!("https://example.com/other.git")),
        ("gitRepo", Value::Null),
        ("ref", json!("main")),
        ("ref", json!("v2")),
        ("refPolicy", json!("Pin")),
        ("refPolicy", json!("Follow")),
        ("configurationSubdir", json!("clusters/prod")),
        ("credentialsRef", json!({ "name": "git" })),
        ("controlPlaneEndpoint", json!({ "host": "10.0.0.10" })),
        ("fullInstall", json!(true)),
        ("injectSSHKey", json!(false)),
        ("paused", json!(true)),
        ("controlPlane", json!({})),
        ("controlPlane", json!([7])),
        ("dataPlane", json!({ "machines": ["m-1"] })),
    ];
    for (field, value) in rare {
        if source.once_in(16) {
            spec[field] = value;
        }
    }
    spec
}

/// A world in which a few things have happened.
pub fn past(source: &mut Source) -> World {
    let mut world = World::new();
    if source.once_in(3) {
        world.nio = Some(Generation::V1);
    }
    for name in NAMES {
        let mut built = machine(name);
        built = if source.once_in(3) {
            built.worker()
        } else {
            built.cp()
        };
        for (n, change) in [
            (
                8,
                crate::given::MachineBuilder::undiscoverable as fn(_) -> _,
            ),
            (12, crate::given::MachineBuilder::configured),
            (12, crate::given::MachineBuilder::released),
            (16, crate::given::MachineBuilder::without_address),
        ] {
            if source.once_in(n) {
                built = change(built);
            }
        }
        let key = if source.once_in(16) {
            unusable_key(&built.name)
        } else {
            usable_key(&built.name)
        };
        world.ssh_keys.insert(built.name.clone(), key);
        if !source.once_in(16) {
            world.machines.insert(built.name, built.object);
        }
    }
    let first = spec(source);
    world.create_cluster(PROD, first);
    let steps = source.below(24);
    for _ in 0..steps {
        if !world.clusters.contains_key(PROD) {
            let again = spec(source);
            world.create_cluster(PROD, again);
        }
        step(&mut world, source);
    }
    if !world.clusters.contains_key(PROD) {
        let again = spec(source);
        world.create_cluster(PROD, again);
    }
    world
}

/// Something happens.
pub fn step(world: &mut World, source: &mut Source) {
    let name = source.of(&NAMES);
    match source.below(17) {
        0..5 => {
            world.pass(PROD);
        }
        5..8 => {
            world.work();
        }
        8 => {
            world.apply_configuration(name);
        }
        9 => {
            let new = spec(source);
            world.edit(PROD, |spec| *spec = new);
        }
        10 => {
            if world.configurations.contains_key(name) {
                world.delete_configuration(name);
            }
        }
        11 => {
            let body = if source.once_in(2) {
                stranger(&format!("of-{name}"), name)
            } else {
                of_rival(name, "rival", "rival-uid")
            };
            let _ = world.post(&body);
        }
        12 => {
            if let Some(machine) =
                MachineName::parse(name).and_then(|it| world.machines.get_mut(&it))
            {
                let status = machine.status.get_or_insert_default();
                status.discoverable = !status.discoverable;
            }
        }
        13 => world.wait(45),
        14 => {
            // A crash between two writes.
            if let Some((_, plan)) = world.plan(PROD) {
                let done = source.below(plan.actions.len() + 1);
                for action in &plan.actions[..done] {
                    if world.apply(PROD, action).is_err() {
                        break;
                    }
                }
            }
        }
        15 => world.restore(PROD),
        _ => {
            if source.once_in(3) {
                world.delete_cluster(PROD);
            }
        }
    }
}

/// A random past, seen through up to eight distortions.
pub fn observed(source: &mut Source) -> (Observed, Timestamp, Settings) {
    let mut world = past(source);
    let mut observed = world.observe(PROD).unwrap();
    for _ in 0..source.below(9) {
        distort(&mut observed, source);
    }
    observed.list_members();
    let settings = Settings {
        default_git_repo: source
            .once_in(2)
            .then(|| "https://example.com/d.git".to_owned()),
        ..Settings::default()
    };
    (observed, world.now, settings)
}

proptest! {
    #![proptest_config(cases(512))]

    /// I13 and every rule of `rules.rs`, for any state.
    #[test]
    fn every_plan_and_status_keeps_the_rules(mut source in sources(400)) {
        let (observed, now, settings) = observed(&mut source);
        let plan = nico::plan::plan(&observed, now, &settings);
        let kept = rules::check(&observed, &plan, now, &settings);
        prop_assert!(kept.is_ok(), "{}\n{plan:#?}\n{observed:#?}", kept.unwrap_err());
    }

    /// What a status says of the past changes no deed.
    #[test]
    fn no_action_rests_on_the_status(mut source in sources(400)) {
        let (mut observed, now, settings) = observed(&mut source);
        let before = nico::plan::plan(&observed, now, &settings);
        observed.cluster.status = ClusterStatus::default();
        prop_assert_eq!(before, nico::plan::plan(&observed, now, &settings));
    }

    /// A status that was written is not written again, and times stand still while nothing changes.
    #[test]
    fn a_status_repeated_is_the_same(mut source in sources(400)) {
        let (mut observed, now, settings) = observed(&mut source);
        let plan = nico::plan::plan(&observed, now, &settings);
        // The first may still be the first word on a new generation, and a bearing of what Ready bears.
        for _ in 0..3 {
            observed.cluster.status = status::status(&observed, &plan, None, now);
        }
        let same = status::status(&observed, &plan, None, now);
        prop_assert_eq!(&observed.cluster.status, &same);
        // What lasts may have lasted long enough to be shown.
        if plan.clocks.is_empty()
            && status::soft_problems(&observed, &plan.selection).is_empty()
        {
            let later = Timestamp::from_second(now.as_second() + 5).unwrap();
            let again = status::status(&observed, &plan, None, later);
            prop_assert_eq!(&observed.cluster.status, &again);
            prop_assert!(!status::is_significant(&observed.cluster.status, &again));
        }
    }

    /// Whatever is read is judged, twice alike, and what is needed is met in the end.
    #[test]
    fn any_facts_are_judged(mut source in sources(600)) {
        let mut world = past(&mut source);
        let mut read = world.facts(PROD).unwrap();
        world.assemble(&mut read);
        for _ in 0..source.below(9) {
            misread(&mut read, &mut source);
        }
        let observed = world.assemble(&mut read);
        prop_assert_eq!(format!("{observed:?}"), format!("{:?}", world.assemble(&mut read)));
        let plan = nico::plan::plan(&observed, world.now, &world.settings);
        let kept = rules::check(&observed, &plan, world.now, &world.settings);
        prop_assert!(kept.is_ok(), "{}\n{plan:#?}\n{observed:#?}", kept.unwrap_err());
    }
}
