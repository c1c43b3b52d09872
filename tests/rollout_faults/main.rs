//! A living cluster is changed while everything around NICO fails: its own process, the API server, the machines, and people
//! (INVARIANTS C, S, E, T1, M1 to M8, U1 to U7). Whatever happens, every write keeps the rules, and the roll ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod crash;

use common::case::{Case, at_rest};
use common::traffic::RESYNC;
use common::{listed, nico};
use rig::judge::rollout::Rules;
use rig::world::NicoSetup;
use serde_json::{Value, json};

fn setup() -> NicoSetup {
    nico().args(&RESYNC)
}

/// A spec with another repository.
fn repository(name: &str) -> Value {
    json!({"gitRepo": format!("https://git.example.com/{name}.git")})
}

/// A Ready cluster `prod` of these machines, all of which are made.
async fn ready(control_plane: &[&str], workers: &[&str]) -> Case {
    let case = Case::with(&setup()).await;
    case.world.machines_named(control_plane).await;
    case.world.machines_named(workers).await;
    let spec = listed(control_plane, workers);
    case.world.cluster("prod", spec).await.unwrap();
    case.ready("prod").await;
    case
}

/// Three control plane machines and a worker, Ready.
async fn three_and_one() -> Case {
    ready(&["cp-01", "cp-02", "cp-03"], &["w-01"]).await
}

/// Edits the spec, and has the judge know that a roll was asked for.
async fn edit(case: &Case, rules: &mut Rules, spec: Value) {
    rules.rolls.push(case.world.nio().now());
    case.edit("prod", spec).await;
}
