//! When and why a stored kubeconfig is read again.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::Cause;
use crate::plan::known::Known;
use crate::plan::observed::{Stored, elapsed};
use crate::plan::output::Output;
use crate::plan::patience::{
    KUBECONFIG_FAILURES_BEFORE_FETCH, KUBECONFIG_FETCHED_AGAIN_AFTER, KUBECONFIG_RENEWED_AFTER,
    KUBECONFIG_SHORTEST_LIFE, KUBECONFIG_TRIED_AGAIN_AFTER,
};
use crate::plan::writes::Wanted;

/// Why a stored kubeconfig is read again.
pub(super) enum Renewal {
    /// It was edited and can no longer be tried.
    Edited,
    /// The endpoint in the spec has changed.
    Moved,
    /// It does not work.
    Broken,
    /// Half of the remaining lifetime of its client certificate has passed: the lifetime, and when it expires.
    Old(Duration, Timestamp),
}

impl Renewal {
    /// Why the stored one is read again now. If it is not, plans again when it is due.
    pub(super) fn due(known: &Known<'_>, stored: &Stored) -> (Option<Self>, Output) {
        let mut output = Output::default();
        let endpoint = known.observed.spec.as_ref().map(|spec| {
            let endpoint = spec.endpoint.as_ref().map(ToString::to_string);
            endpoint.unwrap_or_default()
        });
        let why = if stored.host.is_none() {
            Some(Self::Edited)
        } else if known.observed.kubeconfig.failures >= KUBECONFIG_FAILURES_BEFORE_FETCH {
            Some(Self::Broken)
        } else if endpoint.is_ok_and(|it| it != stored.endpoint) {
            Some(Self::Moved)
        } else if let Some((from, to)) = stored.client_certificate
            && let Ok(life) = Duration::try_from(to.duration_since(from))
            && life >= KUBECONFIG_SHORTEST_LIFE
        {
            // The lifetime that remained when it was stored: kubeadm dates certificates back to the creation of their authority.
            let since = stored.stored.map_or(from, |stored| stored.max(from));
            let remained = Duration::try_from(to.duration_since(since)).unwrap_or_default();
            let rest = (remained / 2).saturating_sub(elapsed(since, known.now));
            if !rest.is_zero() {
                output.look_again_in(rest.max(Duration::from_secs(1)));
            }
            rest.is_zero().then_some(Self::Old(life, to))
        } else {
            None
        };
        (why, output)
    }

    /// The time between two attempts.
    pub(super) fn pause(&self) -> Duration {
        match self {
            Self::Edited => KUBECONFIG_TRIED_AGAIN_AFTER,
            Self::Moved | Self::Broken => KUBECONFIG_FETCHED_AGAIN_AFTER,
            // Daily, or more often if a day would be too late.
            Self::Old(life, _) => {
                (*life / 10).clamp(KUBECONFIG_SHORTEST_LIFE / 2, KUBECONFIG_RENEWED_AFTER)
            }
        }
    }

    /// The message if it cannot be read again.
    pub(super) fn failed(&self, Cause { reason, message }: Cause) -> Cause {
        let message = match self {
            Self::Edited | Self::Broken => {
                format!("the kubeconfig cannot be read again: {message}")
            }
            Self::Moved => format!("it is not made for spec.controlPlaneEndpoint yet: {message}"),
            Self::Old(_, ends) => format!(
                "its client certificate ends at {ends}, and it cannot be read again: {message}"
            ),
        };
        Cause::new(reason, message)
    }

    pub(super) fn wanted(&self) -> Wanted {
        match self {
            Self::Edited => Wanted::Any,
            Self::Moved | Self::Broken => Wanted::Working,
            Self::Old(_, ends) => Wanted::Later(*ends),
        }
    }
}
