//! What classic NIO does when a configuration is deleted.

use std::sync::Arc;

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::apply::condition;
use super::classic::has_finalizer;
use super::{Attempt, KOPF_FINALIZER, Key, Nio, Outcome, Shared, machine_of};
use crate::crds::{configuration_resource, machine_resource};

impl Nio {
    /// Handles a deletion that the watch has shown, whatever has the configuration's name by now.
    pub async fn handle_late_deletion(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.shared.remove(&key).await;
    }
}

impl Shared {
    /// Runs `onRemoveFlake`, clears the Machine whatever configuration it belongs to, and releases the configuration. A missing Machine
    /// blocks this. An unreachable one stays unchanged, and still reports that it is configured.
    pub(super) async fn remove(&self, key: &Key) {
        let busy = Arc::clone(self.state().busy.entry(key.clone()).or_default());
        let _alone = busy.write().await;
        let configurations = self.api(&configuration_resource(), &key.0);
        let Ok(Some(configuration)) = configurations.get_opt(&key.1).await else {
            return;
        };
        // A late watch still shows the deleted one where the next cluster's has its name by now.
        if configuration.metadata.deletion_timestamp.is_none() || !has_finalizer(&configuration) {
            return;
        }
        let spec = &configuration.data["spec"];
        let machine = machine_of(&configuration);
        let knobs = self.knobs(machine);
        if knobs.never_reacts || *self.stopped.borrow() {
            return;
        }
        if !matches!(
            self.api(&machine_resource(), &key.0).get_opt(machine).await,
            Ok(Some(_))
        ) {
            return;
        }
        if !knobs.unreachable {
            if let Some(flake) = spec["onRemoveFlake"].as_str() {
                let began = self.started.elapsed();
                let Ok(applied) = self.collect(key, spec, Some(flake), true).await else {
                    return;
                };
                self.work(&knobs).await;
                let outcome = if knobs.fails {
                    Outcome::Failure
                } else {
                    Outcome::Success
                };
                if outcome == Outcome::Success {
                    // NIO ignores the effect of a removal on the machine.
                    (self.hook)(applied.clone()).await;
                }
                self.state().history.push(Attempt {
                    began,
                    ended: self.started.elapsed(),
                    applied,
                    outcome,
                });
            }
            let patch = json!({"status": {"conditions": [condition("True", "Removed", "Configuration removed")]}});
            let _ = self
                .patch_status(&configuration_resource(), &key.0, &key.1, patch)
                .await;
            let patch = json!({"status": {"hasConfiguration": false, "appliedConfiguration": null, "appliedCommit": null}});
            let _ = self
                .patch_status(&machine_resource(), &key.0, machine, patch)
                .await;
        }
        // The time is noted first, so that it is not later than anyone can see the removal.
        let now = self.started.elapsed();
        self.state().let_go.push((now, key.1.clone()));
        self.change_finalizers(key, |finalizers| {
            finalizers.retain(|finalizer| finalizer != KOPF_FINALIZER);
        })
        .await;
    }

    /// Changes the list of finalizers with the resourceVersion of the read as precondition, and retries on conflicts.
    pub(super) async fn change_finalizers(&self, key: &Key, change: impl Fn(&mut Vec<String>)) {
        let api = self.api(&configuration_resource(), &key.0);
        while let Ok(Some(object)) = api.get_opt(&key.1).await {
            let mut finalizers = object.finalizers().to_vec();
            change(&mut finalizers);
            let version = object.resource_version();
            let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
            match api
                .patch(&key.1, &PatchParams::default(), &Patch::Merge(patch))
                .await
            {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                _ => return,
            }
        }
    }
}
