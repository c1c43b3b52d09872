//! What is asked of a cluster's own API in the background: the health of its members, and the eviction of pods.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::time::timeout;

use super::Background;
use super::task::Task;
use crate::controller::calls::CallError;
use crate::controller::schedule::{ASK_PATIENCE, PROBE_AGE};
use crate::plan::observed::{ClusterView, WorkloadHealth};
use crate::remote::gate::{Class, Turn};
use crate::remote::offload::of_namespace;

impl Background {
    /// The result of the last probe of a cluster, and whether to probe it again.
    #[must_use]
    pub fn probed(&self, uid: &str) -> (WorkloadHealth, bool) {
        self.with(uid, |work| match &work.probed {
            None => (WorkloadHealth::NotProbed, true),
            Some((at, probe)) => (probe.clone(), at.elapsed() >= PROBE_AGE),
        })
    }

    /// Probes a cluster now, and notes the result. It waits for other probes only for a limited time, since a pass waits for it.
    pub async fn ask(
        &self,
        cluster: &ClusterView,
        ask: impl Future<Output = Result<WorkloadHealth, CallError>>,
    ) -> Result<WorkloadHealth, CallError> {
        let turn = self.turn_to_ask(cluster, self.class(cluster));
        let turn = timeout(ASK_PATIENCE, turn).await;
        let _turn = turn.map_err(|_| CallError::Unanswered {
            what: format!("the API of cluster {}", cluster.name),
            why: "too many clusters that do not answer are asked at the same time; it is asked again",
        })?;
        let health = ask.await?;
        self.with(&cluster.uid, |work| {
            work.probed = Some((Instant::now(), health.clone()));
        });
        Ok(health)
    }

    /// A cluster waits for others if not all of its members answered the last time: its probe may take until the deadline.
    pub(super) fn class(&self, cluster: &ClusterView) -> Class {
        let (health, _) = self.probed(&cluster.uid);
        if health.is_slow() {
            Class::Other
        } else {
            Class::First
        }
    }

    /// Waits for the turn of a cluster for a request.
    pub(super) fn turn_to_ask(
        &self,
        cluster: &ClusterView,
        class: Class,
    ) -> impl Future<Output = Option<Turn>> + Send + use<> {
        let asking = Arc::clone(&self.asking);
        let (namespace, name) = (cluster.namespace.clone(), cluster.name.clone());
        async move { asking.enter(&namespace, &name, class).await }
    }

    /// Starts to probe a cluster, unless that is in progress. The cluster is reconciled if the result has changed.
    pub fn start_probe(
        &self,
        cluster: &ClusterView,
        probe: impl Future<Output = Option<WorkloadHealth>> + Send + 'static,
    ) {
        let notes = self.notes(cluster);
        let turn = self.turn_to_ask(cluster, self.class(cluster));
        let probe = async move {
            let _turn = turn.await;
            let began = Instant::now();
            let Some(probe) = probe.await else { return };
            notes.note(|work| {
                let before = work.probed.as_ref();
                // A later probe may have finished first.
                if before.is_some_and(|(at, _)| *at >= began) {
                    return false;
                }
                let news = before.is_none_or(|(_, old)| *old != probe);
                work.probed = Some((Instant::now(), probe));
                news
            });
        };
        let probe = of_namespace(&cluster.namespace, probe);
        self.with(&cluster.uid, |work| work.probing.start(probe));
    }

    /// Whether pods of a Node are being evicted.
    #[must_use]
    pub fn evicts(&self, uid: &str, node: &str) -> bool {
        self.with(uid, |work| {
            work.evicting.get(node).is_some_and(Task::is_running)
        })
    }

    /// Starts to evict the pods of a Node, unless that is in progress. Each round waits for its turn in the class of slow work.
    pub fn start_evict(
        &self,
        cluster: &ClusterView,
        node: &str,
        evict: impl Future<Output = ()> + Send + 'static,
    ) {
        let turn = self.turn_to_ask(cluster, Class::Other);
        let evict = async move {
            let _turn = turn.await;
            evict.await;
        };
        let evict = of_namespace(&cluster.namespace, evict);
        self.with(&cluster.uid, |work| {
            work.evicting
                .entry(node.to_owned())
                .or_default()
                .start(evict)
        });
    }

    /// Stops evictions from Nodes other than these.
    pub fn evict_only(&self, uid: &str, nodes: &BTreeSet<&str>) {
        self.with(uid, |work| {
            work.evicting
                .retain(|node, _| nodes.contains(node.as_str()));
        });
    }
}
