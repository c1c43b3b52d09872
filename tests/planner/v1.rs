//! What NICO writes beside NIO v1, what it takes as proof there, and what it says of it.

pub mod files;

use jiff::Timestamp;
use nico::api::names::Marker;
use nico::api::nio::{Generation, JobState, NioCondition, NixosConfigurationStatus};
use nico::plan::action::{Action, ConfigurationWrite, Mark};
use serde_json::{Map, Value, json};

use crate::given::{Given, PROD, Seen, cluster, given, member, settled};
use crate::nio_v1::{commit, job};
use crate::rollout::{new_repository, rolled};
use crate::world::{World, edit};

fn v1(world: &mut World) {
    world.nio = Some(Generation::V1);
}

/// Three control plane machines and two workers, Ready beside NIO v1.
pub fn ready() -> Given {
    let cluster = cluster().control_plane(["a", "b", "c"]).workers(["v", "w"]);
    let mut given = given(cluster).machines(["a", "b", "c", "v", "w"]).and(v1);
    given.0.settle();
    assert!(given.0.ready(PROD), "{}", given.0.story());
    given.0.written.clear();
    given
}

/// The first configuration of a machine, which no Job has applied yet.
pub fn claimed(spec: Map<String, Value>) -> Given {
    let cluster = spec
        .into_iter()
        .fold(cluster().control_plane(["a"]), |it, (field, value)| {
            it.set(&field, value)
        });
    given(cluster).machines(["a"]).and(v1).and(|world| {
        world.pass(PROD);
        world.pass(PROD);
        assert!(world.configurations.contains_key("a"), "{}", world.story());
    })
}

fn uid(world: &World) -> String {
    world.configurations["a"].metadata.uid.clone().unwrap()
}

fn has(world: &mut World, jobs: &[(Option<Marker>, JobState)]) {
    let (uid, now) = (uid(world), world.now);
    let jobs = jobs
        .iter()
        .map(|(marker, state)| job(marker.as_ref(), now, *state));
    world.v1.jobs.insert(uid, jobs.collect());
}

fn held(world: &World) -> Option<Marker> {
    member(&world.configurations["a"]).marker()
}

/// The Machine names its configuration, as v1 writes it after a run of the schedule.
fn named(world: &mut World) {
    let status = world.machine("a").status.get_or_insert_default();
    status.applied_configuration = Some("a".to_owned());
}

fn confirms(seen: &Seen) -> bool {
    seen.kinds().contains(&"Confirm")
}

/// NICO passes, and NIO does nothing.
pub fn passes_until(world: &mut World, done: impl Fn(&World) -> bool) {
    for _ in 0..100 {
        if done(world) {
            return;
        }
        world.pass(PROD);
        world.wait(10);
    }
    panic!("100 passes in vain: {}", world.story());
}

/// What a plan changes quietly in the specs, machine by machine.
fn settles(seen: &Seen) -> Vec<(&str, Value)> {
    let actions = seen.plan.actions.iter();
    let settled = actions.filter_map(|action| match action {
        Action::Configuration(ConfigurationWrite::Mark(name, _, Mark::Settled(fields))) => {
            Some((name.as_str(), Value::Object(fields.clone())))
        }
        _ => None,
    });
    settled.collect()
}

#[test]
fn the_last_job_to_end_proves_what_it_names_and_only_alone() {
    let at = |second: i64| Timestamp::from_second(crate::world::START + second).unwrap();
    let complete = |second| JobState::Complete(at(second));
    let failed = |second| JobState::Failed(at(second));
    let proves = |jobs: &dyn Fn(Option<Marker>) -> Vec<(Option<Marker>, JobState)>| {
        let seen = claimed(Map::new()).when(|world| {
            let jobs = jobs(held(world));
            has(world, &jobs);
            named(world);
        });
        confirms(&seen)
    };
    let other = Marker::from_path(".nico/0123456789ab-7");
    assert!(other.is_some());
    let other = || other.clone();
    assert!(proves(&|held| vec![(held, complete(5))]));
    assert!(proves(&|held| vec![
        (held, complete(9)),
        (other(), complete(5))
    ]));
    assert!(proves(&|held| vec![
        (held.clone(), complete(9)),
        (held, complete(9))
    ]));
    assert!(proves(&|held| vec![
        (held.clone(), complete(9)),
        (held, failed(5))
    ]));
    assert!(!proves(&|_| vec![]));
    assert!(!proves(&|_| vec![(None, complete(5))]));
    assert!(!proves(&|_| vec![(other(), complete(5))]));
    assert!(!proves(&|held| vec![(held, failed(5))]));
    assert!(!proves(&|held| vec![(held, JobState::Unfinished)]));
    let beside = |held: Option<Marker>, beside| vec![(held, complete(5)), beside];
    // It may change the machine after the Job that is complete.
    assert!(!proves(&|held| beside(held, (None, JobState::Unfinished))));
    assert!(!proves(&|held| beside(
        held,
        (other(), JobState::Unfinished)
    )));
    assert!(!proves(&|held| beside(held, (other(), complete(9)))));
    assert!(!proves(&|held| beside(held, (None, complete(9)))));
    assert!(!proves(&|held| beside(held.clone(), (held, failed(9)))));
    // Times have whole seconds: of two that end in one nobody knows which was last.
    assert!(!proves(&|held| beside(held, (other(), complete(5)))));
    assert!(!proves(&|held| beside(held.clone(), (held, failed(5)))));
}

#[test]
fn a_job_proves_nothing_before_the_machine_names_the_configuration() {
    let seen = |change: &dyn Fn(&mut World)| {
        claimed(Map::new()).when(|world| {
            let job = (held(world), JobState::Complete(world.now));
            has(world, &[job]);
            named(world);
            change(world);
        })
    };
    assert!(confirms(&seen(&|_| {})));
    assert!(!confirms(&seen(&|world| world.machine("a").status = None)));
    assert!(!confirms(&seen(&|world| {
        let status = world.machine("a").status.as_mut().unwrap();
        status.applied_configuration = Some("b".to_owned());
    })));
    assert!(!confirms(&seen(&|world| world.delete_configuration("a"))));
    assert!(!confirms(&seen(&|world| {
        world.edit_configuration("a", |held| {
            edit(&mut held.spec, |it| it["machineRef"]["name"] = json!("b"));
        });
    })));
    // Of another configuration of the same name.
    assert!(!confirms(&seen(&|world| world
        .configuration("a")
        .metadata
        .uid =
        Some("other".to_owned()))));
}

/// v1 says so before it has applied anything.
#[test]
fn what_v1_says_in_a_status_is_no_proof() {
    let seen = claimed(Map::new()).when(|world| {
        named(world);
        let condition = |kind: &str| NioCondition {
            kind: kind.to_owned(),
            status: "True".to_owned(),
            reason: "Success".to_owned(),
            message: String::new(),
        };
        let files = world.configurations["a"].spec.files_hash().to_owned();
        world.configuration("a").status = Some(NixosConfigurationStatus {
            phase: Some("Ready".to_owned()),
            applied_commit: Some("c0ffee".to_owned()),
            additional_files_hash: Some(files),
            target_machine: Some("a".to_owned()),
            conditions: vec![condition("Ready"), condition("Applied")],
            ..NixosConfigurationStatus::default()
        });
    });
    assert!(!confirms(&seen));
}

#[test]
fn the_schedule_is_every_minute_while_a_machine_waits_and_no_longer() {
    let every_minute = |world: &mut World| {
        world.edit_configuration("a", |held| {
            edit(&mut held.spec, |it| {
                it["dayTwoSchedule"] = json!("* * * * *")
            });
        });
    };
    let applied = |world: &mut World| {
        let job = (held(world), JobState::Complete(world.now));
        has(world, &[job]);
    };
    let seen = |change: &dyn Fn(&mut World)| claimed(Map::new()).when(change);
    let asks = vec![("a", json!({"dayTwoSchedule": "* * * * *"}))];
    let gives_up = vec![("a", json!({"dayTwoSchedule": null}))];

    // A new commit starts a Job by itself: a run of the schedule would overlap that one.
    assert_eq!(settles(&seen(&|_| {})), []);
    assert_eq!(settles(&seen(&|world| world.wait(59))), []);
    assert_eq!(settles(&seen(&|world| world.wait(60))), asks);
    assert_eq!(settles(&seen(&applied)), asks);
    // Nor beside another Job.
    assert_eq!(
        settles(&seen(&|world| {
            world.wait(60);
            has(world, &[(None, JobState::Unfinished)]);
        })),
        []
    );
    assert_eq!(
        settles(&seen(&|world| {
            world.wait(60);
            world.edit(PROD, |spec| spec["paused"] = true.into());
        })),
        []
    );
    assert_eq!(
        settles(&seen(&|world| {
            every_minute(world);
            world.wait(60);
        })),
        []
    );
    let confirmed = |world: &mut World| {
        every_minute(world);
        applied(world);
        named(world);
        world.pass(PROD);
    };
    assert_eq!(settles(&seen(&confirmed)), gives_up);
    assert_eq!(
        settles(&seen(&|world| {
            confirmed(world);
            world.edit(PROD, |spec| spec["paused"] = true.into());
        })),
        gives_up
    );
}

#[test]
fn a_machine_is_written_again_with_the_schedule_unless_its_commit_is_new() {
    ready()
        .when(new_repository)
        .when(|world| {
            let schedule = |it: &World| {
                it.configurations["v"]
                    .spec
                    .text("dayTwoSchedule")
                    .map(str::to_owned)
            };
            assert_eq!(schedule(world).as_deref(), Some("*/30 * * * *"));
            passes_until(world, |world| !rolled(world).is_empty());
            assert_eq!(schedule(world).as_deref(), Some("* * * * *"));
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["v", "w", "a", "b", "c"]);
            let schedules = seen.world.configurations.values();
            let mut schedules = schedules.map(|it| it.spec.text("dayTwoSchedule"));
            assert!(schedules.all(|it| it == Some("*/30 * * * *")));
        });
    ready()
        .when(|world| world.v1.head = commit('b'))
        .when(|world| {
            passes_until(world, |world| !rolled(world).is_empty());
            let spec = &world.configurations["v"].spec;
            let held = (spec.text("ref"), spec.text("dayTwoSchedule"));
            assert_eq!(held, (Some("b".repeat(40).as_str()), Some("*/30 * * * *")));
        });
}

#[test]
fn a_push_is_rolled_out_workers_first_and_stops_at_a_machine_that_fails() {
    ready()
        .when(|world| world.v1.head = commit('b'))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["v", "w", "a", "b", "c"]);
        })
        .when(|world| {
            world.written.clear();
            world.v1.head = commit('c');
            world.broken.insert(crate::rollout::name("v"));
        })
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), ["v"]))
        .when(|world| {
            world.broken.clear();
            world.v1.head = commit('d');
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["v", "v", "w", "a", "b", "c"]);
        });
}
