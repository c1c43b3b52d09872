//! The planner against its rules and the invariants, without any I/O: thousands of states a second.
//!
//! `given.rs` has the words that the tests are written in; `world.rs`, `shell.rs` and `nio.rs` are a tiny namespace in memory, and
//! `rules.rs` holds every plan made there to what must always be so. The random states of `arbitrary.rs` are 512 a property, the
//! random histories of `sequences.rs` 128: `PROPTEST_CASES=10000` asks for more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::semicolon_if_nothing_returned,
    clippy::too_many_lines,
    missing_docs,
    unreachable_pub
)]

mod act;
mod arbitrary;
mod assembled;
mod bringup;
mod confirmed;
mod deletion;
mod drain;
mod entries;
mod facts;
mod foreign;
mod founding;
mod generations;
mod given;
mod hand_edits;
mod kstatus;
mod kubeconfig;
mod late_marks;
mod leaving;
mod look_again;
mod nio;
mod nio_v1;
mod nodes;
mod nonsense;
mod outage;
mod outdated;
mod pin;
mod reasons;
mod renewal;
mod restored;
mod revision;
mod rollout;
mod rules;
mod selection;
mod sequences;
mod shell;
mod source;
mod ssh_keys;
mod stalled;
mod status;
mod together;
mod turmoil;
mod turmoil_v1;
mod v1;
mod v1_reported;
mod without_nodes;
mod world;
