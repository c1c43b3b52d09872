//! v1's objects in the API server: creates, updates and deletes them.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::Cron;
use super::children::{Kind, NIO, Template, owner};
use crate::crds::{cron_resource, job_resource};
use crate::nio::{Key, Shared};

impl Shared {
    /// Creates or updates the `NixCronJob` and its `CronJob`. The `ConfigMap` is overwritten in between.
    pub(super) async fn put_cron(
        &self,
        key: &Key,
        configuration: &DynamicObject,
        template: &Template,
        schedule: &str,
        asked: Value,
    ) -> kube::Result<()> {
        let name = template.child();
        let uid = configuration.uid().unwrap_or_default();
        let labels = json!({"nio.homystack.com/config": key.1, "nio.homystack.com/machine": template.machine});
        let nix = json!({"apiVersion": NIO, "kind": "NixCronJob", "spec": asked, "metadata": {"name": name, "labels": labels,
            "ownerReferences": owner(NIO, "NixosConfiguration", &key.1, &uid)}});
        let nix_uid = self.put(&cron_resource(), key, nix).await?;
        let owned = owner(NIO, "NixCronJob", &name, &nix_uid);
        self.put_files(key, template, &owned).await?;
        let cron_job = json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": template.cron_job_spec(schedule),
            "metadata": {"name": name, "labels": template.labels(), "ownerReferences": owned}});
        let uid = self
            .put(&ApiResource::erase::<CronJob>(&()), key, cron_job)
            .await?;
        let mut state = self.state();
        let cron = state.v1.crons.entry(key.clone()).or_insert_with(|| Cron {
            asked: Value::Null,
            template: template.clone(),
            schedule: String::new(),
            nix_uid: String::new(),
            uid: String::new(),
            suspended: false,
            rolled_out: None,
            active: None,
            last_success: None,
            failed: false,
            ended: BTreeMap::new(),
        });
        cron.asked = asked;
        cron.template = template.clone();
        schedule.clone_into(&mut cron.schedule);
        (cron.nix_uid, cron.uid, cron.suspended) = (nix_uid, uid, false);
        Ok(())
    }

    pub(super) async fn put_files(
        &self,
        key: &Key,
        template: &Template,
        owned: &Value,
    ) -> kube::Result<()> {
        let files = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": template.inline,
            "metadata": {"name": template.config_map(), "ownerReferences": owned}});
        self.put(&ApiResource::erase::<ConfigMap>(&()), key, files)
            .await?;
        Ok(())
    }

    /// Applies an object by server-side apply; returns its uid.
    pub(super) async fn put(
        &self,
        resource: &ApiResource,
        key: &Key,
        object: Value,
    ) -> kube::Result<String> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let api = self.api(resource, &key.0);
        let stored = api
            .patch(
                name,
                &PatchParams::apply("nio").force(),
                &Patch::Apply(&object),
            )
            .await?;
        Ok(stored.uid().unwrap_or_default())
    }

    /// Deletes a finished install or removal with its Job, since the next one has the same name.
    pub(super) async fn drop_once(&self, key: &Key, kind: Kind) -> kube::Result<()> {
        let name = kind.child(&key.1);
        let jobs = self.typed::<Job>(&key.0);
        let of_it =
            ListParams::default().labels(&format!("nio.homystack.com/workload-name={name}"));
        for job in jobs.list(&of_it).await? {
            gone(
                jobs.delete(&job.name_any(), &DeleteParams::background())
                    .await,
            )?;
        }
        let nix = self.api(&job_resource(), &key.0);
        gone(nix.delete(&name, &DeleteParams::background()).await)?;
        self.state().v1.once.remove(&(key.clone(), kind));
        Ok(())
    }

    /// Deletes every finished Job of the namespace, as Kubernetes does after some time.
    pub(in crate::nio) async fn prune(&self, namespace: &str) -> kube::Result<()> {
        let jobs = self.typed::<Job>(namespace);
        for job in jobs.list(&ListParams::default()).await? {
            let conditions = job
                .status
                .as_ref()
                .and_then(|status| status.conditions.as_ref());
            let ended = conditions.into_iter().flatten().any(|condition| {
                condition.status == "True"
                    && (condition.type_ == "Complete" || condition.type_ == "Failed")
            });
            if ended {
                gone(
                    jobs.delete(&job.name_any(), &DeleteParams::background())
                        .await,
                )?;
            }
        }
        Ok(())
    }
}

fn gone<T>(deleted: kube::Result<T>) -> kube::Result<()> {
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}
