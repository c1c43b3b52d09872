//! Work that a pass must not wait for: reading the kubeconfig over SSH, and trying it. One broken machine holds up nothing else.

mod round;
mod trial;
mod word;

pub use round::{Order, Read, Source};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use crate::api::cluster::RawCluster;
use crate::api::conditions::{Cause, Reason};
use crate::controller::clock::now;
use crate::plan::observed::{AtHand, Fetch, Word};
use crate::plan::writes::Wanted;
use round::{Outcome, try_all};
use trial::Tried;

/// How long one task keeps trying before the planner names the machines anew.
const ROUND: Duration = Duration::from_secs(30);
/// Pause between two tries, in the first two minutes and after.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
const EAGER: Duration = Duration::from_secs(120);

#[derive(Default)]
struct Job {
    fetching: Option<JoinHandle<()>>,
    since: Option<Instant>,
    failure: Option<Cause>,
    read: Option<Read>,
    /// Line to be pinned, where a host was unknown.
    host_key_line: Option<String>,
    /// When the fetch was last started.
    began: Option<Timestamp>,
    verifying: Option<JoinHandle<()>>,
    tried: Option<Tried>,
    /// Under what it was read: founding, spec and machines.
    circumstances: String,
    asking: Option<JoinHandle<()>>,
    /// By Node: one that is held back does not hold up another.
    evicting: BTreeMap<String, JoinHandle<()>>,
    /// What the cluster said of itself, and when.
    heard: Option<(Instant, Word)>,
}

impl Job {
    fn state(&self) -> Fetch {
        Fetch {
            running: self
                .fetching
                .as_ref()
                .is_some_and(|task| !task.is_finished()),
            began: self.began,
            failure: self.failure.clone(),
            at_hand: self.read.as_ref().map(|read| AtHand {
                verified: read.verified.clone(),
                ends: read.ends,
            }),
            new_host_key: self.host_key_line.is_some(),
        }
    }

    fn stop(&mut self) {
        stop(&mut self.fetching);
        stop(&mut self.verifying);
        stop(&mut self.asking);
        for (_, task) in std::mem::take(&mut self.evicting) {
            task.abort();
        }
    }

    fn drop_read(&mut self) {
        self.read = None;
        self.host_key_line = None;
        stop(&mut self.fetching);
    }
}

/// All background work, by cluster uid.
pub struct Background {
    client: kube::Client,
    resync: Duration,
    jobs: Arc<Mutex<HashMap<String, Job>>>,
    wake: UnboundedSender<ObjectRef<RawCluster>>,
}

impl Background {
    /// No work yet; `wake` is told which cluster has news.
    #[must_use]
    pub fn new(
        client: kube::Client,
        resync: Duration,
        wake: UnboundedSender<ObjectRef<RawCluster>>,
    ) -> Self {
        Self {
            client,
            resync,
            jobs: Arc::default(),
            wake,
        }
    }

    /// How the fetch for a cluster stands. What was read under other circumstances is of another founding or another spec: it
    /// is dropped.
    #[must_use]
    pub fn fetch(&self, uid: &str, circumstances: &str) -> Fetch {
        self.with(uid, |job| {
            if job.circumstances != circumstances {
                job.drop_read();
                job.failure = None;
                job.began = None;
                circumstances.clone_into(&mut job.circumstances);
            }
            job.state()
        })
    }

    /// What was read for a cluster.
    #[must_use]
    pub fn read(&self, uid: &str) -> Option<Read> {
        self.with(uid, |job| job.read.clone())
    }

    /// The line to be pinned for a cluster.
    #[must_use]
    pub fn host_key_line(&self, uid: &str) -> Option<String> {
        self.with(uid, |job| job.host_key_line.clone())
    }

    /// Notes that the host key is pinned. The fetch starts anew, under the new pins: under the old ones it would trust any key.
    pub fn pinned(&self, uid: &str) {
        self.with(uid, |job| {
            job.host_key_line = None;
            job.began = None;
            stop(&mut job.fetching);
        });
    }

    /// Forgets what was read: what it was read under has changed.
    pub fn discard(&self, uid: &str) {
        self.with(uid, |job| {
            job.drop_read();
            job.failure = None;
        });
    }

    /// Ends all work for a cluster that is gone.
    pub fn forget(&self, uid: &str) {
        if let Some(mut job) = lock(&self.jobs).remove(uid) {
            job.stop();
        }
    }

    /// Ends all work but that of these clusters.
    pub fn retain(&self, uids: &BTreeSet<String>) {
        lock(&self.jobs).retain(|uid, job| {
            let kept = uids.contains(uid);
            if !kept {
                job.stop();
            }
            kept
        });
    }

    /// Starts a fetch, unless one runs.
    pub fn start_fetch(&self, order: Order) {
        let (jobs, wake, client) = (
            Arc::clone(&self.jobs),
            self.wake.clone(),
            self.client.clone(),
        );
        self.with(&order.uid.clone(), |job| {
            if job
                .fetching
                .as_ref()
                .is_some_and(|task| !task.is_finished())
            {
                return;
            }
            let since = *job.since.get_or_insert_with(Instant::now);
            job.began = Some(now());
            job.fetching = Some(tokio::spawn(async move {
                let until = Instant::now() + ROUND;
                loop {
                    let outcome = try_all(&client, &order).await;
                    let works = |read: &Read| read.verified.is_ok();
                    let done = matches!(&outcome.0, Ok(Some(read)) if works(read));
                    let news = note(&jobs, &order.uid, outcome);
                    if news || done {
                        let _ = wake.send(order.cluster.clone());
                    }
                    if done {
                        return;
                    }
                    if order.wanted != Wanted::First {
                        break;
                    }
                    let pause = if since.elapsed() < EAGER {
                        PAUSES.0
                    } else {
                        PAUSES.1
                    };
                    tokio::time::sleep(pause).await;
                    if Instant::now() >= until {
                        break;
                    }
                }
                // The task must have ended when the planner looks, or it starts no other.
                tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    let _ = wake.send(order.cluster);
                });
            }));
        });
    }

    fn with<T>(&self, uid: &str, f: impl FnOnce(&mut Job) -> T) -> T {
        f(lock(&self.jobs).entry(uid.to_owned()).or_default())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        for job in lock(&self.jobs).values_mut() {
            job.stop();
        }
    }
}

fn stop(task: &mut Option<JoinHandle<()>>) {
    if let Some(task) = task.take() {
        task.abort();
    }
}

/// Notes an outcome; whether it is another than before.
fn note(jobs: &Mutex<HashMap<String, Job>>, uid: &str, (outcome, line): Outcome) -> bool {
    let mut jobs = lock(jobs);
    let Some(job) = jobs.get_mut(uid) else {
        return false;
    };
    let new_key = line.is_some() && job.host_key_line != line;
    if new_key {
        job.host_key_line = line;
    }
    new_key
        | match outcome {
            Ok(None) => job.failure.take().is_some(),
            Ok(Some(read)) => {
                let news = job
                    .read
                    .as_ref()
                    .is_none_or(|old| old.verified != read.verified);
                job.failure = None;
                job.read = Some(read);
                news
            }
            Err(failure) => {
                // What was read from a host that is not who it was is not used.
                if failure.reason == Reason::HostKeyChanged {
                    job.read = None;
                }
                let failure = Some(failure);
                let news = job.failure != failure;
                job.failure = failure;
                news
            }
        }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
