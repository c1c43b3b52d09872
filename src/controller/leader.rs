//! Leader election: of several NICOs, only the one that holds the Lease writes.
//!
//! The Lease is taken and renewed by compare-and-swap. Clocks of different machines are never compared: a follower waits until it has
//! seen the Lease unchanged for the Lease's own duration, and a leader counts from the moment at which it sent its last renewal. It
//! stops writing [`LEASE_RENEW_DEADLINE`](super::schedule::LEASE_RENEW_DEADLINE) later, before any follower can take over.
//!
//! This keeps two NICOs from working against each other. It does not fence: a request may land late. The ledger does that.

mod rules;
pub mod term;

use std::fs;
use std::pin::{Pin, pin};
use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::calls::{self, CallError};
use super::clock::TakenUp;
use super::readiness::{Readiness, mark};
use super::schedule::{LEASE_RELEASE_TIMEOUT, LEASE_RENEW_PAUSE, LEASE_RETRY_PAUSE};
use crate::api::text::shown;
use crate::plan::writes::Precondition;
use rules::{LEASE, Seen, Step, claim, holder, new_lease, step};
use term::Term;

/// Why a leader does not lead any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another one took over, or a person wrote another holder into the Lease.
    #[error("the Lease {0} is held by {1} now; this process ends, and starts again as a follower")]
    Taken(String, String),
    /// It could not be renewed in time.
    #[error(
        "the Lease {0} could not be renewed in time; this process ends, and starts again as a follower"
    )]
    Expired(String),
}

/// A name for this process that no other has, not even the next one in the same pod.
fn identity() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "nico",
        host => host,
    };
    format!("{}_{:08x}", shown(host), rand::random::<u32>())
}

/// Where an attempt left this process.
enum Standing {
    /// It holds the Lease.
    Leads,
    /// Another one does.
    Follows(String),
}

/// One process that wants to lead.
pub struct Elector {
    api: Api<Lease>,
    place: String,
    me: String,
    term: Term,
    seen: Seen,
    /// The Lease as this process left it; absent where it has to be read.
    held: Option<Lease>,
}

impl Elector {
    /// For the Lease in a namespace. `client` is for its calls alone, which other work must not hold up; `term` is what the writes of
    /// that work ask.
    #[must_use]
    pub fn new(client: Client, namespace: &str, term: Term) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            place: format!("{namespace}/{LEASE}"),
            me: identity(),
            term,
            seen: Seen::default(),
            held: None,
        }
    }

    /// Follows until it can lead, then works until the work ends or the Lease is lost. Work that is `stopped` ends by itself. The
    /// Lease is given up only after that.
    pub async fn lead<E: From<Lost>>(
        mut self,
        health: &Readiness,
        stopped: impl Future<Output = ()>,
        work: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        health.set(mark::LEASE, false);
        health.stand_by(true);
        if !self.wins(health, pin!(stopped)).await {
            return Ok(());
        }
        health.stand_by(false);
        let (finish, finished) = oneshot::channel();
        // A task of its own: a long computation of the work's must not hold up renewals.
        let mut holding = tokio::spawn(self.hold(finished));
        tokio::select! {
            ended = work => {
                drop(finish);
                // Where it was lost just now, nothing is left to give up.
                let _ = holding.await;
                ended
            }
            lost = &mut holding => match lost {
                Ok(Err(lost)) => Err(lost.into()),
                // It ends well only after `finish`, and does not panic.
                Ok(Ok(())) | Err(_) => Ok(()),
            }
        }
    }

    /// Looks until it holds the Lease; false where it was stopped before.
    async fn wins(
        &mut self,
        health: &Readiness,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> bool {
        let mut told = String::new();
        loop {
            let found = match self.attempt().await {
                Ok(Standing::Leads) => {
                    health.set(mark::LEASE, true);
                    info!(lease = self.place, identity = self.me, "leading");
                    return true;
                }
                Ok(Standing::Follows(holder)) => {
                    health.set(mark::LEASE, true);
                    format!("following {holder}")
                }
                Err(error) => error.to_string(),
            };
            if found != told {
                info!(lease = self.place, identity = self.me, "{found}");
                told = found;
            }
            tokio::select! {
                () = sleep(LEASE_RETRY_PAUSE) => {}
                () = &mut stopped => return false,
            }
        }
    }

    /// Renews the Lease until it is lost, or the work is finished: then it is given up.
    async fn hold(mut self, finished: oneshot::Receiver<()>) -> Result<(), Lost> {
        tokio::select! {
            lost = self.renews() => {
                self.term.end();
                Err(lost)
            }
            _ = finished => {
                self.release().await;
                Ok(())
            }
        }
    }

    /// Renews the Lease until it is lost.
    async fn renews(&mut self) -> Lost {
        let mut pause = LEASE_RENEW_PAUSE;
        loop {
            sleep(pause.min(self.term.left())).await;
            match timeout(self.term.left(), self.attempt()).await {
                Ok(Ok(Standing::Leads)) => pause = LEASE_RENEW_PAUSE,
                Ok(Ok(Standing::Follows(holder))) => {
                    return Lost::Taken(self.place.clone(), holder);
                }
                Ok(Err(error)) => {
                    warn!(lease = self.place, %error, "the Lease was not renewed; it is tried again");
                    pause = LEASE_RETRY_PAUSE;
                }
                Err(_) => {}
            }
            if !self.term.may_write() {
                return Lost::Expired(self.place.clone());
            }
        }
    }

    /// Takes or renews the Lease, if it may be.
    async fn attempt(&mut self) -> Result<Standing, CallError> {
        let lease = match self.held.take() {
            Some(held) => Some(held),
            None => calls::get_opt(&self.api, LEASE).await?,
        };
        let unchanged = self.seen.unchanged(lease.as_ref(), Instant::now());
        if step(lease.as_ref(), &self.me, unchanged) == Step::Follow {
            let holder = lease.as_ref().and_then(holder).unwrap_or_default();
            return Ok(Standing::Follows(shown(holder)));
        }
        let body = claim(lease.as_ref(), &self.me, Timestamp::now());
        let sent = TakenUp::now();
        let written = match lease {
            None => calls::create(&self.api, &new_lease(&body)).await?,
            Some(lease) => {
                let version = Precondition::of(&lease.metadata);
                calls::patch(&self.api, LEASE, &version, body).await?
            }
        };
        self.term.renew(sent);
        self.held = Some(written);
        Ok(Standing::Leads)
    }

    /// Gives the Lease up, so that a follower need not wait until it expires. From here on this process writes nothing.
    async fn release(&mut self) {
        self.term.end();
        match timeout(LEASE_RELEASE_TIMEOUT, self.try_release()).await {
            Ok(Ok(())) => info!(lease = self.place, "the Lease is given up"),
            Ok(Err(error)) => warn!(lease = self.place, %error, "the Lease is left to expire"),
            Err(_) => warn!(lease = self.place, "the Lease is left to expire: no answer"),
        }
    }

    async fn try_release(&mut self) -> Result<(), CallError> {
        loop {
            let lease = match self.held.take() {
                Some(held) => Some(held),
                None => calls::get_opt(&self.api, LEASE).await?,
            };
            let Some(lease) = lease.filter(|lease| holder(lease) == Some(&self.me)) else {
                return Ok(());
            };
            let version = Precondition::of(&lease.metadata);
            let nobody = json!({"spec": {"holderIdentity": null}});
            match calls::patch(&self.api, LEASE, &version, nobody).await {
                // A renewal that was broken off has landed meanwhile.
                Err(error) if error.is_stale() => {}
                answer => return answer.map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_of_one_pod_are_told_apart() {
        assert_ne!(identity(), identity());
    }
}
