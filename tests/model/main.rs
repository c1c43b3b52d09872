//! The exhaustive model: every order in which edits, crashes, late requests, NIO's faults and a second operator can come between the
//! steps of NICO, with the real planner in the middle. Nothing of the planner is written again here.
//!
//! `compact.rs` and `state.rs` are the state, `canonical.rs` its one form; `search.rs` says what may happen in a search, `model.rs` how
//! it goes on.
//! `texts.rs`, `facts.rs`, `objects.rs`, `jobs.rs`, `planner.rs` and `steps.rs` show the state to the planner, as facts that it judges, and take
//! its plan; `shell.rs`, `reads.rs` and
//! `patience.rs` play the controller call by call, `server.rs` and `estate.rs` the API server, `nio.rs`, `nio_v1.rs` and `drains.rs` the
//! rest of the world; `judge.rs` says what must never be, `properties.rs` its names. `searches.rs`, `deletions.rs` and `leaving.rs` walk whole
//! worlds, `v1.rs` those of NIO v1, `ends.rs` looks for dead ends in them; `protocol.rs` leaves out each step of the slot's protocol, which must be found.
//!
//! - every day: `cargo test --test model`; `-- --nocapture` shows how many states there are
//! - the full size: `cargo test --test model full_ -- --ignored --nocapture`
//!
//! What is not in it: two operators that draw two ids at the founding, machines given back before it, edits of a
//! configuration by hand, quiet writes of v1's schedule, two older attempts on one machine at once, deletions that orphan or are forced, or take all children at once
//! (`--cascade=foreground`), a kubeconfig that is stored late. The order of two writes by time is not kept: of several members that were
//! written, the last by name counts as the newest. What NIO does of itself to a confirmed machine (a push) is no flight of NICO's.

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
#[path = "../planner/facts.rs"]
mod facts;
mod jobs;
mod judge;
mod labelled;
mod leaving;
mod model;
mod mutation;
mod nio;
mod nio_v1;
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
mod state;
mod steps;
mod texts;
mod v1;
mod walk;
mod without_nodes;
