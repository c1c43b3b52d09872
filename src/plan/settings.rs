//! The operator's settings that the planner uses.

use std::time::Duration;

use super::patience::LATE_REQUEST_TIMEOUTS;

/// The operator's settings that the planner uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `gitRepo` of clusters that do not set it.
    pub default_git_repo: Option<String>,
    /// Timeout of every call to the API server.
    pub request_timeout: Duration,
}

impl Settings {
    /// How long a request that was sent may still take effect.
    #[must_use]
    pub fn late_requests(&self) -> Duration {
        self.request_timeout.saturating_mul(LATE_REQUEST_TIMEOUTS)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_git_repo: None,
            request_timeout: Duration::from_secs(30),
        }
    }
}
