//! A living cluster is changed, on a real API server with the shipped rights: the order, the intervals judged from NIO's side, and
//! what happens when machines, NIO or NICO fail meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod edits;

use common::case::Case;
use common::traffic::RESYNC;
use common::{five, nico, three_and_two};
use serde_json::{Value, json};

/// The repository that a test changes to.
const NEW: &str = "https://git.example.com/new.git";

/// Three control plane machines and two workers, Ready, with a workload API server of their own.
async fn ready() -> Case {
    let case = Case::alone(&nico().args(&RESYNC)).await;
    five(&case.world).await;
    case.world.cluster("prod", three_and_two()).await.unwrap();
    case.ready("prod").await;
    case
}

/// A spec with another repository.
fn new_repository() -> Value {
    json!({ "gitRepo": NEW })
}
