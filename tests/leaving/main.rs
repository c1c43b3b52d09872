//! Machines leave a living cluster, and clusters are deleted, on a real API server with the shipped rights: killed at every write, in
//! trouble, at every step of something else, and with what is not NICO's in the way (INVARIANTS C, D, K1, M9, M10, U3, U8).
//!
//! Many of these wait for two minutes: so long an entry stands of which no child is left (SPEC 4.2). Most have no workload API server
//! of their own: the Nodes are found by address, and more worlds live side by side.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod kills;
mod release_kills;
