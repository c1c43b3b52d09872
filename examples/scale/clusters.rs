//! What a watch of the driver's own has seen of the clusters: how many have a status, are Ready, or exist.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use rig::crds::cluster_resource;
use rig::world::condition;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Failure;

/// How many clusters there are, and how far they are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// They exist.
    pub(crate) alive: usize,
    /// Their status was written.
    pub(crate) looked_at: usize,
    /// They are Ready for their generation, and nothing of them is in flight.
    pub(crate) ready: usize,
    /// When the last of them got its first status.
    pub(crate) last_look: Option<Instant>,
}

/// The running watch; it ends with this.
pub(crate) struct Clusters {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Clusters {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Clusters {
    /// Begins to watch.
    pub(crate) fn watch(client: &Client) -> Self {
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &cluster_resource());
        let (sender, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(async move {
            let mut known: HashMap<String, (bool, bool)> = HashMap::new();
            let mut events = watcher(all, watcher::Config::default())
                .default_backoff()
                .boxed();
            while let Some(event) = events.next().await {
                let key = |object: &DynamicObject| {
                    format!(
                        "{}/{}",
                        object.namespace().unwrap_or_default(),
                        object.name_any()
                    )
                };
                let looks = known.values().filter(|it| it.0).count();
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => {
                        known.insert(key(&object), state(&object));
                    }
                    Ok(Event::Delete(object)) => drop(known.remove(&key(&object))),
                    _ => continue,
                }
                sender.send_modify(|seen| {
                    seen.alive = known.len();
                    seen.looked_at = known.values().filter(|it| it.0).count();
                    seen.ready = known.values().filter(|it| it.1).count();
                    if seen.looked_at > looks {
                        seen.last_look = Some(Instant::now());
                    }
                });
            }
        });
        Self { seen, task }
    }

    /// How far they are now.
    pub(crate) fn now(&self) -> Seen {
        *self.seen.borrow()
    }

    /// Waits until they are as wanted; fails with how far they were.
    pub(crate) async fn wait(
        &self,
        what: &str,
        deadline: Duration,
        wanted: impl FnMut(&Seen) -> bool,
    ) -> Result<Seen, Failure> {
        let mut seen = self.seen.clone();
        let reached = tokio::time::timeout(deadline, seen.wait_for(wanted)).await;
        let reached = reached.map_err(|_| {
            format!(
                "{what}: not within {} s: {:?}",
                deadline.as_secs(),
                self.now()
            )
        })?;
        Ok(*reached?)
    }
}

/// Whether a cluster has a status, and is Ready.
fn state(object: &DynamicObject) -> (bool, bool) {
    let status = &object.data["status"];
    let ready = condition(status, "Ready");
    let calm = status["rollout"]["inFlight"]
        .as_array()
        .is_none_or(Vec::is_empty);
    let newest = status["observedGeneration"].as_i64() == object.metadata.generation;
    (
        ready.is_object(),
        calm && newest && ready["status"] == "True",
    )
}
