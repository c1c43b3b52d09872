//! Patience: the clocks by which the planner tells how long something has been so, and every span of time that it knows.

use std::time::Duration;

use crate::api::conditions::Reason;
use crate::api::names::MachineName;

use super::writes::Precondition;

/// A clock of patience: how long something has been so, as this process saw it. A restart starts it again, which only waits longer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clock {
    /// Claims are held while the control plane cannot be completed.
    IncompleteClaims,
    /// A machine is not discoverable.
    Undiscoverable(MachineName),
    /// NIO has something against a machine.
    Complaint(MachineName),
    /// The stored kubeconfig does not work, or was not tried yet.
    Kubeconfig,
    /// The kubeconfig was read and its API server not reached.
    Unverified,
    /// No kubeconfig could be read of a founded cluster that has none.
    NeverReachable,
    /// Fewer than a quorum of the control plane are healthy.
    QuorumLost,
    /// NIO shows a confirmed machine as unconfigured.
    Unconfigured(MachineName),
    /// NIO's proof of a machine was withdrawn.
    Withdrawn(MachineName),
    /// An entry without a child is about to end, and the ledger stands as it is.
    NoChild(MachineName, Precondition),
    /// Something stands in the way that does not pass by itself.
    Mistake(Reason),
    /// The ledger of this uid was made again in a founded cluster.
    Fencing(String),
}

// How long something must have been so before the planner acts on it, or says so.

/// An older cluster holds claims that it cannot complete. A younger one gives way at once; a holder that is complete never does,
/// and others shall not wait for ever.
pub const INCOMPLETE_CLAIMS_HELD_FOR: Duration = Duration::from_secs(60);
/// A kubeconfig is sought in a founded cluster that has none: as long as one that cannot be tried is held back.
pub const NEVER_REACHABLE_AFTER: Duration = Duration::from_secs(600);
/// A kubeconfig was read and its API server could not be reached: a load balancer may need minutes.
pub const UNVERIFIED_STORED_AFTER: Duration = Duration::from_secs(600);
/// An outdated machine is not discoverable: it is passed over. A reboot takes less.
pub const PASSED_OVER_AFTER: Duration = Duration::from_secs(180);
/// Fewer than a quorum are healthy: the way out is taken. A leader's election and a reboot take less.
pub const QUORUM_LOST_AFTER: Duration = Duration::from_secs(180);
/// NIO says that a confirmed machine has no configuration. NIO itself looks every 120 seconds.
pub const WIPED_AFTER: Duration = Duration::from_secs(300);
/// NIO looks again every 120 seconds; what it did not let go of in twice that time, something holds up.
pub const NIO_LATE_AFTER: Duration = Duration::from_secs(240);
/// `Ready` bears undiscoverable machines, complaints of NIO and a kubeconfig that fails: they may pass by themselves.
pub const READY_BEARS_FOR: Duration = Duration::from_secs(60);
/// Nothing goes on without a person: what is applied together comes one after the other, and tools that wait give up at `Stalled`.
pub const MISTAKE_STALLS_AFTER: Duration = Duration::from_secs(60);
/// A finalizer holds a Node that is being deleted: whoever removes it takes seconds.
pub const NODE_HELD_AFTER: Duration = Duration::from_secs(180);
/// Classic may run an older attempt: its apply may take as long.
pub const OLDER_ATTEMPT_RUNS_FOR: Duration = Duration::from_secs(3600);
/// So long after its time a mark on a Node is left over of an earlier drain, which gave these pods no time.
pub const DRAIN_MARK_OLD_AFTER: Duration = Duration::from_secs(900);
/// V1 starts a Job by itself where a configuration or its commit is new. Where none has run by then, its schedule is to start one.
pub const JOB_STARTED_AFTER: Duration = Duration::from_secs(60);
/// How many call timeouts a request of one's own may take to land. What was decided is written within one or not at all, and that
/// call takes another; the rest is for clocks, and for a server that is slow to drop what nobody waits for.
pub const LATE_REQUEST_TIMEOUTS: u32 = 4;

// How soon something is looked at, asked or read again.

/// A missing Secret, ledger or NIO: no watch tells that it came.
pub const MISSING_LOOKED_FOR_AFTER: Duration = Duration::from_secs(5);
/// The cluster's own API while a machine is being changed: no watch tells what it says.
pub const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// The same while nothing is in flight: what stands in the way may stand there for days.
pub const ASKED_AGAIN_AT_STANDSTILL_AFTER: Duration = Duration::from_secs(10);
/// A kubeconfig that does not work.
pub const KUBECONFIG_TRIED_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How many failures in a row it takes until it is read again: one may be a restart of the API server.
pub const KUBECONFIG_FAILURES_BEFORE_FETCH: u32 = 3;
/// A kubeconfig that could not be replaced: each attempt logs in to every machine.
pub const KUBECONFIG_FETCHED_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// A client certificate that lives shorter is not renewed ahead of its end: the Secret would be rewritten again and again.
pub const KUBECONFIG_SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// A kubeconfig whose client certificate has passed half of its life.
pub const KUBECONFIG_RENEWED_AFTER: Duration = Duration::from_secs(24 * 3600);
