//! A stand-in for classic NIO that reads nothing, so that the API server's work is that of NICO, and makes NIO's writes: the
//! finalizer, a machine's status, a configuration's status with its proof, and kopf's annotation; and at a deletion their reverse.
//! The rig's own stand-in reads four times as much as it writes, for NICO and for the bare client alike.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use rig::crds::{configuration_resource, configurations, machines};
use rig::nio::hash::additional_files_hash;
use rig::nio::{KOPF_ANNOTATION, KOPF_FINALIZER};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const HEAD: &str = "0000000000000000000000000000000000c0ffee";

/// The running stand-in; it ends with this.
pub(crate) struct Nio(JoinHandle<()>);

impl Drop for Nio {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Nio {
    /// Starts it. To apply a configuration takes it as long as `apply`.
    pub(crate) fn start(client: Client, apply: Duration) -> Self {
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &configuration_resource());
        let done: Arc<Mutex<HashSet<String>>> = Arc::default();
        Self(tokio::spawn(async move {
            let mut events = watcher(all, watcher::Config::default())
                .default_backoff()
                .boxed();
            while let Some(event) = events.next().await {
                let Ok(Event::Apply(object) | Event::InitApply(object)) = event else {
                    continue;
                };
                let Some(work) = work(&object) else { continue };
                // One event may show a state again before the write that changes it is seen.
                let key = format!(
                    "{work:?} {} {}",
                    object.uid().unwrap_or_default(),
                    files_hash(&object)
                );
                if done
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(key)
                {
                    let client = client.clone();
                    tokio::spawn(async move {
                        if matches!(work, Work::Apply) {
                            tokio::time::sleep(apply).await;
                        }
                        carry_out(client, work, object).await;
                    });
                }
            }
        }))
    }
}

#[derive(Debug)]
enum Work {
    Hold,
    Apply,
    Release,
}

fn work(object: &DynamicObject) -> Option<Work> {
    let held = object.finalizers().iter().any(|it| it == KOPF_FINALIZER);
    if object.metadata.deletion_timestamp.is_some() {
        return held.then_some(Work::Release);
    }
    if !held {
        return Some(Work::Hold);
    }
    let applied = object.data["status"]["additionalFilesHash"].as_str();
    (applied != Some(&files_hash(object))).then_some(Work::Apply)
}

fn files_hash(object: &DynamicObject) -> String {
    additional_files_hash(object.data["spec"].get("additionalFiles"))
}

async fn carry_out(client: Client, work: Work, object: DynamicObject) {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let configurations = configurations(&client, &namespace);
    let machines = machines(&client, &namespace);
    let params = PatchParams::default();
    let patch = |body: Value| Patch::Merge(body);
    let mut finalizers = object.finalizers().to_vec();
    let now = jiff::Timestamp::now().to_string();
    let outcome = match work {
        Work::Hold => {
            finalizers.push(KOPF_FINALIZER.to_owned());
            let body = json!({"metadata": {"finalizers": finalizers}});
            configurations.patch(&name, &params, &patch(body)).await
        }
        Work::Release => {
            finalizers.retain(|it| it != KOPF_FINALIZER);
            let body = json!({"status": {"hasConfiguration": false, "appliedConfiguration": null, "appliedCommit": null}});
            let _ = machines.patch_status(&name, &params, &patch(body)).await;
            let body = json!({"metadata": {"finalizers": finalizers}});
            configurations.patch(&name, &params, &patch(body)).await
        }
        Work::Apply => {
            let body = json!({"status": {"hasConfiguration": true, "appliedConfiguration": name, "appliedCommit": HEAD,
                "lastAppliedTime": now}});
            let _ = machines.patch_status(&name, &params, &patch(body)).await;
            let body = json!({"status": {"appliedCommit": HEAD, "lastAppliedTime": now, "targetMachine": name,
                "additionalFilesHash": files_hash(&object), "conditions": [{"type": "Applied", "status": "True", "reason": "Success",
                    "message": "Configuration applied successfully", "lastTransitionTime": now}]}});
            let _ = configurations
                .patch_status(&name, &params, &patch(body))
                .await;
            let body = json!({"metadata": {"annotations": {KOPF_ANNOTATION: object.data["spec"].to_string()}}});
            configurations.patch(&name, &params, &patch(body)).await
        }
    };
    if let Err(error) = outcome {
        eprintln!("the stand-in for NIO: {namespace}/{name}: {error}");
    }
}
