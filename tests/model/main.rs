//! The exhaustive model: every way in which edits, crashes, late requests, NIO's faults and a second operator can fall between the
//! steps of NICO, with the real planner in the middle (INVARIANTS). Nothing of the planner is written again here.
//!
//! `compact.rs` is the state, `canonical.rs` its one form; `texts.rs`, `objects.rs` and `planner.rs` show it to the planner;
//! `shell.rs` plays the controller call by call, `server.rs` the API server, `nio.rs` the rest of the world; `judge.rs` says what must
//! never be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod canonical;
mod compact;
mod ends;
mod judge;
mod model;

mod mutants;
mod mutation;
mod nio;
mod objects;
mod planner;
mod protocol;
mod searches;
mod server;
mod shell;
mod texts;
mod walk;
