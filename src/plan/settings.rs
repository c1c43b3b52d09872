//! What the planner has to know of the operator's own settings.

use std::time::Duration;

use super::patience::LATE_REQUEST_TIMEOUTS;

/// What the operator was told at its start and the planner needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `gitRepo` of clusters that name none.
    pub default_git_repo: Option<String>,
    /// Bounds every call to the API server.
    pub request_timeout: Duration,
}

impl Settings {
    /// How long a request of one's own may still land.
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
