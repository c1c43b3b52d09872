//! What v1 writes into the status of a configuration.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::Kind;
use crate::crds::configuration_resource;
use crate::nio::{Key, Shared, machine_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Blocked,
    Installing,
    Converging,
    Ready,
    Degraded,
}

impl Phase {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Blocked => "Blocked",
            Self::Installing => "Installing",
            Self::Converging => "Converging",
            Self::Ready => "Ready",
            Self::Degraded => "Degraded",
        }
    }
}

/// Outcome of a reconcile.
pub(super) struct Report {
    pub(super) phase: Phase,
    reason: &'static str,
    message: String,
    /// Whether the full install is done.
    pub(super) installed: bool,
    /// The commit that the next run applies.
    pub(super) revision: Option<String>,
    pub(super) last_applied: Option<String>,
}

impl Report {
    pub(super) fn new(phase: Phase, reason: &'static str, message: &str) -> Self {
        Self {
            phase,
            reason,
            message: message.to_owned(),
            installed: false,
            revision: None,
            last_applied: None,
        }
    }

    /// No child can be created for it.
    pub(super) fn failed(message: &str) -> Self {
        Self::new(Phase::Degraded, "Failed", message)
    }
}

impl Shared {
    /// Writes the status if it differs.
    pub(super) async fn report(
        &self,
        key: &Key,
        configuration: &DynamicObject,
        report: &Report,
    ) -> kube::Result<()> {
        let is = &configuration.data["status"];
        let generation = configuration.metadata.generation;
        let ready = report.phase == Phase::Ready;
        let stalled = matches!(report.phase, Phase::Blocked | Phase::Degraded);
        let applied = report.installed || report.last_applied.is_some();
        let (reason, message) = (report.reason, report.message.as_str());
        let mut wanted = vec![
            ("Ready", ready, reason, message),
            ("Reconciling", !ready && !stalled, reason, message),
            (
                "Applied",
                applied,
                if applied {
                    "ConfigurationApplied"
                } else {
                    "Waiting"
                },
                message,
            ),
        ];
        if stalled {
            wanted.push(("Stalled", true, reason, message));
        }
        if report.revision.is_some() {
            wanted.push(("GitSynced", true, "Ready", "revision resolved"));
        }
        let conditions: Vec<Value> = wanted
            .into_iter()
            .map(|(kind, holds, reason, message)| {
                let status = if holds { "True" } else { "False" };
                let old = crate::world::condition(is, kind);
                let since = if old["status"] == status {
                    old["lastTransitionTime"].clone()
                } else {
                    json!(now())
                };
                json!({"type": kind, "status": status, "reason": reason, "message": message,
                    "observedGeneration": generation, "lastTransitionTime": since})
            })
            .collect();
        let mut status = json!({"observedGeneration": generation, "phase": report.phase.text(), "conditions": conditions});
        if report.revision.is_some() {
            status["targetMachine"] = json!(machine_of(configuration));
            status["resolvedRevision"] = json!(report.revision);
            status["dayTwoCronJobRef"] = json!(Kind::DayTwo.child(&key.1));
        }
        if report.last_applied.is_some() {
            status["lastAppliedTime"] = json!(report.last_applied);
        }
        let mut fields = status.as_object().into_iter().flatten();
        if fields.all(|(field, value)| is[field] == *value) {
            return Ok(());
        }
        let patch = json!({ "status": status });
        self.patch_status(&configuration_resource(), &key.0, &key.1, patch)
            .await?;
        Ok(())
    }
}

/// The current time in whole seconds, as in Kubernetes.
pub(super) fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}
