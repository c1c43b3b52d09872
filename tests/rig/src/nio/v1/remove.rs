//! What v1 does when a configuration is deleted.

use std::sync::Arc;

use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::json;

use super::RETRIES;
use super::children::Kind;
use crate::crds::{configuration_resource, cron_resource, machine_resource};
use crate::nio::{Key, Shared, V1_FINALIZER};

impl Shared {
    /// Ends the recurring runs, then applies `onRemoveFlake` with a few retries, clears the Machine if it belongs to this configuration,
    /// and releases the configuration. Without a Machine or that flake, nothing is applied.
    pub(super) async fn removing(
        self: &Arc<Self>,
        key: &Key,
        configuration: &DynamicObject,
        machine: Option<DynamicObject>,
    ) -> kube::Result<()> {
        if !configuration
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == V1_FINALIZER)
        {
            return Ok(());
        }
        self.end_cron(key).await?;
        let flake = configuration.data["spec"]["onRemoveFlake"].as_str();
        let Some(machine) = machine else {
            return self.let_go(key).await;
        };
        if flake.unwrap_or_default().is_empty() {
            return self.clear(key, &machine).await;
        }
        let ended = self
            .state()
            .v1
            .once
            .get(&(key.clone(), Kind::Remove))
            .copied();
        match ended {
            None => {
                let started = self
                    .start_once(key, Kind::Remove, configuration, &machine)
                    .await?;
                if started.is_err() {
                    return self.let_go(key).await;
                }
                let status = json!({"status": {"phase": "Removing", "decommissionJobRef": Kind::Remove.child(&key.1)}});
                self.patch_status(&configuration_resource(), &key.0, &key.1, status)
                    .await?;
            }
            Some(None) => {}
            Some(Some(true)) => {
                self.drop_once(key, Kind::Remove).await?;
                self.clear(key, &machine).await?;
            }
            Some(Some(false)) => {
                let tried = configuration.data["status"]["onRemoveRetries"]
                    .as_u64()
                    .unwrap_or_default()
                    + 1;
                let status = json!({"status": {"onRemoveRetries": tried}});
                self.patch_status(&configuration_resource(), &key.0, &key.1, status)
                    .await?;
                self.drop_once(key, Kind::Remove).await?;
                if tried >= RETRIES {
                    self.clear(key, &machine).await?;
                }
            }
        }
        Ok(())
    }

    /// Ends the recurring runs. Running Jobs are deleted as well.
    async fn end_cron(&self, key: &Key) -> kube::Result<()> {
        let known = self.state().v1.crons.remove(key);
        let Some(cron) = known else {
            return Ok(());
        };
        let name = cron.template.child();
        let jobs = self.typed::<k8s_openapi::api::batch::v1::Job>(&key.0);
        let of_it = kube::api::ListParams::default()
            .labels(&format!("nio.homystack.com/workload-name={name}"));
        for job in jobs.list(&of_it).await? {
            let _ = jobs
                .delete(&job.name_any(), &DeleteParams::background())
                .await;
        }
        let _ = self
            .api(&cron_resource(), &key.0)
            .delete(&name, &DeleteParams::background())
            .await;
        Ok(())
    }

    async fn clear(&self, key: &Key, machine: &DynamicObject) -> kube::Result<()> {
        if machine.data["status"]["appliedConfiguration"] == json!(key.1) {
            let nothing = json!({"status": {"hasConfiguration": null, "appliedConfiguration": null, "appliedCommit": null,
                "lastAppliedTime": null}});
            self.patch_status(&machine_resource(), &key.0, &machine.name_any(), nothing)
                .await?;
        }
        self.let_go(key).await
    }

    async fn let_go(&self, key: &Key) -> kube::Result<()> {
        // The time is noted first, so that it is not later than anyone can see the removal.
        let now = self.started.elapsed();
        self.state().let_go.push((now, key.1.clone()));
        self.change_finalizers(key, |finalizers| {
            finalizers.retain(|finalizer| finalizer != V1_FINALIZER);
        })
        .await;
        self.forget(key);
        Ok(())
    }
}
