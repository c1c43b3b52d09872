//! How the simulated NIO treats one machine.

use std::time::Duration;

/// The knobs of one machine. By default, NIO works as it should.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Knobs {
    /// How long an apply takes.
    pub delay: Option<Duration>,
    /// Applies fail, and nothing is written.
    pub fails: bool,
    /// NIO does nothing for this machine's configuration, not even delete it.
    pub never_reacts: bool,
    /// NIO cannot reach the machine, which is not discoverable. Classic reports `Applied=False` and removes `appliedCommit`, v1 reports
    /// `Blocked`.
    pub unreachable: bool,
    /// v1: a running Job does not end until this is reset.
    pub hangs: bool,
    /// v1: no schedule becomes due.
    pub no_runs: bool,
    /// `discoverable` changes at every tick.
    pub flapping: bool,
    /// Fixes the value of `discoverable`.
    pub discoverable: Option<bool>,
    /// Classic: success is reported with the hash of an older list. v1 claims `Ready` of older lists without a knob.
    pub claims_older_hash: bool,
    /// `targetMachine` names another machine; with v1, the Machine names this configuration as applied.
    pub names_other_machine: Option<String>,
}
