//! What the end-to-end tests share: the binary under test, and the clusters that they ask for.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod case;
pub(crate) mod deep;
pub(crate) mod gone;
pub(crate) mod lives;
pub(crate) mod steps;
pub(crate) mod traffic;

use std::time::Duration;

use rig::world::{NicoSetup, World};
use serde_json::{Value, json};

/// How long anything may take; passing it is a failure of NICO's, not of the machine's.
pub(crate) const DEADLINE: Duration = Duration::from_secs(400);

/// The binary under test.
pub(crate) fn nico() -> NicoSetup {
    NicoSetup::new(env!("CARGO_BIN_EXE_nico"))
}

/// Three control plane machines and two workers, by name.
pub(crate) async fn five(world: &World) {
    world
        .machines_named(&["cp-01", "cp-02", "cp-03", "w-01", "w-02"])
        .await;
}

/// A spec that lists them.
pub(crate) fn three_and_two() -> Value {
    listed(&["cp-01", "cp-02", "cp-03"], &["w-01", "w-02"])
}

/// A spec that lists these machines.
pub(crate) fn listed(control_plane: &[&str], workers: &[&str]) -> Value {
    let mut spec = json!({
        "gitRepo": "https://git.example.com/flakes.git",
        "controlPlane": {"machines": control_plane},
    });
    if !workers.is_empty() {
        spec["dataPlane"] = json!({"machines": workers});
    }
    spec
}
