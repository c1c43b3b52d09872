//! How long each exchange with a machine or with a cluster's own API server may take.

use std::time::Duration;

/// Time for the connection to a control plane member.
pub const PROBE_CONNECT: Duration = Duration::from_secs(3);
/// Time for the requests to all members, which run at the same time. Together with [`NODE_LIST`] it makes ten seconds, the limit of a
/// probe.
pub const MEMBER_PROBE: Duration = Duration::from_secs(4);
/// Time for the list of Nodes.
pub const NODE_LIST: Duration = Duration::from_secs(6);
/// Time to find out what holds the pods of all Nodes that are drained, within [`NODE_LIST`].
pub const DRAIN_REPORT: Duration = Duration::from_secs(2);
/// Time for one write to a Node.
pub const NODE_WRITE: Duration = Duration::from_secs(5);
/// Time for one eviction. The evictions of a round run one after the other.
pub const EVICTION: Duration = Duration::from_secs(5);
/// Time after which a round of evictions begins no other: it has a place for which other clusters wait.
pub const EVICTION_ROUND: Duration = Duration::from_secs(60);
/// Time for the list of Nodes through a kubeconfig that is verified.
pub const KUBECONFIG_VERIFICATION: Duration = Duration::from_secs(10);

/// How long each step of reading files over SSH may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From the first packet until the host key is accepted.
    pub connect: Duration,
    /// Authentication.
    pub auth: Duration,
    /// One command.
    pub command: Duration,
    /// The whole session.
    pub whole: Duration,
}

impl Deadlines {
    /// The deadlines that NICO uses.
    pub const DEFAULT: Self = Self {
        connect: Duration::from_secs(10),
        auth: Duration::from_secs(10),
        command: Duration::from_secs(10),
        whole: Duration::from_secs(60),
    };
}
