//! Patience: the clocks by which the planner tells how long something has been so.

use crate::api::names::MachineName;

use super::writes::Precondition;

/// A clock of patience: how long something has been so, as this process saw it. A restart starts it anew, which only waits longer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clock {
    /// Claims are held while the control plane cannot be completed (SPEC 2.4).
    IncompleteClaims,
    /// A machine is not discoverable (SPEC 1.2, Ready).
    Undiscoverable(MachineName),
    /// NIO has something against a machine (SPEC 1.2, Ready).
    Complaint(MachineName),
    /// The stored kubeconfig does not work, or was not tried yet (SPEC 1.2, Ready).
    Kubeconfig,
    /// The kubeconfig was read and its API server not reached (SPEC 6: ten minutes).
    Unverified,
    /// No kubeconfig could be read of a founded cluster that has none (SPEC 2.5).
    NeverReachable,
    /// Fewer than a quorum of the control plane are healthy (SPEC 4.3: three minutes).
    QuorumLost,
    /// NIO shows a confirmed machine as unconfigured (SPEC 3.6: five minutes).
    Unconfigured(MachineName),
    /// NIO's proof of a machine was withdrawn (SPEC 3.5).
    Withdrawn(MachineName),
    /// An entry without a child is about to end, and the ledger stands as it is (SPEC 4.2).
    NoChild(MachineName, Precondition),
    /// The ledger of this uid was made anew in a founded cluster (SPEC 4.2).
    Fencing(String),
}
