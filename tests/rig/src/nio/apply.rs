//! The timers of classic NIO: when it applies, and what it writes then.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::hash::{additional_files_hash, hex};
use super::{
    Applied, Attempt, KOPF_ANNOTATION, Key, Knobs, Outcome, Shared, machine_key_of, machine_of,
};
use crate::crds::{Generation, configuration_resource, machine_resource};

impl Shared {
    /// Reports whether a machine can be reached.
    pub(super) fn probe(self: &Arc<Self>, key: &Key) {
        let (wanted, status) = {
            let state = self.state();
            if state.paused {
                return;
            }
            let knobs = state.knobs.get(&key.1).cloned().unwrap_or_default();
            let Some(machine) = state.machines.get(key) else {
                return;
            };
            let truth = if knobs.flapping {
                state.ticks.is_multiple_of(2)
            } else {
                !knobs.unreachable
            };
            (
                knobs.discoverable.unwrap_or(truth),
                machine.data["status"].clone(),
            )
        };
        let mut patch = json!({});
        let wanted = match self.options.generation {
            Generation::Classic => json!(wanted),
            // v1 omits false fields.
            Generation::V1 => json!(wanted.then_some(true)),
        };
        if status["discoverable"] != wanted {
            patch["discoverable"] = wanted;
        }
        let classic = self.options.generation == Generation::Classic;
        if classic && !status["hasConfiguration"].is_boolean() {
            patch["hasConfiguration"] = json!(false);
        }
        if patch != json!({}) {
            let (shared, key) = (Arc::clone(self), key.clone());
            tokio::spawn(async move {
                let _ = shared
                    .patch_status(
                        &machine_resource(),
                        &key.0,
                        &key.1,
                        json!({"status": patch}),
                    )
                    .await;
            });
        }
    }

    /// Runs the timer, beside the handlers; one run at a time for each object.
    pub(super) fn spawn_look(self: &Arc<Self>, key: &Key) {
        if !self.state().timing.insert(key.clone()) {
            return;
        }
        let (shared, key) = (Arc::clone(self), key.clone());
        tokio::spawn(async move {
            shared.look(&key).await;
            shared.state().timing.remove(&key);
        });
    }

    /// Checks a configuration, and applies it if the branch's head or the list of files differs from the status. Returns `false` if it has
    /// to be retried.
    pub(super) async fn look(&self, key: &Key) -> bool {
        let busy = Arc::clone(self.state().busy.entry(key.clone()).or_default());
        let _looking = busy.read().await;
        let Ok(Some(configuration)) = self
            .api(&configuration_resource(), &key.0)
            .get_opt(&key.1)
            .await
        else {
            return false;
        };
        if configuration.metadata.deletion_timestamp.is_some() || self.state().paused {
            return false;
        }
        let spec = &configuration.data["spec"];
        let status = &configuration.data["status"];
        let machine_name = machine_of(&configuration);
        let knobs = self.knobs(machine_name);
        if knobs.never_reacts {
            return false;
        }
        let Ok(Some(machine)) = self
            .api(&machine_resource(), &key.0)
            .get_opt(machine_name)
            .await
        else {
            return false;
        };
        // If the API server is away, the Secret does not count as missing: it is retried.
        let Ok(has_credentials) = self.has_credentials(&machine).await else {
            return false;
        };
        if knobs.unreachable || !has_credentials {
            self.report_unreachable(key, machine_name, status).await;
            return true;
        }
        let (head, hash) = self.wanted(&configuration);
        if is_current(&configuration, &head, &hash) {
            return true;
        }
        let began = self.started.elapsed();
        let flake = spec["flake"].as_str();
        let Ok(applied) = self.collect(key, spec, flake, false).await else {
            return false;
        };
        self.work(&knobs).await;
        if *self.stopped.borrow() {
            return false;
        }
        // Classic looks up the ref among branches and tags, so it never finds a commit.
        let reference = spec["ref"].as_str().unwrap_or_default();
        let commit = reference.len() == 40 && reference.chars().all(|c| c.is_ascii_hexdigit());
        let fails = self.knobs(machine_name).fails || commit;
        let outcome = self.outcome(machine_name, &applied, fails).await;
        let older = Self::older_hash(key);
        self.state().history.push(Attempt {
            began,
            ended: self.started.elapsed(),
            applied,
            outcome,
        });
        if outcome == Outcome::Failure {
            return false;
        }
        let hash = if knobs.claims_older_hash { older } else { hash };
        self.report_success(key, machine_name, &knobs, &head, &hash, spec)
            .await;
        true
    }

    /// The commit and the digest of the files that a configuration asks for.
    fn wanted(&self, configuration: &DynamicObject) -> (String, String) {
        let files = configuration.data["spec"].get("additionalFiles");
        (self.head(), additional_files_hash(files))
    }

    /// Whether the watched objects show that a configuration is applied and its machine can be reached.
    pub(super) fn seems_current(&self, configuration: &DynamicObject) -> bool {
        let machine = machine_key_of(configuration);
        let (head, hash) = self.wanted(configuration);
        !self.knobs(&machine.1).unreachable
            && self.state().machines.contains_key(&machine)
            && is_current(configuration, &head, &hash)
    }

    async fn report_success(
        &self,
        key: &Key,
        machine: &str,
        knobs: &Knobs,
        head: &str,
        hash: &str,
        spec: &Value,
    ) {
        let now = jiff::Timestamp::now().to_string();
        let patch = json!({"status": {"hasConfiguration": true, "appliedConfiguration": key.1, "appliedCommit": head,
            "lastAppliedTime": now}});
        let _ = self
            .patch_status(&machine_resource(), &key.0, machine, patch)
            .await;
        let configuration_hash = hex(&Sha256::digest(spec.to_string().as_bytes()));
        let target = knobs.names_other_machine.as_deref().unwrap_or(machine);
        let patch = json!({"status": {"appliedCommit": head, "lastAppliedTime": now, "targetMachine": target,
            "additionalFilesHash": hash, "configurationHash": configuration_hash,
            "conditions": [condition("True", "Success", "Configuration applied successfully")]}});
        let _ = self
            .patch_status(&configuration_resource(), &key.0, &key.1, patch)
            .await;
    }

    /// An unreachable machine, or one without credentials, loses its proof. This is written once, not at each of the short ticks.
    async fn report_unreachable(&self, key: &Key, machine: &str, status: &Value) {
        let known = status["conditions"][0]["status"] == json!("False")
            && status["appliedCommit"].is_null();
        if !known {
            let patch = json!({"status": {"appliedCommit": null, "lastAppliedTime": null, "targetMachine": machine,
                "conditions": [condition("False", "MissingCredentials", "Configuration application skipped")]}});
            let _ = self
                .patch_status(&configuration_resource(), &key.0, &key.1, patch)
                .await;
        }
    }

    /// To apply, classic needs a user, and a key in the Secret to which the Machine refers (if it names no namespace, in `default`).
    async fn has_credentials(&self, machine: &DynamicObject) -> kube::Result<bool> {
        let spec = &machine.data["spec"];
        let reference = &spec["sshKeySecretRef"];
        let (Some(_), Some(name)) = (spec["sshUser"].as_str(), reference["name"].as_str()) else {
            return Ok(false);
        };
        let namespace = reference["namespace"].as_str().unwrap_or("default");
        let data = self.secret(namespace, name).await?;
        Ok(data.is_some_and(|data| {
            data.get("ssh-privatekey")
                .is_some_and(|key| !key.0.is_empty())
        }))
    }

    pub(super) async fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> kube::Result<Option<BTreeMap<String, ByteString>>> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        Ok(api.get_opt(name).await?.and_then(|secret| secret.data))
    }

    /// The files that are injected now. A missing or empty Secret is skipped silently. Of others, the first key in byte order is used.
    pub(super) async fn collect(
        &self,
        key: &Key,
        spec: &Value,
        flake: Option<&str>,
        removal: bool,
    ) -> kube::Result<Applied> {
        let mut applied = Applied {
            namespace: key.0.clone(),
            machine: spec["machineRef"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            configuration: key.1.clone(),
            git_repo: spec["gitRepo"].as_str().unwrap_or_default().to_owned(),
            flake: flake.unwrap_or_default().to_owned(),
            removal,
            ..Applied::default()
        };
        for file in spec["additionalFiles"].as_array().into_iter().flatten() {
            let path = file["path"].as_str().unwrap_or_default().to_owned();
            applied.marker = Some(path.clone());
            let content = match file["valueType"].as_str() {
                Some("Inline") => Some(
                    file["inline"]
                        .as_str()
                        .unwrap_or_default()
                        .as_bytes()
                        .to_vec(),
                ),
                Some("SecretRef") => {
                    let name = file["secretRef"]["name"].as_str().unwrap_or_default();
                    let data = self.secret(&key.0, name).await?;
                    data.and_then(|data| data.into_iter().next())
                        .map(|(_, value)| value.0)
                }
                _ => None,
            };
            match content {
                Some(content) => drop(applied.files.insert(path, content)),
                None => applied.skipped.push(path),
            }
        }
        Ok(applied)
    }

    /// Waits for the duration of an apply, or until the simulator is stopped.
    pub(super) async fn work(&self, knobs: &Knobs) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            () = tokio::time::sleep(knobs.delay.unwrap_or(self.options.delay)) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    /// A hash that does not belong to the configuration's current list, to claim an older one.
    fn older_hash(key: &Key) -> String {
        hex(&Sha256::digest(
            format!("older list of {}", key.1).as_bytes(),
        ))
    }

    /// Writes kopf's annotation with the handled state, so that only later differences are changes.
    pub(super) async fn mark_handled(&self, key: &Key, object: &DynamicObject) {
        let patch = json!({"metadata": {"annotations": {KOPF_ANNOTATION: essence(object)}}});
        let api = self.api(&configuration_resource(), &key.0);
        let _ = api
            .patch(&key.1, &PatchParams::default(), &Patch::Merge(patch))
            .await;
    }

    /// Whether an object has changed since the state `handled`. Failures wait for the next tick.
    pub(super) fn changed_since(&self, key: &Key, handled: &DynamicObject) -> bool {
        let view = |object: &DynamicObject| {
            (
                object.metadata.deletion_timestamp.is_some(),
                super::classic::has_finalizer(object),
                essence(object),
            )
        };
        self.state()
            .configurations
            .get(key)
            .is_some_and(|newest| view(newest) != view(handled))
    }
}

/// Whether the status says that this was applied.
fn is_current(configuration: &DynamicObject, head: &str, hash: &str) -> bool {
    let status = &configuration.data["status"];
    status["appliedCommit"] == json!(head)
        && status["additionalFilesHash"].as_str().unwrap_or_default() == hash
}

/// Whether kopf's annotation contains the object's essence.
pub(super) fn handled(object: &DynamicObject) -> bool {
    object
        .annotations()
        .get(KOPF_ANNOTATION)
        .is_some_and(|text| *text == essence(object))
}

/// What kopf compares to detect a change: spec, labels, and annotations except its own.
fn essence(object: &DynamicObject) -> String {
    let annotations: BTreeMap<_, _> = object
        .annotations()
        .iter()
        .filter(|(name, _)| !name.starts_with("kopf.zalando.org/"))
        .collect();
    let essence = json!({"spec": object.data["spec"], "metadata": {"labels": object.labels(), "annotations": annotations}});
    format!("{essence}\n")
}

/// The condition `Applied`, classic's only one.
pub(super) fn condition(status: &str, reason: &str, message: &str) -> Value {
    json!({"type": "Applied", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": jiff::Timestamp::now().to_string()})
}
