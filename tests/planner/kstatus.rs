//! What tools that follow kstatus (Flux, `kubectl wait`, Helm) make of a cluster, and Argo CD by its health script. They never see it as done
//! while its machines are not as the spec says, at any write of the status.

use std::collections::BTreeSet;

use nico::api::status::ClusterStatus;
use nico::plan::cluster_nix::NixNode;
use nico::plan::observed::Member;
use serde_json::{Value, json};

use crate::given::{PROD, cluster, given};
use crate::nio::proof;
use crate::rollout::{name, new_repository, ready};
use crate::world::World;

/// What kstatus computes for a custom resource (sigs.k8s.io/cli-utils, `pkg/kstatus/status`: `checkGenericProperties`, then
/// `checkReadyCondition`).
pub fn kstatus(object: &Value) -> &'static str {
    let (metadata, status) = (&object["metadata"], &object["status"]);
    let observed = &status["observedGeneration"];
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let is = |kind: &str, status: &str| {
        let mut found = conditions.clone().filter(|it| it["type"] == kind);
        found.any(|it| it["status"] == status)
    };
    let is_unseen = observed.is_i64() && *observed != metadata["generation"];
    if metadata["deletionTimestamp"].is_string() {
        "Terminating"
    } else if is_unseen || is("Reconciling", "True") {
        "InProgress"
    } else if is("Stalled", "True") {
        "Failed"
    } else if is("Ready", "False") || is("Ready", "Unknown") {
        "InProgress"
    } else {
        "Current"
    }
}

/// A cluster with a status, as the API server shows it: `observedGeneration` defaults to -1.
pub fn shown(generation: i64, deleting: bool, status: &ClusterStatus) -> Value {
    let mut object = json!({ "metadata": { "generation": generation }, "status": status });
    if deleting {
        object["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
    }
    if status.observed_generation.is_none() {
        object["status"]["observedGeneration"] = json!(-1);
    }
    object
}

/// What is not as the spec says, by what NIO has applied and without NICO's word.
fn amiss(world: &World) -> Option<String> {
    let spec = &world.clusters[PROD].spec;
    let listed = |role: &str| -> BTreeSet<&str> {
        let machines = spec[role]["machines"].as_array().into_iter().flatten();
        machines.filter_map(Value::as_str).collect()
    };
    let (control_plane, workers) = (listed("controlPlane"), listed("dataPlane"));
    let wanted: BTreeSet<&str> = control_plane.union(&workers).copied().collect();
    let held: BTreeSet<&str> = world.configurations.keys().map(String::as_str).collect();
    if wanted != held {
        return Some(format!("{wanted:?} are asked for, {held:?} are there"));
    }
    world.configurations.values().find_map(|held| {
        let member = Member::of(held)?;
        let values = member.values()?;
        let lists = |nodes: &[NixNode], asked: &BTreeSet<&str>| {
            nodes
                .iter()
                .map(|node| node.name.as_str())
                .eq(asked.iter().copied())
        };
        let told = lists(&values.control_plane, &control_plane) && lists(&values.workers, &workers);
        let applied = held.status.as_ref() == Some(&proof(held));
        let repository = held.spec.text("gitRepo") == spec["gitRepo"].as_str();
        let leaves = held.metadata.deletion_timestamp.is_some();
        let well = told && applied && repository && !leaves;
        (!well).then(|| {
            format!(
                "{}: told {told}, applied {applied}, its repository {repository}, leaves {leaves}",
                member.name
            )
        })
    })
}

/// The cluster as it is stored now.
fn stored(world: &World) -> Value {
    let view = &world.clusters[PROD].view;
    shown(view.generation, view.deleting, &view.status)
}

/// What Argo CD shows is what kstatus says, in other words; but it shows a paused cluster as such, and a deletion that a person must help.
fn argo_cd_agrees(objects: &[Value]) {
    let healths = rig::argo_cd::health("Argo CD over histories", objects);
    for (object, (health, message)) in objects.iter().zip(healths.into_iter().flatten()) {
        let seen = kstatus(object);
        let (generation, status) = (&object["metadata"]["generation"], &object["status"]);
        let holds = |kind: &str| {
            let mut conditions = status["conditions"].as_array().into_iter().flatten();
            *generation == status["observedGeneration"]
                && conditions.any(|it| it["type"] == kind && it["status"] == "True")
        };
        let expected = match seen {
            "Failed" => "Degraded",
            "Terminating" if holds("Stalled") => "Degraded",
            _ if holds("Paused") => "Suspended",
            "Current" => "Healthy",
            _ => "Progressing",
        };
        assert_eq!(health, expected, "{seen}: {object:#}");
        assert!(!message.is_empty(), "{object:#}");
    }
}

/// What kstatus says of the cluster as it is stored now.
#[track_caller]
fn now(world: &World) -> &'static str {
    let seen = kstatus(&stored(world));
    if let (Some(amiss), "Current") = (amiss(world), seen) {
        panic!("a false green: {amiss}{}", world.story());
    }
    seen
}

/// What kstatus says at each write of the status, and after each write of the pass, until nothing changes for ten minutes; the same in a row
/// counts once.
#[track_caller]
fn history(world: &mut World) -> Vec<&'static str> {
    let mut seen = vec![now(world)];
    let mut objects = vec![stored(world)];
    let mut quiet = 0;
    while quiet < 30 {
        let before = world.clusters[PROD].view.status.clone();
        let Some((_, plan)) = world.plan(PROD) else {
            break;
        };
        seen.push(now(world));
        objects.push(stored(world));
        for action in &plan.actions {
            if world.apply(PROD, action).is_err() || !world.clusters.contains_key(PROD) {
                break;
            }
            now(world);
        }
        if !world.clusters.contains_key(PROD) {
            break;
        }
        let worked = world.work();
        now(world);
        let rests = plan.actions.is_empty() && !worked;
        let rests = rests && before == world.clusters[PROD].view.status;
        quiet = if rests { quiet + 1 } else { 0 };
        world.wait(20);
    }
    objects.dedup();
    argo_cd_agrees(&objects);
    seen.dedup();
    seen
}

fn asks_for(world: &mut World, control_plane: &[&str], workers: &[&str]) {
    world.edit(PROD, |spec| {
        spec["controlPlane"] = json!({ "machines": control_plane });
        spec["dataPlane"] = json!({ "machines": workers });
    });
}

const ROLLED: [&str; 2] = ["InProgress", "Current"];

/// The first look is at an object that nobody has looked at.
#[test]
fn a_bring_up_is_in_progress_until_it_is_done() {
    let asked = cluster().control_plane(["a", "b", "c"]).workers(["v", "w"]);
    let mut world = given(asked).machines(["a", "b", "c", "v", "w"]).0;
    assert_eq!(history(&mut world), ROLLED);
}

#[test]
fn a_change_is_in_progress_from_the_edit_to_the_last_machine() {
    let changes: [fn(&mut World); 4] = [
        new_repository,
        |world| asks_for(world, &["a", "b", "c"], &["v", "d"]),
        |world| asks_for(world, &["a", "b", "d"], &["v", "w"]),
        |world| asks_for(world, &["a", "b"], &["v"]),
    ];
    for change in changes {
        let mut world = ready().0;
        assert_eq!(now(&world), "Current");
        change(&mut world);
        assert_eq!(history(&mut world), ROLLED);
    }
}

#[test]
fn a_machine_that_fails_is_no_success_and_ends_as_a_failure() {
    let mut world = ready().0;
    world.broken.insert(name("w"));
    new_repository(&mut world);
    assert_eq!(history(&mut world), ["InProgress"]);
    world.wait(4200);
    assert_eq!(history(&mut world), ["InProgress", "Failed"]);
    world.broken.clear();
    assert_eq!(history(&mut world)[..], ["Failed", "InProgress", "Current"]);
}

/// Nothing is at work in a paused cluster, and it is not done either.
#[test]
fn a_paused_cluster_is_done_only_where_it_has_nothing_to_do() {
    let mut world = ready().0;
    world.edit(PROD, |spec| spec["paused"] = json!(true));
    assert_eq!(history(&mut world), ROLLED);
    new_repository(&mut world);
    assert_eq!(history(&mut world), ["InProgress"]);
    world.edit(PROD, |spec| spec["paused"] = json!(false));
    assert_eq!(history(&mut world), ROLLED);
}

/// A status that is wiped, or restored from a backup while a change is on its way.
#[test]
fn no_status_of_another_day_is_taken_for_todays() {
    let mut world = ready().0;
    let old = world.clusters[PROD].view.status.clone();
    new_repository(&mut world);
    for status in [ClusterStatus::default(), old] {
        for _ in 0..3 {
            world.pass(PROD);
            world.work();
        }
        world.cluster(PROD).view.status = status;
        assert_eq!(now(&world), "InProgress");
    }
    assert_eq!(history(&mut world), ROLLED);
}

#[test]
fn a_deletion_is_terminating_until_the_cluster_is_gone() {
    let mut world = ready().0;
    world.delete_cluster(PROD);
    assert_eq!(history(&mut world), ["Terminating"]);
    assert!(!world.clusters.contains_key(PROD));
}
