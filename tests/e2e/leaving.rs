//! Machines leave a living cluster, and clusters are deleted, on a real API server with the shipped rights: killed at every write, in
//! trouble, at every step of something else, and with what is not NICO's in the way.
//!
//! An entry of which no child is left stands for four times the request timeout. Most have no workload API server of their
//! own: the Nodes are found by address, and more worlds live side by side. Tests begin in the order
//! of their names: the rooms of the longest have the first ones.

mod amounts;
mod between_lives;
mod cascade;
mod forced;
mod foreign;
mod kills;
mod midway;
mod trouble;

use crate::common::case::Case;
use crate::common::shown::in_flight;
use crate::common::traffic::{Counter, RESYNC};
use crate::common::{listed, nico};
use rig::crds::Generation;
use rig::world::condition;
use serde_json::Value;

/// These machines, and the cluster `prod` of all of them, Ready.
async fn ready(generation: Generation, control_plane: &[&str], workers: &[&str]) -> Case {
    let case = Case::of(generation, &nico().args(&RESYNC)).await;
    case.world
        .machines_named(&[control_plane, workers].concat())
        .await;
    let spec = listed(control_plane, workers);
    case.cluster("prod", spec).await;
    case.ready("prod").await;
    case
}

/// Whether a status says that the machines are as this generation asks, that nothing is in flight, and that the cluster is Ready.
fn at_rest(status: &Value, generation: Option<i64>) -> bool {
    let is = |kind: &str, holds: &str| condition(status, kind)["status"] == holds;
    status["observedGeneration"].as_i64() == generation
        && in_flight(status).is_empty()
        && is("ControlPlaneReady", "True")
        && is("DataPlaneReady", "True")
        && is("RollingOut", "False")
        && is("Ready", "True")
}

/// Counts how often NICO looks: it lists configurations, in a deletion or where something is amiss, or reads a token.
fn passing(case: &Case) -> Counter {
    Counter::on(&case.proxy, |call| {
        let lists = call.verb == "list" && call.resource == "nixosconfigurations";
        lists || (call.verb == "get" && call.name.ends_with("-join-token"))
    })
}
