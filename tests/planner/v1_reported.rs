//! What the status says of machines beside NIO v1.

use nico::api::conditions::ConditionType::{RollingOut, Stalled};
use nico::api::conditions::Reason;
use nico::api::nio::{JobState, NioCondition, NixosConfigurationStatus};
use nico::api::status::MachineState;
use serde_json::Map;

use crate::given::{Given, PROD, Seen, cluster, given};
use crate::nio_v1::job;
use crate::rollout::{new_repository, rolled};
use crate::v1::{claimed, passes_until, ready};
use crate::world::World;

/// Default of `rollout.progressDeadlineSeconds`.
const DEADLINE: i64 = 4200;

/// A Job of machine `v` begins, and does not end.
pub fn hangs(world: &mut World) {
    let uid = world.configurations["v"].metadata.uid.clone().unwrap();
    let hangs = job(None, world.now, JobState::Unfinished);
    world.v1.jobs.get_mut(&uid).unwrap().push(hangs);
}

#[test]
fn a_job_that_never_ends_is_named() {
    ready()
        .when(hangs)
        .when(|world| world.wait(DEADLINE - 1))
        .then(|seen| {
            let ready = seen.condition(Stalled);
            assert_eq!(ready.status, "False", "{ready:?}");
        })
        .when(|world| world.wait(1))
        .then(|seen| {
            let words = "Job a-day2-r-0123456789ab-manual of Machine v";
            seen.says(Stalled, "True", Reason::BlockedByJob, words);
        });
}

#[test]
fn what_v1_has_against_a_machine_is_shown() {
    let complaint = |phase: &str, stalled: &str| NixosConfigurationStatus {
        phase: Some(phase.to_owned()),
        conditions: vec![NioCondition {
            kind: "Stalled".to_owned(),
            status: stalled.to_owned(),
            reason: "MachineInUse".to_owned(),
            message: "another configuration has it".to_owned(),
        }],
        ..NixosConfigurationStatus::default()
    };
    for (phase, stalled, shown) in [
        ("Blocked", "False", true),
        ("Degraded", "True", true),
        ("Converging", "True", true),
        ("Converging", "False", false),
    ] {
        let seen = claimed(Map::new()).when(|world| {
            world.configuration("a").status = Some(complaint(phase, stalled));
        });
        let row = &seen.status.machines[0];
        assert_eq!(row.state, MachineState::Applying);
        let told = row.reason == "NIOComplains" && row.message.contains("NIO says");
        assert_eq!(told, shown, "{phase} {row:?}");
        if stalled == "True" {
            assert!(row.message.contains("another configuration has it"));
        }
    }
}

/// The deadline says that something is wrong. What it is, only NIO says.
#[test]
fn what_v1_has_against_a_machine_that_is_late_or_out_of_date_stays_visible() {
    let why = "flake.nix:3 does not parse; ".repeat(30);
    let complains = |world: &mut World, machine: &str| {
        world.configuration(machine).status = Some(NixosConfigurationStatus {
            phase: Some("Degraded".to_owned()),
            conditions: vec![NioCondition {
                kind: "Stalled".to_owned(),
                status: "True".to_owned(),
                reason: "ApplyFailed".to_owned(),
                message: why.clone(),
            }],
            ..NixosConfigurationStatus::default()
        });
    };
    let shows = |seen: &Seen, machine: &str, state| {
        let rows = &seen.status.machines;
        let row = rows.iter().find(|row| row.name == machine).unwrap();
        assert_eq!(row.state, state);
        assert!(row.message.contains(&format!("; NIO says Degraded: {why}")));
    };
    ready()
        .when(|world| {
            new_repository(world);
            passes_until(world, |world| !rolled(world).is_empty());
            complains(world, "a");
            complains(world, "v");
            world.wait(DEADLINE);
        })
        .then(|seen| {
            shows(seen, "a", MachineState::Outdated);
            shows(seen, "v", MachineState::Failed);
            let words = "goes to it first; NIO says Degraded: flake.nix:3 does not parse";
            seen.says(Stalled, "True", Reason::ProgressDeadlineExceeded, words);
            // Another machine that is late is named in the same message.
            let told = seen.condition(Stalled).message.chars().count();
            assert!(told < 600, "{told}");
        });
}

/// No order holds where NIO follows a branch by itself, and nothing else would say so.
#[test]
fn who_leaves_pushes_to_nio_is_told_that_no_order_holds() {
    let words = "on all machines at once, in no order";
    let told = |mut given: Given, policy: &str, git_ref: &str| {
        given.0.edit(PROD, |spec| {
            spec["refPolicy"] = policy.into();
            spec["ref"] = git_ref.into();
        });
        given.0.settle();
        let mut told = None;
        given.when(|_| ()).then(|seen| {
            seen.says(RollingOut, "False", Reason::AsExpected, "");
            told = Some(seen.condition(RollingOut).message.contains(words));
        });
        told
    };
    let one = "a".repeat(40);
    assert_eq!(told(ready(), "Pin", "main"), Some(false));
    assert_eq!(told(ready(), "Follow", "main"), Some(true));
    assert_eq!(told(ready(), "Follow", &one), Some(false));
    let classic = || given(cluster().control_plane(["a"])).machines(["a"]);
    assert_eq!(told(classic(), "Follow", "main"), Some(true));
}
