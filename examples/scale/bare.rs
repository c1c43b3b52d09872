//! The bare client: it makes the writes that NICO made for one cluster, in their order, for many clusters side by side. It decides
//! nothing and reads nothing; before it notes that a machine is confirmed it waits for NIO's proof, which it sees in a watch.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use nico::api::names::CONFIRMED_ANNOTATION;
use rig::crds::{cluster_resource, clusters, configuration_resource};
use rig::proxy::{Call, Effect, Fault, Moment, Proxy};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::Failure;
use crate::parts::{five, three_and_two};
use crate::site::{Scene, Site};

/// Names of the recorded cluster and its namespace, which occur in no other word.
const CLUSTER: &str = "qxcluster";
const NAMESPACE: &str = "qxnamespace";
/// How long the recorded bring-up may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// Requests at the same time: as many as NICO has passes.
const SIDE_BY_SIDE: usize = 32;

/// The writes of NICO for one cluster.
pub(crate) struct Recording {
    writes: Vec<Call>,
    uid: String,
}

impl Recording {
    /// Has NICO bring up one cluster of 3+2, and records what it writes.
    pub(crate) async fn make(scene: &Scene) -> Result<Self, Failure> {
        let site = Site::start(scene).await?;
        let proxy = Proxy::start(&site.config()).await;
        let events: Arc<Mutex<Vec<Call>>> = Arc::default();
        let kept = Arc::clone(&events);
        let keep = move |call: &Call| {
            if call.resource == "events"
                && let Ok(mut kept) = kept.lock()
            {
                kept.push(call.clone());
            }
            false
        };
        proxy.fault(Fault::on(keep, Moment::After, Effect::Reset));
        let _nico = site.nico(Some(proxy.url()), &[]).await?;
        site.namespace(NAMESPACE).await?;
        site.machines(five(NAMESPACE, CLUSTER)).await?;
        site.apply(vec![(
            NAMESPACE.to_owned(),
            CLUSTER.to_owned(),
            three_and_two(CLUSTER),
        )])
        .await?;
        site.clusters
            .wait("the recorded cluster is Ready", DEADLINE, |seen| {
                seen.ready == 1
            })
            .await?;
        // What is gathered for seconds, and the last events.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let mut writes = proxy.writes();
        writes.retain(|call| call.code.is_some_and(|code| code < 300));
        writes.extend(events.lock().map(|it| it.clone()).unwrap_or_default());
        writes.sort_by_key(|call| call.at);
        let cluster = clusters(&site.client, NAMESPACE).get(CLUSTER).await?;
        Ok(Self {
            writes,
            uid: cluster.uid().unwrap_or_default(),
        })
    }

    /// How many writes there are for a cluster.
    pub(crate) fn len(&self) -> usize {
        self.writes.len()
    }
}

/// The running client; it ends with this.
pub(crate) struct Bare(Vec<JoinHandle<()>>);

impl Drop for Bare {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Machines with a proof, by namespace and name.
type Proofs = Arc<Mutex<HashMap<String, watch::Sender<BTreeSet<String>>>>>;

impl Bare {
    /// Starts it: it treats each cluster that it sees.
    pub(crate) fn start(client: &Client, recording: Arc<Recording>) -> Self {
        let proofs: Proofs = Arc::default();
        let places = Arc::new(Semaphore::new(SIDE_BY_SIDE));
        let configurations = Api::all_with(client.clone(), &configuration_resource());
        let seen = Arc::clone(&proofs);
        let proving = tokio::spawn(each(configurations, move |object| {
            if object.data["status"]["additionalFilesHash"].is_string() {
                let sender = proofs_of(&seen, &object.namespace().unwrap_or_default());
                sender.send_if_modified(|proven| proven.insert(object.name_any()));
            }
        }));
        let (client, mut known) = (client.clone(), BTreeSet::new());
        let treating = tokio::spawn(each(
            Api::all_with(client.clone(), &cluster_resource()),
            move |cluster| {
                let key = (cluster.namespace().unwrap_or_default(), cluster.name_any());
                if known.insert(key.clone()) {
                    let proofs = proofs_of(&proofs, &key.0).subscribe();
                    let replay = Replay {
                        client: client.clone(),
                        recording: Arc::clone(&recording),
                        places: Arc::clone(&places),
                    };
                    tokio::spawn(async move {
                        if let Err(error) = replay.run(&cluster, proofs).await {
                            eprintln!("the bare client: {}/{}: {error}", key.0, key.1);
                        }
                    });
                }
            },
        ));
        Self(vec![proving, treating])
    }
}

fn proofs_of(proofs: &Proofs, namespace: &str) -> watch::Sender<BTreeSet<String>> {
    let mut proofs = proofs
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    proofs.entry(namespace.to_owned()).or_default().clone()
}

async fn each(api: Api<DynamicObject>, mut take: impl FnMut(DynamicObject)) {
    let mut events = watcher(api, watcher::Config::default())
        .default_backoff()
        .boxed();
    while let Some(event) = events.next().await {
        if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
            take(object);
        }
    }
}

/// The writes for one cluster.
struct Replay {
    client: Client,
    recording: Arc<Recording>,
    places: Arc<Semaphore>,
}

impl Replay {
    async fn run(
        &self,
        cluster: &DynamicObject,
        mut proofs: watch::Receiver<BTreeSet<String>>,
    ) -> Result<(), Failure> {
        let (namespace, name, uid) = (
            cluster.namespace().unwrap_or_default(),
            cluster.name_any(),
            cluster.uid().unwrap_or_default(),
        );
        let named = |text: &str| {
            let text = text.replace(CLUSTER, &name).replace(NAMESPACE, &namespace);
            text.replace(&self.recording.uid, &uid)
        };
        for write in &self.recording.writes {
            let mut body = write.body.clone().unwrap_or_default();
            if body["metadata"]["annotations"][CONFIRMED_ANNOTATION].is_string() {
                let machine = named(&write.name);
                proofs.wait_for(|proven| proven.contains(&machine)).await?;
            }
            without_precondition(&mut body, write.method == "PATCH");
            let kind = if write.method == "PATCH" {
                "application/merge-patch+json"
            } else {
                "application/json"
            };
            let request = hyper::Request::builder()
                .method(write.method.as_str())
                .uri(named(&format!("{}?{}", write.path, write.query)))
                .header("content-type", kind)
                .body(named(&body.to_string()).into_bytes())?;
            let _place = self.places.acquire().await?;
            self.client.request_text(request).await?;
        }
        Ok(())
    }
}

/// Takes out what holds for the recorded objects alone.
fn without_precondition(body: &mut Value, patch: bool) {
    if let Some(metadata) = body["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        if patch {
            metadata.remove("uid");
        }
    }
}
