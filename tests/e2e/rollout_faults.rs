//! A living cluster is changed while everything around NICO fails: its own process, the API server, the machines, and people.
//! Whatever happens, every write keeps the rules, and the roll ends.

mod api;
mod crash;
mod machines;
mod users;

use crate::common::case::Case;
use crate::common::shown::at_rest;
use crate::common::traffic::RESYNC;
use crate::common::{listed, nico};
use rig::crds::Generation;
use rig::judge::rollout::{Rules, order};
use rig::world::NicoSetup;
use serde_json::{Value, json};

/// Who is rolled in a cluster of three and one, in this order.
const ORDER: [&str; 4] = ["w-01", "cp-01", "cp-02", "cp-03"];

fn setup() -> NicoSetup {
    nico().args(&RESYNC)
}

/// A spec with another repository.
fn repository(name: &str) -> Value {
    json!({"gitRepo": format!("https://git.example.com/{name}.git")})
}

/// A cluster `prod` of three control plane machines and a worker, Ready, with this NIO.
async fn three_and_one(generation: Generation) -> Case {
    let case = Case::of(generation, &setup()).await;
    found(&case).await;
    case
}

/// Makes that cluster in a fresh world.
async fn found(case: &Case) {
    case.world.machines_named(&ORDER).await;
    let spec = listed(&ORDER[1..], &ORDER[..1]);
    case.cluster("prod", spec).await;
    case.ready("prod").await;
}

/// Edits the spec, and has the judge know that a roll was asked for.
async fn edit(case: &Case, rules: &mut Rules, spec: Value) {
    rules.rolls.push(case.world.nio().now());
    case.edit("prod", spec).await;
}

/// Rolls to a repository, and stands still at a machine: it is written, and NIO does nothing for it.
async fn stands_at(case: &Case, rules: &mut Rules, machine: &str, name: &str) {
    does_nothing(case, machine, true);
    let old = case.marker(machine).await;
    edit(case, rules, repository(name)).await;
    case.wait_marker_changed(machine, &old).await;
}

/// Whether NIO does nothing for a machine.
fn does_nothing(case: &Case, machine: &str, nothing: bool) {
    case.world
        .nio()
        .set(machine, |knobs| knobs.never_reacts = nothing);
}

/// Waits for the end of a roll to a repository that began then, in which each machine was written once, in order.
async fn rolled_once(case: &Case, rules: &Rules, name: &str) {
    case.rolled_out("prod").await;
    assert_all_hold(case, name).await;
    let began = rules.rolls.last().copied().unwrap_or_default();
    let lines = case.proxy.write_lines();
    assert_eq!(order(&case.evidence(), began), ORDER, "{lines}");
}

/// Rolls to the repository `a`, and returns the markers that are held then.
async fn rolled_to_a(case: &Case, rules: &mut Rules) -> Vec<String> {
    edit(case, rules, repository("a")).await;
    rolled_once(case, rules, "a").await;
    let mut markers = Vec::new();
    for machine in ORDER {
        markers.push(case.marker(machine).await);
    }
    markers
}

/// Every machine was told this repository.
async fn assert_all_hold(case: &Case, name: &str) {
    let wanted = repository(name)["gitRepo"].clone();
    for machine in ORDER {
        let held = case.configuration(machine).await;
        assert_eq!(held.data["spec"]["gitRepo"], wanted, "{machine}");
    }
}

/// What was written and what stands, for the message of a failure.
async fn told(case: &Case) -> String {
    format!(
        "{}\n{}",
        case.proxy.write_lines(),
        case.world.describe().await
    )
}
