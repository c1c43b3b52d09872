//! The exhaustive model: every way in which edits, crashes, late requests, NIO's faults and a second operator can fall between the
//! steps of NICO, with the real planner in the middle (INVARIANTS). Nothing of the planner is written again here.
//!
//! `compact.rs` is the state, `canonical.rs` its one form; `texts.rs`, `objects.rs` and `planner.rs` show it to the planner;
//! `shell.rs` and `reads.rs` play the controller call by call, `server.rs` the API server, `nio.rs` the rest of the world; `judge.rs` says what must
//! never be. `searches.rs` walks whole worlds, `ends.rs` looks for dead ends in them; `protocol.rs` leaves out each step of the slot's
//! protocol, `mutants.rs` breaks each rule of the planner, and both must be found.
//!
//! - every day: `cargo test --test model`; `-- --nocapture` shows how many states there are
//! - the full size: `cargo test --test model full_ -- --ignored --nocapture`
//! - the planner's mutants: `cargo test --test model source_mutants -- --ignored --nocapture`
//!
//! What is not in it: bring-up and deletion of a cluster, drains, NIO v1, edits of a configuration by hand, two older attempts
//! on one machine at once. The order of two writes by time is not kept: of several members that were written, the last by
//! name counts as the newest. What NIO does of itself to a confirmed machine (a push) is no flight of NICO's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod canonical;
mod compact;
mod deletions;
mod drains;
mod ends;
mod estate;
mod judge;
mod leaving;
mod model;
mod mutants;
mod mutation;
mod nio;
mod objects;
mod patience;
mod planner;
mod properties;
mod protocol;
mod reads;
mod search;
mod searches;
mod server;
mod shell;
mod steps;
mod texts;
mod walk;
