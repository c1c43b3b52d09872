//! Leader election: of several processes, only the one that holds the Lease writes.
//!
//! The Lease is acquired and renewed by compare-and-swap. Clocks of different machines are never compared: a follower waits until it has
//! seen the Lease unchanged, or missing, for the Lease's own duration. A leader counts from the time at which it sent its last renewal, and stops
//! writing [`LEASE_RENEW_DEADLINE`](super::schedule::LEASE_RENEW_DEADLINE) later, before any follower can take over.
//!
//! This keeps two processes from working against each other. It does not fence: a request may land late. The ledger takes care of that.

mod rules;
pub mod term;

use std::fs;
use std::pin::{Pin, pin};
use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::calls::{self, CallError};
use super::clock::TakenUp;
use super::readiness::{Readiness, mark};
use super::schedule::{LEASE_RELEASE_TIMEOUT, LEASE_RENEW_PAUSE, LEASE_RETRY_PAUSE};
use crate::api::text::shown;
use crate::plan::writes::Precondition;
use rules::{LEASE, Seen, claim, holder, may_claim, new_lease, release};
use term::Term;

/// Why a leader lost the Lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another process took over, or a user wrote another holder into the Lease.
    #[error("the Lease {0} is held by {1} now; this process ends, and starts again as a follower")]
    Taken(String, String),
    /// It could not be renewed in time.
    #[error(
        "the Lease {0} could not be renewed in time; this process ends, and starts again as a follower"
    )]
    Expired(String),
}

/// A name that is unique to this process. The next process in the same pod gets another one.
fn identity() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "nico",
        host => host,
    };
    format!("{}_{:08x}", shown(host), rand::random::<u32>())
}

/// Outcome of an attempt to acquire or renew the Lease.
enum Standing {
    /// This process holds the Lease.
    Leads,
    /// Another process holds it, or may still believe that it does: then there is no holder.
    Follows(Option<String>),
}

/// A candidate in the election.
pub struct Elector {
    api: Api<Lease>,
    place: String,
    me: String,
    term: Term,
    seen: Seen,
    /// The Lease as this process last wrote it; `None` if it has to be read.
    held: Option<Lease>,
}

impl Elector {
    /// For the Lease in a namespace. `client` is used only for the Lease, so that other work cannot delay these calls. `term` tells that
    /// work whether it may write.
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

    /// Follows until it can lead, then runs the work until that ends or the Lease is lost. Work ends by itself once `stopped` is set. Only
    /// then the Lease is released, and not where this future is dropped. Fails with [`Lost`], or with what the work fails with.
    pub async fn lead<E: From<Lost>>(
        mut self,
        health: &Readiness,
        stopped: impl Future<Output = ()>,
        work: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        health.set(mark::LEASE, false);
        health.stand_by(true);
        if !self.acquires(health, pin!(stopped)).await {
            return Ok(());
        }
        health.stand_by(false);
        let (finish, finished) = oneshot::channel();
        // A separate task: a long computation of the work must not delay renewals.
        let mut keeping = tokio::spawn(self.keep_lease(finished));
        tokio::select! {
            ended = work => {
                // If the Lease was lost just now, nobody receives this, and there is nothing to release.
                let _ = finish.send(());
                let _ = keeping.await;
                ended
            }
            lost = &mut keeping => match lost {
                Ok(Err(lost)) => Err(lost.into()),
                // It returns `Ok` only after `finish`, and does not panic.
                Ok(Ok(())) | Err(_) => Ok(()),
            }
        }
    }

    /// Tries until it holds the Lease; `false` if it was stopped before.
    async fn acquires(
        &mut self,
        health: &Readiness,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> bool {
        let mut logged = String::new();
        loop {
            let found = match self.attempt().await {
                Ok(Standing::Leads) => {
                    health.set(mark::LEASE, true);
                    info!(lease = self.place, identity = self.me, "leading");
                    return true;
                }
                Ok(Standing::Follows(holder)) => {
                    health.set(mark::LEASE, true);
                    holder.map_or_else(
                        || "the Lease has no holder; waiting as long as an earlier one may still write".to_owned(),
                        |holder| format!("following {holder}"),
                    )
                }
                Err(error) => error.to_string(),
            };
            if found != logged {
                info!(lease = self.place, identity = self.me, "{found}");
                logged = found;
            }
            tokio::select! {
                () = sleep(LEASE_RETRY_PAUSE) => {}
                () = &mut stopped => return false,
            }
        }
    }

    /// Renews the Lease until it is lost, or until the work is finished. Then it is released. If the work is cut off, a write may still be on
    /// its way: the Lease is left to expire.
    async fn keep_lease(mut self, finished: oneshot::Receiver<()>) -> Result<(), Lost> {
        tokio::select! {
            lost = self.renews() => {
                self.term.end();
                Err(lost)
            }
            finished = finished => {
                if finished.is_ok() {
                    self.release().await;
                }
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
                    return Lost::Taken(self.place.clone(), holder.unwrap_or_default());
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

    /// Acquires or renews the Lease, if that is allowed.
    async fn attempt(&mut self) -> Result<Standing, CallError> {
        let lease = match self.held.take() {
            Some(held) => Some(held),
            None => calls::get_opt(&self.api, LEASE).await?,
        };
        let unchanged = self.seen.unchanged(lease.as_ref(), Instant::now());
        let leads = self.term.may_write();
        if !may_claim(lease.as_ref(), &self.me, leads, unchanged) {
            return Ok(Standing::Follows(
                lease.as_ref().and_then(holder).map(shown),
            ));
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

    /// Releases the Lease, so that a follower need not wait until it expires. From here on this process writes nothing.
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
            match calls::patch(&self.api, LEASE, &version, release()).await {
                // A renewal that was cancelled has landed meanwhile.
                Err(error) if error.is_stale() => {}
                answer => return answer.map(drop),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;
    use std::future::{pending, ready};

    use hyper::{Method, Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::controller::schedule::LEASE_RENEW_DEADLINE;
    use crate::controller::writes::Writes;

    /// An elector whose Lease expired long ago, and what it writes. That ends with the elector.
    fn elector() -> (Elector, UnboundedReceiver<Value>) {
        let (write, written) = unbounded_channel();
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE, "resourceVersion": "1"},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 1}});
        let answers = tower::service_fn(move |request: Request<Body>| {
            let (write, mut lease) = (write.clone(), lease.clone());
            async move {
                let (head, body) = request.into_parts();
                if head.method == Method::PATCH {
                    let body = body.collect_bytes().await.unwrap();
                    let patch: Value = serde_json::from_slice(&body).unwrap();
                    lease["spec"] = patch["spec"].clone();
                    write.send(lease["spec"]["holderIdentity"].clone()).unwrap();
                }
                let mut response = Response::new(Body::from(lease.to_string().into_bytes()));
                *response.status_mut() = StatusCode::OK;
                Ok::<_, Infallible>(response)
            }
        });
        let client = Client::new(answers, "nico-system");
        (
            Elector::new(client, "nico-system", Term::default()),
            written,
        )
    }

    /// What was cut off may still have a write on its way.
    #[tokio::test]
    async fn the_lease_is_released_after_work_that_ended_and_not_after_work_that_was_cut_off() {
        let (elector, mut written) = elector();
        let me = json!(elector.me);
        let health = Readiness::default();
        let ended = elector
            .lead(&health, pending(), ready(Ok::<_, Lost>(())))
            .await;
        assert_eq!(ended, Ok(()));
        assert_eq!(written.recv().await, Some(me));
        assert_eq!(written.recv().await, Some(Value::Null));
        assert_eq!(written.recv().await, None);

        let (elector, mut written) = self::elector();
        let me = json!(elector.me);
        let (begin, begun) = oneshot::channel();
        let work = async {
            begin.send(()).unwrap();
            pending::<Result<(), Lost>>().await
        };
        tokio::select! {
            _ = elector.lead(&health, pending(), work) => unreachable!(),
            begun = begun => begun.unwrap(),
        }
        assert_eq!(written.recv().await, Some(me));
        assert_eq!(written.recv().await, None);
    }

    #[test]
    fn outside_of_the_term_no_write_begins() {
        let term = Term::default();
        let writes = Writes::within(Some(term.clone()));
        assert!(writes.begin().is_none(), "it does not lead yet");
        term.renew(TakenUp::now());
        assert!(writes.begin().is_some());
        // The process was suspended.
        term.renew(TakenUp::long_ago(LEASE_RENEW_DEADLINE));
        assert!(writes.begin().is_none());
    }

    #[test]
    fn two_processes_of_one_pod_are_told_apart() {
        assert_ne!(identity(), identity());
    }
}
