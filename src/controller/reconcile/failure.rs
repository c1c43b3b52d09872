//! What follows from a failed pass: what people are told, and when the next pass begins.

use std::sync::Arc;

use kube::runtime::controller::Action as Next;
use kube::{Api, ResourceExt as _};
use tracing::{debug, trace, warn};

use super::report::{report_unread, report_unwritable};
use crate::api::cluster::RawCluster;
use crate::controller::act::ActError;
use crate::controller::calls::{self, CallError};
use crate::controller::context::Context;
use crate::controller::schedule::{
    FAILURE_BACKOFF, FAILURES_BEFORE_REPORT, FAILURES_WHILE_ERRORS_DIFFER, LIST_CHECK_PAUSE,
    LIST_PATIENCE, PASS_TIMEOUT, STALE_PASSES_BEFORE_BACKOFF, STALE_PASSES_BEFORE_DIRECT_READ,
    STALE_PAUSE,
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
    #[error("the pass took longer than {} s", PASS_TIMEOUT.as_secs())]
    Timeout,
    /// The pass panicked: a defect of NICO's.
    #[error("the pass ended in a defect of NICO's: see its log for `panicked`, and report it")]
    Panicked,
    /// The first lists have not ended.
    #[error(
        "the first lists of Machines and NixosConfigurations: they have not ended yet: see NICO's log, and whether it may list both"
    )]
    NotListed,
}

impl PassError {
    /// Whether a pass from fresh reads is all that is needed.
    fn is_stale(&self) -> bool {
        match self {
            Self::Act(error) => error.is_stale(),
            Self::Unread(error) | Self::Status(error) => error.is_stale(),
            Self::NotListed | Self::Timeout | Self::Panicked => false,
        }
    }
}

/// Reports a failed pass where it is time to, and says when the next one begins.
pub(super) async fn failed(cluster: &Arc<RawCluster>, context: &Context, error: PassError) -> Next {
    let before = context.memory(cluster, |memory| memory.failures);
    let stale = error.is_stale();
    if stale && before >= STALE_PASSES_BEFORE_DIRECT_READ {
        read_directly(cluster, context).await;
    }
    let patience = if stale {
        STALE_PASSES_BEFORE_BACKOFF
    } else {
        FAILURES_BEFORE_REPORT
    };
    match &error {
        PassError::NotListed => {
            if context.started.elapsed() >= LIST_PATIENCE {
                report_unread(cluster, context, &error.to_string()).await;
            }
            trace!(%error, "the pass waits");
            return Next::requeue(LIST_CHECK_PAUSE);
        }
        PassError::Panicked => report_unread(cluster, context, &error.to_string()).await,
        PassError::Unread(_) | PassError::Timeout => {
            if before >= patience {
                report_unread(cluster, context, &error.to_string()).await;
            }
        }
        PassError::Status(cause) => {
            if before == 0 {
                report_unwritable(cluster, context, cause);
            }
        }
        // The status of the pass itself says so.
        PassError::Act(_) => {}
    }
    let failures = count(cluster, context, &error);
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

/// Counts one more failure; how many there were in a row.
fn count(cluster: &RawCluster, context: &Context, error: &PassError) -> u32 {
    context.memory(cluster, |memory| {
        let why = Some(error.to_string());
        let most = if memory.last_failure == why {
            u32::MAX
        } else {
            FAILURES_WHILE_ERRORS_DIFFER
        };
        memory.last_failure = why;
        memory.failures = memory.failures.saturating_add(1).min(most);
        memory.failures
    })
}

/// Reads the cluster object by name: its watch may be silent, or may have lost an event.
async fn read_directly(cluster: &RawCluster, context: &Context) {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<RawCluster> = Api::namespaced(context.client.clone(), &namespace);
    if let Ok(Some(live)) = calls::get_opt(&api, &cluster.name_any()).await
        && live.metadata.uid == cluster.metadata.uid
    {
        context.saw(live);
    }
}
