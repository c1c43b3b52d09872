//! One pass for one cluster: its object and its memory.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};
use tokio::time::Instant;

use super::context::Context;
use super::memory::Memory;
use crate::api::cluster::RawCluster;
use crate::remote::gate::{Class, Turn};
use crate::remote::lock::lock;

impl Class {
    /// The class of a pass for this cluster. A cluster whose spec has a new generation goes first, so that its status soon reports the new
    /// generation.
    #[must_use]
    pub fn of_pass(cluster: &RawCluster) -> Self {
        let status = cluster.status.as_ref();
        let observed = status.and_then(|status| status.observed_generation);
        if observed == cluster.metadata.generation {
            Self::Other
        } else {
            Self::First
        }
    }
}

/// One pass.
pub struct Pass<'a> {
    /// What all passes share.
    pub context: &'a Context,
    cluster: Arc<RawCluster>,
    memory: Arc<Mutex<Memory>>,
    /// Its turn at the gate, and when that began.
    turn: Mutex<Option<(Turn, Instant)>>,
}

impl<'a> Pass<'a> {
    /// A pass for this cluster, before it has a turn.
    #[must_use]
    pub fn new(context: &'a Context, cluster: Arc<RawCluster>) -> Self {
        Self {
            memory: context.memories.for_cluster(&cluster),
            context,
            cluster,
            turn: Mutex::default(),
        }
    }

    /// Waits for its turn. Returns `false` if NICO is stopping: then the pass must not begin.
    pub async fn begin(&mut self) -> bool {
        let class = Class::of_pass(&self.cluster());
        self.enter(class).await;
        self.refresh();
        lock(&self.turn).is_some()
    }

    /// Waits for a machine or for the cluster's own API. The turn is given to others meanwhile, so that a cluster that does not answer
    /// delays no others.
    pub async fn wait_for<T>(&self, answer: impl Future<Output = T>) -> T {
        self.end_turn();
        let answer = answer.await;
        // A pass that has begun goes before new ones. If NICO is stopping, it finishes without a turn.
        self.enter(Class::First).await;
        answer
    }

    /// Ends the turn. The pass itself may continue.
    pub fn end_turn(&self) {
        *lock(&self.turn) = None;
    }

    /// Ends each turn that takes longer, including turns that begin after a wait.
    pub async fn end_turns(&self, longest: Duration) -> Infallible {
        let began = || lock(&self.turn).as_ref().map(|(_, began)| *began);
        loop {
            let turn = began();
            let end = turn.unwrap_or_else(Instant::now) + longest;
            tokio::time::sleep_until(end).await;
            if turn.is_some() && began() == turn {
                self.end_turn();
            }
        }
    }

    async fn enter(&self, class: Class) {
        let (namespace, name) = (self.namespace(), self.name());
        let turn = self.context.gate.enter(&namespace, &name, class).await;
        *lock(&self.turn) = turn.map(|turn| (turn, Instant::now()));
    }

    /// Updates to what the watch has shown since the pass was scheduled.
    fn refresh(&mut self) {
        let shown = self.context.cluster(&self.namespace(), &self.name());
        if let Some(shown) = shown.filter(|shown| shown.metadata.uid == self.cluster.metadata.uid) {
            self.cluster = shown;
        }
    }

    /// `metadata.namespace`.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.cluster.namespace().unwrap_or_default()
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> String {
        self.cluster.name_any()
    }

    /// `metadata.uid`.
    #[must_use]
    pub fn uid(&self) -> String {
        self.cluster.uid().unwrap_or_default()
    }

    /// The cluster object: the newer one of the watch's copy and what one of NICO's writes returned.
    #[must_use]
    pub fn cluster(&self) -> Arc<RawCluster> {
        self.memory().newest(&self.cluster)
    }

    /// The memory of the cluster. Do not hold it across an `await`.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    /// Objects of a kind in the cluster's namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.context.client.clone(), &self.namespace())
    }

    /// Triggers another pass for the cluster.
    pub fn wake(&self) {
        self.context.wake(ObjectRef::from_obj(&*self.cluster));
    }

    /// Notes whether the cluster wants more of the Machines that its selectors match.
    pub fn note_interest(&self, wants_more: bool) {
        self.context.interests.note(&self.cluster, wants_more);
    }

    /// Forgets the cluster, which is gone.
    pub fn forget(&self) {
        let uid = self.uid();
        self.context.background.forget(&uid);
        self.context.memories.forget(&uid);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt as _;
    use kube::client::Body;
    use kube::runtime::reflector;
    use serde_json::json;
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::controller::metrics::Metrics;
    use crate::controller::readiness::Readiness;
    use crate::controller::settings::OperatorSettings;
    use crate::controller::writes::Writes;

    fn context() -> Context {
        let service = tower::service_fn(|_: hyper::Request<Body>| async {
            Ok::<_, Infallible>(hyper::Response::new(Body::empty()))
        });
        let settings = OperatorSettings::of_a_test(Duration::from_secs(300));
        let (clusters, _) = reflector::store();
        let (wake, _) = mpsc::unbounded_channel();
        let client = kube::Client::new(service, "default");
        Context::new(
            client,
            settings,
            Arc::new(Readiness::default()),
            Metrics::new(None),
            Writes::default(),
            clusters,
            wake,
        )
    }

    fn cluster(name: &str) -> Arc<RawCluster> {
        let cluster = json!({
            "apiVersion": "nico.homystack.com/v1alpha1",
            "kind": "KubernetesCluster",
            "metadata": {"name": name, "namespace": "shared", "uid": name},
            "spec": {},
            "status": {"observedGeneration": -1},
        });
        Arc::new(serde_json::from_value(cluster).unwrap())
    }

    #[tokio::test]
    async fn each_turn_of_a_pass_ends_in_time() {
        let context = context();
        let mut pass = Pass::new(&context, cluster("slow"));
        assert!(pass.begin().await);
        let work = async {
            for _ in 0..3 {
                while lock(&pass.turn).is_some() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                pass.wait_for(tokio::task::yield_now()).await;
            }
        };
        let ends = pass.end_turns(Duration::from_millis(20));
        let ended = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::select! {
                () = work => {}
                never = ends => match never {},
            }
        });
        assert!(ended.await.is_ok(), "a turn after a wait goes on for ever");
    }

    #[tokio::test]
    async fn a_turn_after_a_wait_has_all_its_time() {
        let context = context();
        let mut pass = Pass::new(&context, cluster("slow"));
        assert!(pass.begin().await);
        let longest = Duration::from_millis(200);
        let began = || lock(&pass.turn).as_ref().map(|(_, began)| *began);
        let first = began().unwrap();
        let work = async {
            tokio::time::sleep_until(first + longest / 2).await;
            pass.wait_for(tokio::task::yield_now()).await;
            let second = began().unwrap();
            while began().is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            second.elapsed()
        };
        let lasted = tokio::select! {
            lasted = work => lasted,
            never = pass.end_turns(longest) => match never {},
        };
        assert!(lasted >= longest, "it ended after {lasted:?}");
    }

    #[tokio::test]
    async fn a_pass_that_waits_for_a_machine_leaves_its_turn_to_others() {
        let context = context();
        let mut passes: Vec<Pass<'_>> = Vec::new();
        loop {
            let mut pass = Pass::new(&context, cluster(&passes.len().to_string()));
            if pass.begin().now_or_never().is_none() {
                break;
            }
            passes.push(pass);
        }
        let mut next = Pass::new(&context, cluster("next"));
        assert!(next.begin().now_or_never().is_none(), "all turns are taken");
        let (answer, answered) = oneshot::channel();
        let waits = passes.pop().unwrap();
        let mut waiting = Box::pin(waits.wait_for(answered));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(next.begin().now_or_never(), Some(true));
        answer.send(()).unwrap();
        assert!(
            waiting.as_mut().now_or_never().is_none(),
            "it waits for a turn"
        );
        drop(passes);
        assert_eq!(waiting.await, Ok(()));
        context.gate.close();
        let late = waits.wait_for(std::future::ready("answer")).await;
        assert_eq!(late, "answer", "what has begun is finished");
        assert!(!Pass::new(&context, cluster("late")).begin().await);
    }
}
