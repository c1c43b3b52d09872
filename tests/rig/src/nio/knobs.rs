//! What NIO makes of one machine, as a test wants it.

use std::time::Duration;

/// The knobs of one machine; the default is a NIO that does its work.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Knobs {
    /// How long an apply takes.
    pub delay: Option<Duration>,
    /// Applies fail, and nothing is written (N2).
    pub fails: bool,
    /// Nothing is done for this machine's configuration, deletion included (N1).
    pub never_reacts: bool,
    /// NIO cannot reach the machine: not discoverable; with classic `Applied=False` and `appliedCommit` taken away, with v1 `Blocked`.
    pub unreachable: bool,
    /// v1: a Job that runs does not end, until this is turned back.
    pub hangs: bool,
    /// v1: no schedule is ever due.
    pub no_runs: bool,
    /// `discoverable` changes at every tick (N4).
    pub flapping: bool,
    /// What `discoverable` says whatever the truth is.
    pub discoverable: Option<bool>,
    /// Classic: success is reported with the hash of an older list (N3). v1 claims `Ready` of older lists without a knob.
    pub claims_older_hash: bool,
    /// `targetMachine` names another machine (N6); with v1 the Machine says that this configuration was applied.
    pub names_other_machine: Option<String>,
}
