//! Patience: the clocks with which the planner measures how long a state has lasted, and all its timeouts and intervals.

use std::time::Duration;

use crate::api::conditions::Reason;
use crate::api::names::MachineName;

use super::writes::Precondition;

/// A patience clock: how long a state has lasted, as seen by this process. A restart resets it, which only makes waits longer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clock {
    /// The cluster has claims, but cannot complete its control plane.
    IncompleteClaims,
    /// A machine is not discoverable.
    Undiscoverable(MachineName),
    /// NIO reports an error for a machine.
    Complaint(MachineName),
    /// The stored kubeconfig does not work, or was not verified yet.
    Kubeconfig,
    /// A kubeconfig was fetched, but its API server was not reached.
    Unverified,
    /// A founded cluster has no kubeconfig, and none could be fetched.
    NeverReachable,
    /// Fewer control plane machines than a quorum are healthy.
    QuorumLost,
    /// Fewer API servers of the control plane than a quorum are ready, whether or not something is to be changed.
    ControlPlaneDown,
    /// NIO reports a confirmed machine as unconfigured.
    Unconfigured(MachineName),
    /// NIO's proof of a machine was withdrawn.
    Withdrawn(MachineName),
    /// The pause for late requests before the end of an entry without a configuration, with this version of the ledger.
    NoChild(MachineName, Precondition),
    /// A confirmed machine has no Node.
    WithoutNode(MachineName),
    /// The health of control plane machines has been unknown to every probe.
    HealthUnknown,
    /// A mistake blocks the cluster and does not pass by itself.
    Mistake(Reason),
    /// The ledger with this uid was created again in a founded cluster.
    Fencing(String),
}

// How long a state must last before the planner acts on it or reports it.

/// How long the older of two clusters keeps claims although it cannot complete its control plane, so that others do not wait forever. The
/// younger one yields at once; a complete one never does.
pub const INCOMPLETE_CLAIMS_HELD_FOR: Duration = Duration::from_secs(60);
/// How long a founded cluster may be without a kubeconfig. As long as [`UNVERIFIED_STORED_AFTER`].
pub const NEVER_REACHABLE_AFTER: Duration = Duration::from_secs(600);
/// How long a fetched kubeconfig is not stored because its API server cannot be reached. A load balancer may need minutes to start.
pub const UNVERIFIED_STORED_AFTER: Duration = Duration::from_secs(600);
/// How long an outdated machine may be undiscoverable before it is passed over. A reboot takes less.
pub const PASSED_OVER_AFTER: Duration = Duration::from_secs(180);
/// How long the quorum must be lost before NICO reports it of a cluster at rest, and before sick machines are changed to restore it. An etcd
/// leader election and a reboot take less.
pub const QUORUM_LOST_AFTER: Duration = Duration::from_secs(180);
/// How long NIO must report a confirmed machine as unconfigured. NIO checks machines every 120 seconds.
pub const WIPED_AFTER: Duration = Duration::from_secs(300);
/// How long NIO may take to release a machine before NICO reports why. NIO retries every 120 seconds; this is twice that time.
pub const NIO_LATE_AFTER: Duration = Duration::from_secs(240);
/// How long `Ready` tolerates undiscoverable machines, errors of NIO and a failing kubeconfig, which may pass by themselves.
pub const READY_BEARS_FOR: Duration = Duration::from_secs(60);
/// How long a mistake must last before the cluster is `Stalled`. Objects that are applied together arrive one after the other, and waiting
/// tools give up at `Stalled`.
pub const MISTAKE_STALLS_AFTER: Duration = Duration::from_secs(60);
/// How long a finalizer may block the deletion of a Node before NICO reports it. Controllers remove theirs within seconds.
pub const NODE_HELD_AFTER: Duration = Duration::from_secs(180);
/// How long probes must tell nothing before NICO says how to go on without them. As long as [`NODE_REGISTERS_WITHIN`].
pub const ADVISED_WITHOUT_CHECKS_AFTER: Duration = Duration::from_secs(300);
/// How long a machine that was applied may have no Node before NICO says what to do where Nodes are named otherwise. A kubelet may need
/// minutes to start and to register.
pub const NODE_REGISTERS_WITHIN: Duration = Duration::from_secs(300);
/// How long a pod may terminate after the end of its grace period before NICO reports it.
pub const POD_TERMINATES_WITHIN: Duration = Duration::from_secs(60);
/// How long classic NIO may still run an older attempt: its apply may take an hour.
pub const OLDER_ATTEMPT_RUNS_FOR: Duration = Duration::from_secs(3600);
/// A drain mark that is this much older than the time of a drain is left over from an earlier drain: NICO acts soon after that time. The
/// drain then starts again, so that the current pods get their time.
pub const DRAIN_MARK_OLD_AFTER: Duration = Duration::from_secs(900);
/// NIO v1 starts a Job for a new configuration or commit. If none has run after this time, NICO sets a schedule that starts one.
pub const JOB_STARTED_AFTER: Duration = Duration::from_secs(60);
/// How many request timeouts a request may take to land after its decision. A decision is written within one timeout or not at all, and the
/// request takes another. The rest allows for clocks, and for a server that is slow to cancel requests.
pub const LATE_REQUEST_TIMEOUTS: u32 = 4;

// Intervals of checks, probes and reads.

/// A missing Secret, ledger or NIO, none of which is watched.
pub const MISSING_LOOKED_FOR_AFTER: Duration = Duration::from_secs(5);
/// The cluster's own API while a machine is being changed, since it is not watched.
pub const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// The same while nothing is in flight: what blocks a change may last for days.
pub const ASKED_AGAIN_AT_STANDSTILL_AFTER: Duration = Duration::from_secs(10);
/// A kubeconfig that does not work.
pub const KUBECONFIG_TRIED_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How many failures in a row it takes until another kubeconfig is fetched. A restart of the API server may cause one.
pub const KUBECONFIG_FAILURES_BEFORE_FETCH: u32 = 3;
/// A kubeconfig that could not be replaced: each attempt logs in to every machine.
pub const KUBECONFIG_FETCHED_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// A client certificate with a shorter lifetime is not renewed before it expires: the Secret would be rewritten all the time.
pub const KUBECONFIG_SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// A kubeconfig whose client certificate has passed half of its life.
pub const KUBECONFIG_RENEWED_AFTER: Duration = Duration::from_secs(24 * 3600);
