//! What the flags of `nico run` say to the controller (SPEC 7).

use std::time::Duration;

use super::schedule::{PASS_TIMEOUT_IN_REQUESTS, SHORTEST_PASS_TIMEOUT};
use crate::api::nio::Generation;

/// Settings of one run of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSettings {
    /// The one namespace to work in; absent: all.
    pub watch_namespace: Option<String>,
    /// `gitRepo` of clusters that name none.
    pub default_git_repo: Option<String>,
    /// Which NIO is installed; absent: the one that the API server's schema of `Machine` tells of.
    pub nio: Option<Generation>,
    /// How often every cluster is looked at without an event, and Secrets are read anew.
    pub resync: Duration,
    /// Bounds every call to the API server.
    pub request_timeout: Duration,
    /// Port of the machines' SSH servers.
    pub ssh_port: u16,
}

impl OperatorSettings {
    /// How long one pass may take.
    #[must_use]
    pub fn pass_timeout(&self) -> Duration {
        let of_requests = self
            .request_timeout
            .saturating_mul(PASS_TIMEOUT_IN_REQUESTS);
        of_requests.max(SHORTEST_PASS_TIMEOUT)
    }
}
