//! What a cluster says of itself, and evictions from its Nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::reflector::ObjectRef;

use super::{Background, lock};
use crate::api::cluster::RawCluster;
use crate::plan::observed::Word;

/// How old what a cluster said of itself may be while a change rests on it.
const ASK_AGAIN: Duration = Duration::from_secs(2);

impl Background {
    /// What a cluster last said of itself, and whether it is time to ask again.
    #[must_use]
    pub fn word(&self, uid: &str) -> (Word, bool) {
        self.with(uid, |job| match &job.heard {
            None => (Word::NotAsked, true),
            Some((at, word)) => (word.clone(), at.elapsed() >= ASK_AGAIN),
        })
    }

    /// Notes what a cluster said just now.
    pub fn heard(&self, uid: &str, word: Word) {
        self.with(uid, |job| job.heard = Some((Instant::now(), word)));
    }

    /// Asks a cluster how its machines are, unless that is being done; it is looked at again if the answer is another one.
    pub fn start_ask(
        &self,
        cluster: ObjectRef<RawCluster>,
        uid: &str,
        ask: impl Future<Output = Option<Word>> + Send + 'static,
    ) {
        let (jobs, wake) = (Arc::clone(&self.jobs), self.wake.clone());
        let uid_of_job = uid.to_owned();
        self.with(uid, |job| {
            if job.asking.as_ref().is_some_and(|task| !task.is_finished()) {
                return;
            }
            job.asking = Some(tokio::spawn(async move {
                let asked = Instant::now();
                let Some(word) = ask.await else { return };
                let mut news = false;
                if let Some(job) = lock(&jobs).get_mut(&uid_of_job)
                    // What was asked later may have been heard sooner.
                    && job.heard.as_ref().is_none_or(|(at, _)| *at < asked)
                {
                    news = job.heard.as_ref().is_none_or(|(_, old)| *old != word);
                    job.heard = Some((Instant::now(), word));
                }
                if news {
                    let _ = wake.send(cluster);
                }
            }));
        });
    }

    /// Evicts the pods of a Node, unless that is being done.
    pub fn start_evict(
        &self,
        uid: &str,
        node: String,
        evict: impl Future<Output = ()> + Send + 'static,
    ) {
        self.with(uid, |job| {
            job.evicting.retain(|_, task| !task.is_finished());
            job.evicting
                .entry(node)
                .or_insert_with(|| tokio::spawn(evict));
        });
    }

    /// Ends what is being evicted from other Nodes than these.
    pub fn evict_only(&self, uid: &str, nodes: &BTreeSet<&str>) {
        self.with(uid, |job| {
            job.evicting.retain(|node, task| {
                let wanted = nodes.contains(node.as_str());
                if !wanted {
                    task.abort();
                }
                wanted
            });
        });
    }
}
