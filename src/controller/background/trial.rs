//! Whether the stored kubeconfig works.

use std::sync::Arc;
use std::time::Instant;

use kube::runtime::reflector::ObjectRef;
use tokio::task::JoinHandle;

use super::round::{VERIFY, not_working};
use super::{Background, Job, lock, stop};
use crate::api::cluster::RawCluster;
use crate::api::digest::sha256;
use crate::controller::named;
use crate::plan::kubeconfig::TRY_AGAIN;
use crate::plan::observed::{NotWorking, Works};
use crate::remote::kubeconfig::facts::VALUE_KEY;
use crate::remote::kubeconfig::verify::verify;

/// How the last try of a kubeconfig went.
pub(super) struct Tried {
    /// Of which kubeconfig.
    digest: String,
    at: Instant,
    outcome: Result<(), NotWorking>,
    /// Failures in a row, this one included.
    failures: u32,
}

impl Job {
    /// Notes how a try went.
    fn note_try(&mut self, digest: String, outcome: Result<(), NotWorking>) {
        let before = self.tried.as_ref().filter(|tried| tried.digest == digest);
        let failures = before.map_or(0, |tried| tried.failures);
        self.tried = Some(Tried {
            failures: if outcome.is_ok() {
                0
            } else {
                failures.saturating_add(1)
            },
            at: Instant::now(),
            digest,
            outcome,
        });
    }
}

impl Background {
    /// Whether the stored kubeconfig of that digest works, how often in a row it did not, and whether to try it again.
    #[must_use]
    pub fn works(&self, uid: &str, digest: &str) -> (Works, u32, bool) {
        self.with(uid, |job| {
            let idle = job.verifying.as_ref().is_none_or(JoinHandle::is_finished);
            let Some(tried) = job.tried.as_ref().filter(|tried| tried.digest == digest) else {
                return (Works::Unknown, 0, idle);
            };
            let (works, pause) = match &tried.outcome {
                Ok(()) => (Works::Yes, self.resync),
                Err(why) => (Works::No(why.clone()), TRY_AGAIN),
            };
            let due = idle && tried.at.elapsed() >= pause;
            (works, tried.failures, due)
        })
    }

    /// Whether it was another kubeconfig that was tried last.
    #[must_use]
    pub fn tried_another(&self, uid: &str, digest: &str) -> bool {
        self.with(uid, |job| {
            let tried = job.tried.as_ref();
            tried.is_some_and(|tried| tried.digest != digest)
        })
    }

    /// What was read is what is stored: its bytes go, and where it works, that is known now.
    pub fn settle(&self, uid: &str, digest: &str) {
        self.with(uid, |job| {
            if let Some(read) = job.read.take_if(|read| read.digest() == digest)
                && read.verified.is_ok()
            {
                job.note_try(digest.to_owned(), read.verified);
            }
        });
    }

    /// Notes that what was read is stored: it need not be tried again, and the secret bytes go.
    pub fn stored(&self, uid: &str, digest: String) {
        self.with(uid, |job| {
            if let Some(read) = job.read.take() {
                job.note_try(digest, read.verified);
            }
            job.failure = None;
            job.since = None;
            stop(&mut job.fetching);
        });
    }

    /// Tries a stored kubeconfig, unless that is being done.
    pub fn start_verify(
        &self,
        cluster: ObjectRef<RawCluster>,
        uid: &str,
        namespace: String,
        secret: String,
    ) {
        let (jobs, wake, client) = (
            Arc::clone(&self.jobs),
            self.wake.clone(),
            self.client.clone(),
        );
        let uid_of_job = uid.to_owned();
        self.with(uid, |job| {
            if job
                .verifying
                .as_ref()
                .is_some_and(|task| !task.is_finished())
            {
                return;
            }
            job.verifying = Some(tokio::spawn(async move {
                let Ok(Some(kubeconfig)) =
                    named::secret_value(&client, &namespace, &secret, VALUE_KEY).await
                else {
                    return;
                };
                let digest = sha256(kubeconfig.expose().as_bytes());
                let outcome = verify(&kubeconfig, VERIFY)
                    .await
                    .map_err(|error| not_working(&error));
                if let Some(job) = lock(&jobs).get_mut(&uid_of_job) {
                    job.note_try(digest, outcome);
                }
                let _ = wake.send(cluster);
            }));
        });
    }
}
