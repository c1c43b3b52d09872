//! What NIO reports about a configuration.

use serde::{Deserialize, Deserializer, Serialize};

use crate::api::read::{lenient, short, small};
use crate::api::text::shown;

/// Status of a `NixosConfiguration`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NixosConfigurationStatus {
    /// Classic: commit applied.
    #[serde(deserialize_with = "short", skip_serializing_if = "Option::is_none")]
    pub applied_commit: Option<String>,
    /// Classic: hash of the list applied.
    #[serde(deserialize_with = "short", skip_serializing_if = "Option::is_none")]
    pub additional_files_hash: Option<String>,
    /// Classic: the machine that it was applied to.
    #[serde(deserialize_with = "short", skip_serializing_if = "Option::is_none")]
    pub target_machine: Option<String>,
    /// v1: commit resolved.
    #[serde(deserialize_with = "short", skip_serializing_if = "Option::is_none")]
    pub resolved_revision: Option<String>,
    /// v1: phase.
    #[serde(deserialize_with = "short", skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Conditions of both.
    #[serde(deserialize_with = "conditions")]
    pub conditions: Vec<NioCondition>,
}

/// A condition that NIO wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NioCondition {
    /// Its type.
    #[serde(rename = "type", deserialize_with = "lenient")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    #[serde(deserialize_with = "to_show")]
    pub status: String,
    /// Machine-readable reason.
    #[serde(deserialize_with = "to_show")]
    pub reason: String,
    /// Human-readable message.
    #[serde(deserialize_with = "to_show")]
    pub message: String,
}

impl NixosConfigurationStatus {
    /// The condition of that type, if NIO wrote it.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&NioCondition> {
        self.conditions
            .iter()
            .find(|condition| condition.kind == kind)
    }
}

/// The conditions that both write, of which NICO reads some.
const CONDITIONS: [&str; 5] = ["Applied", "GitSynced", "Ready", "Reconciling", "Stalled"];

/// The first condition of each of these types.
fn conditions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NioCondition>, D::Error> {
    let mut all: Vec<NioCondition> = small(deserializer)?;
    let mut awaited = CONDITIONS.to_vec();
    all.retain(|condition| {
        let at = awaited.iter().position(|kind| *kind == condition.kind);
        at.map(|at| awaited.swap_remove(at)).is_some()
    });
    all.shrink_to_fit();
    Ok(all)
}

/// A text that is shown and never compared.
fn to_show<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    lenient::<_, String>(deserializer).map(|text| shown(&text))
}
