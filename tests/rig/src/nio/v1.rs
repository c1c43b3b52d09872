//! NIO v1: for each configuration a `NixCronJob`, for that a `CronJob`, and Jobs that apply. This also simulates the `CronJob` and Job
//! controllers, which the rig does not run.

mod children;
mod objects;
mod remove;
mod report;
mod runs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kube::ResourceExt;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};

use self::children::{Kind, Template};
use self::report::{Phase, Report};
use super::{Key, Shared, V1_FINALIZER, key_of, machine_key_of, machine_of};
use crate::crds::{configuration_resource, cron_resource, machine_resource};

/// The schedule with which NICO requests a run.
pub(super) const EVERY_MINUTE: &str = "* * * * *";
/// v1's default schedule.
pub(super) const EVERY_HALF_HOUR: &str = "*/30 * * * *";

/// How often an install or a removal is retried.
const RETRIES: u64 = 3;

/// What v1 and the Kubernetes controllers remember about configurations, by name.
#[derive(Default)]
pub(super) struct Memory {
    /// Configurations that changed while they were reconciled.
    again: HashSet<Key>,
    crons: HashMap<Key, Cron>,
    /// Installs and removals. `None`: running, else whether it succeeded.
    once: HashMap<(Key, Kind), Option<bool>>,
    /// `CronJob`s number their Jobs.
    number: u64,
}

/// A `NixCronJob` and its `CronJob`.
#[derive(Clone)]
struct Cron {
    /// The spec of the `NixCronJob`, to detect changes.
    asked: Value,
    template: Template,
    schedule: String,
    nix_uid: String,
    uid: String,
    suspended: bool,
    rolled_out: Option<String>,
    /// The running Job of the `CronJob`.
    active: Option<String>,
    /// When the `CronJob`'s last successful Job ended.
    last_success: Option<String>,
    /// Whether the last run failed.
    failed: bool,
    /// The finished Jobs of the `CronJob`, by success, the newest last.
    ended: BTreeMap<bool, Vec<String>>,
}

impl Shared {
    /// Reconciles a configuration, once at a time. Changes that arrive meanwhile are handled afterwards.
    pub(super) fn reconcile(self: &Arc<Self>, key: &Key) {
        {
            let mut state = self.state();
            if state.paused || *self.stopped.borrow() || !state.configurations.contains_key(key) {
                return;
            }
            if !state.handling.insert(key.clone()) {
                state.v1.again.insert(key.clone());
                return;
            }
        }
        let (shared, key) = (Arc::clone(self), key.clone());
        tokio::spawn(async move {
            // If the API server is away, the next tick retries.
            let _ = shared.pass(&key).await;
            let again = {
                let mut state = shared.state();
                state.handling.remove(&key);
                state.v1.again.remove(&key)
            };
            if again {
                shared.reconcile(&key);
            }
        });
    }

    /// Reconciles the configurations of a machine.
    pub(super) fn reconcile_machine(self: &Arc<Self>, machine: &Key) {
        let keys: Vec<Key> = {
            let state = self.state();
            let of_it = |object: &&DynamicObject| machine_key_of(object) == *machine;
            let found = state.configurations.values().filter(of_it);
            found.map(key_of).collect()
        };
        for key in keys {
            self.reconcile(&key);
        }
    }

    /// Whether a configuration is Ready at its generation and its commit.
    pub(super) fn v1_is_idle(&self, configuration: &DynamicObject) -> bool {
        let status = &configuration.data["status"];
        let machine = machine_key_of(configuration);
        let reached = |machine: &DynamicObject| machine.data["status"]["discoverable"] == true;
        status["phase"] == Phase::Ready.text()
            && status["observedGeneration"] == json!(configuration.metadata.generation)
            && status["resolvedRevision"] == self.revision(configuration)
            && self.state().machines.get(&machine).is_some_and(reached)
    }

    async fn pass(self: &Arc<Self>, key: &Key) -> kube::Result<()> {
        let configurations = self.api(&configuration_resource(), &key.0);
        let Some(configuration) = configurations.get_opt(&key.1).await? else {
            self.forget(key);
            return Ok(());
        };
        let machine_name = machine_of(&configuration);
        if self.knobs(machine_name).never_reacts {
            return Ok(());
        }
        let machines = self.api(&machine_resource(), &key.0);
        let machine = machines.get_opt(machine_name).await?;
        if configuration.metadata.deletion_timestamp.is_some() {
            return self.removing(key, &configuration, machine).await;
        }
        let ours = |finalizer: &String| finalizer == V1_FINALIZER;
        if !configuration.finalizers().iter().any(ours) {
            self.change_finalizers(key, |finalizers| {
                if !finalizers.iter().any(ours) {
                    finalizers.push(V1_FINALIZER.to_owned());
                }
            })
            .await;
        }
        let report = self.advance(key, &configuration, machine).await?;
        self.report(key, &configuration, &report).await
    }

    /// One step of a configuration that stays.
    async fn advance(
        self: &Arc<Self>,
        key: &Key,
        configuration: &DynamicObject,
        machine: Option<DynamicObject>,
    ) -> kube::Result<Report> {
        let name = machine_of(configuration);
        if let Some(owner) = self.older(key, configuration) {
            self.suspend(key, true).await?;
            let why = format!("machine {name:?} already owned by NixosConfiguration {owner:?}");
            return Ok(Report::new(Phase::Blocked, "MachineInUse", &why));
        }
        let Some(machine) = machine else {
            self.suspend(key, true).await?;
            let why = format!("Machine {name:?} not found");
            return Ok(Report::new(Phase::Blocked, "MachineNotReady", &why));
        };
        if machine.data["status"]["discoverable"] != true {
            self.suspend(key, true).await?;
            let why = format!("Machine {name:?} is not reachable via SSH");
            return Ok(Report::new(Phase::Blocked, "MachineNotReady", &why));
        }
        let (spec, status) = (&configuration.data["spec"], &configuration.data["status"]);
        let mut installed = status["fullDiskInstallCompleted"] == true;
        if spec["fullInstall"] == true && !installed {
            match self.install(key, configuration, &machine).await? {
                Some(report) => return Ok(report),
                None => installed = true,
            }
        }
        let mut report = self.day_two(key, configuration, &machine).await?;
        report.installed = installed;
        Ok(report)
    }

    /// The other configuration to which a machine belongs, if there is one: the oldest, and among equally old ones the first by name.
    fn older(&self, key: &Key, configuration: &DynamicObject) -> Option<String> {
        let rank = |object: &DynamicObject| {
            let made = object.creation_timestamp().map(|made| made.0);
            (made, object.name_any())
        };
        let state = self.state();
        let of_it = state.configurations.values().filter(|other| {
            other.namespace().as_ref() == Some(&key.0)
                && machine_of(other) == machine_of(configuration)
        });
        let first = of_it.map(rank).min()?;
        (first < rank(configuration)).then_some(first.1)
    }

    /// `None`: the machine is installed.
    async fn install(
        self: &Arc<Self>,
        key: &Key,
        configuration: &DynamicObject,
        machine: &DynamicObject,
    ) -> kube::Result<Option<Report>> {
        let retries = configuration.data["status"]["installRetries"]
            .as_u64()
            .unwrap_or_default();
        let installing = |why: &str| Some(Report::new(Phase::Installing, "Installing", why));
        let ended = self
            .state()
            .v1
            .once
            .get(&(key.clone(), Kind::Install))
            .copied();
        Ok(match ended {
            Some(Some(true)) => {
                let done =
                    json!({"status": {"fullDiskInstallCompleted": true, "installJobRef": null}});
                self.patch_status(&configuration_resource(), &key.0, &key.1, done)
                    .await?;
                self.drop_once(key, Kind::Install).await?;
                None
            }
            Some(Some(false)) if retries >= RETRIES => {
                let why = format!("Full-disk install failed after {RETRIES} retries");
                Some(Report::new(Phase::Degraded, "ApplyFailed", &why))
            }
            Some(Some(false)) => {
                let counted = json!({"status": {"installRetries": retries + 1}});
                self.patch_status(&configuration_resource(), &key.0, &key.1, counted)
                    .await?;
                self.drop_once(key, Kind::Install).await?;
                installing("Retrying full-disk install")
            }
            Some(None) => installing("Full-disk install is running"),
            None => match self
                .start_once(key, Kind::Install, configuration, machine)
                .await?
            {
                Ok(()) => installing("Full-disk install is running"),
                Err(why) => Some(Report::failed(&why)),
            },
        })
    }

    async fn day_two(
        self: &Arc<Self>,
        key: &Key,
        configuration: &DynamicObject,
        machine: &DynamicObject,
    ) -> kube::Result<Report> {
        let revision = self.revision(configuration);
        let made = Template::new(Kind::DayTwo, configuration, machine, &revision);
        let template = match made {
            Ok(template) => template,
            Err(why) => return Ok(Report::failed(&why)),
        };
        let schedule = configuration.data["spec"]["dayTwoSchedule"]
            .as_str()
            .unwrap_or(EVERY_HALF_HOUR)
            .to_owned();
        let asked = template.nix_cron_job_spec(&schedule, false);
        let known = self.state().v1.crons.get(key).cloned();
        let same = known.as_ref().is_some_and(|cron| {
            cron.asked == asked && cron.template == template && !cron.suspended
        });
        if !same {
            self.put_cron(key, configuration, &template, &schedule, asked)
                .await?;
        }
        // A new commit starts a Job at once, unless a Job of the `CronJob` is running. Then the next run applies it.
        let fire = {
            let mut state = self.state();
            let cron = state.v1.crons.get_mut(key);
            cron.is_some_and(|cron| {
                let new = cron.rolled_out.as_ref() != Some(&revision);
                cron.rolled_out = Some(revision.clone());
                new && cron.active.is_none()
            })
        };
        if fire {
            self.start_at_once(key).await?;
        }
        let cron = self.state().v1.crons.get(key).cloned();
        let Some(cron) = cron else {
            return Ok(Report::new(
                Phase::Converging,
                "Converging",
                "Day-2 convergence in progress",
            ));
        };
        let mut report = if cron.failed {
            Report::new(
                Phase::Degraded,
                "ApplyFailed",
                "Day-2 convergence run failed",
            )
        } else if cron.last_success.is_some() {
            // Reports what was applied last, even if the spec has changed since.
            Report::new(
                Phase::Ready,
                "Succeeded",
                "Day-2 convergence healthy; configuration applied",
            )
        } else {
            Report::new(
                Phase::Converging,
                "Converging",
                "Day-2 convergence in progress",
            )
        };
        report.revision = Some(revision);
        report.last_applied = cron.last_success;
        if report.phase == Phase::Ready {
            self.write_back(key, machine, &report).await?;
        }
        Ok(report)
    }

    /// The commit that a configuration's `ref` names now.
    fn revision(&self, configuration: &DynamicObject) -> String {
        let reference = configuration.data["spec"]["ref"]
            .as_str()
            .unwrap_or_default();
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if reference.len() == 40 && reference.chars().all(hex) {
            reference.to_owned()
        } else {
            self.head()
        }
    }

    /// Writes to the Machine which configuration was applied.
    async fn write_back(
        &self,
        key: &Key,
        machine: &DynamicObject,
        report: &Report,
    ) -> kube::Result<()> {
        let name = machine.name_any();
        let claimed = self.knobs(&name).names_other_machine;
        let status = json!({"hasConfiguration": true, "appliedConfiguration": claimed.unwrap_or_else(|| key.1.clone()),
            "appliedCommit": report.revision, "lastAppliedTime": report.last_applied});
        let is = &machine.data["status"];
        let fields = status.as_object().into_iter().flatten();
        if fields.clone().all(|(field, value)| is[field] == *value) {
            return Ok(());
        }
        let patch = json!({ "status": status });
        self.patch_status(&machine_resource(), &key.0, &name, patch)
            .await?;
        Ok(())
    }

    /// Suspends or resumes the `CronJob`: while a configuration is blocked, it starts no Jobs.
    async fn suspend(&self, key: &Key, suspended: bool) -> kube::Result<()> {
        let changed = {
            let mut state = self.state();
            let cron = state.v1.crons.get_mut(key);
            cron.is_some_and(|cron| std::mem::replace(&mut cron.suspended, suspended) != suspended)
        };
        if changed {
            let api = self.api(&cron_resource(), &key.0);
            let patch = json!({"spec": {"nix": {"suspend": suspended}}});
            let name = Kind::DayTwo.child(&key.1);
            api.patch(
                &name,
                &kube::api::PatchParams::default(),
                &kube::api::Patch::Merge(patch),
            )
            .await?;
        }
        Ok(())
    }

    fn forget(&self, key: &Key) {
        let mut state = self.state();
        state.v1.crons.remove(key);
        state.v1.once.retain(|(known, _), _| known != key);
    }

    fn typed<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}
