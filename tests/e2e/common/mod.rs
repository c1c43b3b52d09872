//! What the end-to-end tests share: the binary under test, and the specs of clusters.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod case;
pub(crate) mod deep;
pub(crate) mod gone;
pub(crate) mod lives;
pub(crate) mod shown;
pub(crate) mod steps;
pub(crate) mod traffic;

use std::time::Duration;

use rig::crds::Generation;
use rig::world::{NicoSetup, World};
use serde_json::{Value, json};

/// Runs tests with every generation of NIO: each `<story>` becomes the tests `classic::<story>` and `v1::<story>`. Those `on demand`
/// take long, or differ little: beside v1 they run with `--include-ignored`.
#[allow(unused_macros, reason = "each test binary uses its own part")]
macro_rules! over_both {
    ($($story:ident),+ $(,)?) => { over_both! { $($story),+; on demand: } };
    (on demand: $($long:ident),+ $(,)?) => { over_both! { ; on demand: $($long),+ } };
    ($($story:ident),*; on demand: $($long:ident),* $(,)?) => {
        mod classic {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                Box::pin(super::$story(rig::crds::Generation::Classic)).await;
            })*
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $long() {
                Box::pin(super::$long(rig::crds::Generation::Classic)).await;
            })*
        }
        mod v1 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                Box::pin(super::$story(rig::crds::Generation::V1)).await;
            })*
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "on demand: cargo test --test e2e v1 -- --include-ignored"]
            async fn $long() {
                Box::pin(super::$long(rig::crds::Generation::V1)).await;
            })*
        }
    };
}
#[allow(unused_imports, reason = "each test binary uses its own part")]
pub(crate) use over_both;

/// The path of one of NICO's additional files in a flake in this directory. With v1 it is relative to the repository's root.
pub(crate) fn place(generation: Generation, subdir: &str, file: &str) -> String {
    match generation {
        Generation::Classic => file.to_owned(),
        Generation::V1 => format!("{subdir}/{file}"),
    }
}

/// How long anything may take. It is so long that only a failure of NICO, and not a slow machine, exceeds it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(400);

/// The binary under test.
pub(crate) fn nico() -> NicoSetup {
    NicoSetup::new(env!("CARGO_BIN_EXE_nico"))
}

/// Creates three control plane machines and two workers.
pub(crate) async fn five(world: &World) {
    world
        .machines_named(&["cp-01", "cp-02", "cp-03", "w-01", "w-02"])
        .await;
}

/// A spec that lists the machines of [`five`].
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
