//! Handling of a failed pass: how it is reported, and when the next pass begins.

use std::time::Duration;

use kube::runtime::controller::Action as Next;
use tracing::{debug, trace, warn};

use super::report::{report_unread, report_unwritable};
use crate::controller::act::ActError;
use crate::controller::calls::CallError;
use crate::controller::observe::read_cluster;
use crate::controller::pass::Pass;
use crate::controller::schedule::{
    FAILURE_BACKOFF, FAILURES_BEFORE_REPORT, LIST_CHECK_PAUSE, LIST_PATIENCE,
    STALE_PASSES_BEFORE_BACKOFF, STALE_PASSES_BEFORE_DIRECT_READ, STALE_PAUSE,
};

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
    /// What the pass needs could not be read.
    #[error(transparent)]
    Unread(CallError),
    /// The status could not be written.
    #[error(transparent)]
    Status(#[from] CallError),
    /// An action failed.
    #[error(transparent)]
    Act(#[from] ActError),
    /// The pass took too long.
    #[error("the pass took longer than {} s", .0.as_secs())]
    Timeout(Duration),
    /// The pass panicked: a bug in NICO.
    #[error("the pass ended in a defect of NICO's: see its log for `panicked`, and report it")]
    Panicked,
    /// The first lists of these resources are not complete.
    #[error(
        "the first lists have not ended yet of {}: see NICO's log, and whether it may list and watch them", .0.join(", ")
    )]
    NotListed(Vec<String>),
}

impl PassError {
    /// The label value for the metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            error if error.is_stale() => "stale",
            Self::Unread(_) => "unread",
            Self::Status(_) => "status",
            Self::Act(_) => "write",
            Self::Timeout(_) => "timeout",
            Self::Panicked => "panic",
            Self::NotListed(_) => "not-listed",
        }
    }

    /// Whether another pass from fresh reads is enough to recover.
    fn is_stale(&self) -> bool {
        match self {
            Self::Act(error) => error.is_stale(),
            Self::Unread(error) | Self::Status(error) => error.is_stale(),
            Self::NotListed(_) | Self::Timeout(_) | Self::Panicked => false,
        }
    }
}

/// Reports a failed pass if it is time, and returns when the next one begins.
pub(super) async fn failed(pass: &Pass<'_>, error: PassError) -> Next {
    let before = pass.memory().failures();
    let stale = error.is_stale();
    if stale && before >= STALE_PASSES_BEFORE_DIRECT_READ {
        // The watch of clusters may have stalled, or lost an event.
        if let Ok(Some(live)) = read_cluster(pass).await {
            pass.memory().saw(live);
        }
    }
    let patience = if stale {
        STALE_PASSES_BEFORE_BACKOFF
    } else {
        FAILURES_BEFORE_REPORT
    };
    match &error {
        PassError::NotListed(_) => {
            if pass.context.started.elapsed() >= LIST_PATIENCE {
                report_unread(pass, &error.to_string()).await;
            }
            trace!(%error, "the pass waits");
            return Next::requeue(LIST_CHECK_PAUSE);
        }
        PassError::Panicked => report_unread(pass, &error.to_string()).await,
        PassError::Unread(_) | PassError::Timeout(_) => {
            if before >= patience {
                report_unread(pass, &error.to_string()).await;
            }
        }
        PassError::Status(cause) => {
            if before == 0 {
                report_unwritable(pass, cause);
            }
        }
        // The pass itself has reported this in its status.
        PassError::Act(_) => {}
    }
    let failures = pass.memory().failed(error.to_string());
    let pause = if stale && failures < STALE_PASSES_BEFORE_BACKOFF {
        STALE_PAUSE
    } else {
        let doubled = 1 << failures.saturating_sub(1).min(10);
        FAILURE_BACKOFF
            .start()
            .saturating_mul(doubled)
            .min(*FAILURE_BACKOFF.end())
    };
    if stale {
        debug!(%error, "the pass ends early");
    } else {
        let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        warn!(%error, retry_ms, "the pass failed");
    }
    Next::requeue(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::stores::Stores;

    #[test]
    fn the_lists_that_are_missing_are_named() {
        let stores = Stores::default();
        stores
            .machines
            .apply(kube::runtime::watcher::Event::InitDone);
        let message = |by_jobs| PassError::NotListed(stores.not_listed(by_jobs)).to_string();
        assert!(message(false).contains("ended yet of nixosconfigurations:"));
        let kinds = "of nixosconfigurations, jobs, cronjobs, nixcronjobs, nixjobs:";
        assert!(message(true).contains(kinds));
    }
}
