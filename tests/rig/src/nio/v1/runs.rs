//! Jobs: when they are created, and what they do. A run uses the paths of the files in its Job's template, and their content at the time
//! when the run begins.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Cron;
use super::children::{Kind, NIO, Source, Template, owner};
use super::report::now;
use crate::crds::job_resource;
use crate::nio::{Applied, Attempt, Key, Outcome, Shared, State};

/// How often a pod that cannot start, or hangs, is checked.
const POLL: Duration = Duration::from_millis(50);

/// The owner of a Job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The `CronJob`.
    Schedule,
    /// The `NixCronJob`.
    Commit,
    /// A `NixJob`.
    Once,
}

impl Shared {
    /// Acts as Kubernetes' cron controller when this schedule is due. A `CronJob` whose last Job is running is skipped.
    pub(in crate::nio) fn start_due(self: &Arc<Self>, schedule: &str) {
        let due: Vec<(Key, String, Template)> = {
            let mut state = self.state();
            let State { v1, knobs, .. } = &mut *state;
            let (memory, mut due) = (v1, vec![]);
            for (key, cron) in &mut memory.crons {
                let knobs = knobs.get(&cron.template.machine);
                let none = cron.suspended || knobs.is_some_and(|knobs| knobs.no_runs);
                if cron.schedule == schedule && !none && cron.active.is_none() {
                    memory.number += 1;
                    let name = format!("{}-{}", cron.template.child(), 29_000_000 + memory.number);
                    cron.active = Some(name.clone());
                    due.push((key.clone(), name, cron.template.clone()));
                }
            }
            due
        };
        for (key, name, template) in due {
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                if shared
                    .start(&key, By::Schedule, &name, template)
                    .await
                    .is_err()
                {
                    shared.cron(&key, |cron| cron.active = None);
                }
            });
        }
    }

    /// Creates the Job for a new commit. An existing one with its name is kept.
    pub(super) async fn start_at_once(self: &Arc<Self>, key: &Key) -> kube::Result<()> {
        let Some(template) = self.cron(key, |cron| cron.template.clone()) else {
            return Ok(());
        };
        let name = format!(
            "{}-{}-manual",
            template.child(),
            template.composite_revision()
        );
        match self.start(key, By::Commit, &name, template).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            started => started,
        }
    }

    /// Starts an install or a removal; an error message if no child can be created.
    pub(super) async fn start_once(
        self: &Arc<Self>,
        key: &Key,
        kind: Kind,
        configuration: &DynamicObject,
        machine: &DynamicObject,
    ) -> kube::Result<Result<(), String>> {
        let revision = self.revision(configuration);
        let template = match Template::new(kind, configuration, machine, &revision) {
            Ok(template) => template,
            Err(why) => return Ok(Err(why)),
        };
        let name = template.child();
        let mut nix = json!({"apiVersion": NIO, "kind": "NixJob", "spec": template.nix_job_spec(), "metadata": {"name": name,
            "labels": {"nio.homystack.com/config": key.1, "nio.homystack.com/machine": template.machine}}});
        if kind == Kind::Install {
            let uid = configuration.uid().unwrap_or_default();
            nix["metadata"]["ownerReferences"] = owner(NIO, "NixosConfiguration", &key.1, &uid);
        } else {
            // The removal must outlive the configuration.
            nix["metadata"]["labels"]["nio.homystack.com/operation"] = json!("decommission");
        }
        let uid = self.put(&job_resource(), key, nix).await?;
        let owned = owner(NIO, "NixJob", &name, &uid);
        self.put_files(key, &template, &owned).await?;
        let job = format!("{name}-{}", template.composite_revision());
        self.make(key, By::Once, &job, template, &owned).await?;
        self.state().v1.once.insert((key.clone(), kind), None);
        Ok(Ok(()))
    }

    async fn start(
        self: &Arc<Self>,
        key: &Key,
        by: By,
        name: &str,
        template: Template,
    ) -> kube::Result<()> {
        let Some((nix_uid, uid)) = self.cron(key, |cron| (cron.nix_uid.clone(), cron.uid.clone()))
        else {
            return Ok(());
        };
        let child = template.child();
        let owned = if by == By::Schedule {
            owner("batch/v1", "CronJob", &child, &uid)
        } else {
            owner(NIO, "NixCronJob", &child, &nix_uid)
        };
        self.make(key, by, name, template, &owned).await
    }

    async fn make(
        self: &Arc<Self>,
        key: &Key,
        by: By,
        name: &str,
        template: Template,
        owned: &Value,
    ) -> kube::Result<()> {
        let job: Job = serde_json::from_value(
            json!({"metadata": {"name": name, "labels": template.labels(),
            "ownerReferences": owned}, "spec": template.job_spec()}),
        )
        .map_err(kube::Error::SerdeError)?;
        let made = self
            .typed::<Job>(&key.0)
            .create(&PostParams::default(), &job)
            .await?;
        let (shared, key, name) = (Arc::clone(self), key.clone(), name.to_owned());
        let uid = made.uid().unwrap_or_default();
        tokio::spawn(async move { shared.run(key, by, name, uid, template).await });
        Ok(())
    }

    /// Simulates a Job's pod, from its start to its end.
    async fn run(self: Arc<Self>, key: Key, by: By, name: String, uid: String, template: Template) {
        let started = json!({"status": {"startTime": now(), "active": 1}});
        self.job_status(&key, &name, started).await;
        if by == By::Schedule {
            let active = json!([{"apiVersion": "batch/v1", "kind": "Job", "namespace": key.0, "name": name, "uid": uid}]);
            let status = json!({"status": {"active": active, "lastScheduleTime": now()}});
            self.cron_job_status(&key, &template, status).await;
        }
        let began = self.started.elapsed();
        let ended = self.apply(&key, &name, &uid, &template).await;
        let Some((applied, outcome)) = ended else {
            // The Job was killed, or the simulator stopped: nothing reports its end.
            if by == By::Schedule {
                self.cron(&key, |cron| cron.active = None);
            }
            return;
        };
        self.state().history.push(Attempt {
            began,
            ended: self.started.elapsed(),
            applied,
            outcome,
        });
        let well = outcome == Outcome::Success;
        let end = now();
        self.job_status(&key, &name, ended_job(well, &end)).await;
        match by {
            By::Once => {
                self.state()
                    .v1
                    .once
                    .insert((key.clone(), template.kind), Some(well));
            }
            By::Commit => drop(self.cron(&key, |cron| cron.failed = !well)),
            By::Schedule => {
                let succeeded = well.then(|| end.clone());
                let mut status = json!({"active": null});
                if well {
                    status["lastSuccessfulTime"] = json!(succeeded);
                }
                self.cron_job_status(&key, &template, json!({ "status": status }))
                    .await;
                let old = self.cron(&key, |cron| {
                    (cron.active, cron.failed) = (None, !well);
                    cron.last_success = succeeded.or(cron.last_success.take());
                    let ended = cron.ended.entry(well).or_default();
                    ended.push(name.clone());
                    // The default history limits of a CronJob.
                    let kept = if well { 3 } else { 1 };
                    (ended.len() > kept).then(|| ended.remove(0))
                });
                if let Some(old) = old.flatten() {
                    let jobs = self.typed::<Job>(&key.0);
                    let _ = jobs.delete(&old, &DeleteParams::background()).await;
                }
            }
        }
        self.reconcile(&key);
    }

    /// Runs the pod; `None` if it was killed.
    async fn apply(
        &self,
        key: &Key,
        name: &str,
        uid: &str,
        template: &Template,
    ) -> Option<(Applied, Outcome)> {
        let machine = template.machine.as_str();
        let applied = loop {
            if let Ok(Some(applied)) = self.inject(key, template).await {
                break applied;
            }
            // The pod cannot start.
            tokio::time::sleep(POLL).await;
            if !self.lives(key, name, uid).await {
                return None;
            }
        };
        self.work(&self.knobs(machine)).await;
        while self.knobs(machine).hangs && self.lives(key, name, uid).await {
            tokio::time::sleep(POLL).await;
        }
        if !self.lives(key, name, uid).await {
            return None;
        }
        let knobs = self.knobs(machine);
        let fails = knobs.fails || knobs.unreachable || !applied.skipped.is_empty();
        let outcome = self.outcome(machine, &applied, fails).await;
        Some((applied, outcome))
    }

    /// Whether a pod continues: its Job still exists. It continues while the API server is away.
    async fn lives(&self, key: &Key, job: &str, uid: &str) -> bool {
        let found = self.typed::<Job>(&key.0).get_opt(job).await;
        let there = found.map_or(true, |job| {
            job.is_some_and(|job| job.uid().as_deref() == Some(uid))
        });
        there && !*self.stopped.borrow()
    }

    /// The current files; `None` if a Secret or the `ConfigMap` is missing. A missing key is reported as skipped.
    async fn inject(&self, key: &Key, template: &Template) -> kube::Result<Option<Applied>> {
        let maps = self.typed::<ConfigMap>(&key.0);
        let inline = maps.get_opt(&template.config_map()).await?;
        let Some(inline) = inline.map(|map| map.data.unwrap_or_default()) else {
            return Ok(None);
        };
        let mut applied = Applied {
            namespace: key.0.clone(),
            machine: template.machine.clone(),
            configuration: key.1.clone(),
            git_repo: template.git_repo.clone(),
            flake: template.flake.clone(),
            removal: template.kind == Kind::Remove,
            wipes: template.kind == Kind::Install,
            marker: template.files.last().map(|(path, _)| path.clone()),
            ..Applied::default()
        };
        for (path, source) in &template.files {
            let content = match source {
                Source::Inline(of) => inline.get(of).map(|text| text.as_bytes().to_vec()),
                Source::Secret(name, of) => {
                    let Some(data) = self.secret(&key.0, name).await? else {
                        return Ok(None);
                    };
                    data.get(of).map(|value| value.0.clone())
                }
            };
            match content {
                Some(content) => drop(applied.files.insert(path.clone(), content)),
                None => applied.skipped.push(path.clone()),
            }
        }
        Ok(Some(applied))
    }

    fn cron<T>(&self, key: &Key, use_it: impl FnOnce(&mut Cron) -> T) -> Option<T> {
        self.state().v1.crons.get_mut(key).map(use_it)
    }

    async fn job_status(&self, key: &Key, name: &str, status: Value) {
        self.write_status(&self.typed::<Job>(&key.0), name, status)
            .await;
    }

    async fn cron_job_status(&self, key: &Key, template: &Template, status: Value) {
        let cron_jobs = self.typed::<CronJob>(&key.0);
        self.write_status(&cron_jobs, &template.child(), status)
            .await;
    }

    /// Retries like the Kubernetes controllers while the API server is away. A missing object, or an invalid status, is not retried.
    async fn write_status<K>(&self, api: &Api<K>, name: &str, status: Value)
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        while !*self.stopped.borrow() {
            let patch = Patch::Merge(&status);
            match api
                .patch_status(name, &PatchParams::default(), &patch)
                .await
            {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.code == 404 => return,
                Err(kube::Error::Api(status)) if status.code == 422 => {
                    tracing::error!("the API server refuses a status: {status}");
                    return;
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

/// The status of a finished Job.
fn ended_job(well: bool, end: &str) -> Value {
    let condition = |kind: &str, reason: &str| {
        json!({"type": kind, "status": "True", "reason": reason, "message": "",
            "lastProbeTime": end, "lastTransitionTime": end})
    };
    if well {
        let reason = "CompletionsReached";
        json!({"status": {"active": null, "succeeded": 1, "completionTime": end,
            "conditions": [condition("SuccessCriteriaMet", reason), condition("Complete", reason)]}})
    } else {
        let reason = "BackoffLimitExceeded";
        json!({"status": {"active": null, "failed": 1,
            "conditions": [condition("FailureTarget", reason), condition("Failed", reason)]}})
    }
}
