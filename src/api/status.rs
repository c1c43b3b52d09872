//! The status of a `KubernetesCluster`: for people and tools; no decision of NICO's rests on it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::ConditionType;

/// Status of a `KubernetesCluster`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterStatus {
    /// Overall lifecycle phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Generation of the spec that this status speaks of; -1: nobody has looked at the object yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Control plane machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<RoleStatus>,
    /// Workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_plane: Option<RoleStatus>,
    /// Machines that are up to date, of those that the spec asks for: `2/5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<String>,
    /// Secret that holds the kubeconfig, once it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret: Option<String>,
    /// Digest of what every machine is to have, where all agree. It is not a commit: see `commit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Commit that every machine is to hold, where NICO pins it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What is being changed now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// One entry for each machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub machines: Vec<MachineRow>,
    /// Conditions in Kubernetes' own form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<ClusterCondition>,
}

impl ClusterStatus {
    /// The condition of a type, where it was written.
    #[must_use]
    pub fn condition(&self, kind: ConditionType) -> Option<&ClusterCondition> {
        let kind = kind.to_string();
        self.conditions.iter().find(|it| it.kind == kind)
    }

    /// Whether the condition of a type is True.
    #[must_use]
    pub fn holds(&self, kind: ConditionType) -> bool {
        self.condition(kind).is_some_and(ClusterCondition::is_true)
    }
}

/// Overall lifecycle phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Work goes on, or waits for something that can come by itself.
    Provisioning,
    /// The cluster is as the spec asks.
    Ready,
    /// Nothing goes on without a person.
    Failed,
    /// The cluster is being deleted.
    Deleting,
}

/// Machines of one role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RoleStatus {
    /// How many of its machines NIO has applied.
    pub ready: u32,
    /// How many the spec asks for.
    pub total: u32,
    /// How many NIO has applied at the target revision.
    pub updated: u32,
    /// `ready/total`, as the printer column shows it.
    pub summary: String,
    /// Those that NIO has applied.
    pub ready_machines: Vec<String>,
}

/// What is being changed now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutStatus {
    /// Machines that are being changed now.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["machine"]))]
    pub in_flight: Vec<InFlightRow>,
}

/// One machine that is being changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InFlightRow {
    /// The machine.
    pub machine: String,
    /// Its role.
    pub role: Role,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub since: Option<Timestamp>,
    /// What it waits for.
    pub waiting_for: String,
}

/// Role of a machine.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the control plane.
    ControlPlane,
    /// Runs workloads only.
    Worker,
}

impl Role {
    /// Both roles, in the order in which they are chosen.
    pub const ALL: [Self; 2] = [Self::ControlPlane, Self::Worker];

    /// The one of two roles that has the stricter rules: the control plane's, where either is.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        self.min(other)
    }

    /// The role as the label `role` spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
        }
    }

    /// The role that the label `role` spells.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineRow {
    /// The machine.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// How far it is.
    pub state: MachineState,
    /// Machine-readable reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Human-readable message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Commit that it holds, where NICO pins it; else the one that NIO reports. NIO v1 reports a commit before it applies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Since when it is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub since: Option<Timestamp>,
}

/// How far a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MachineState {
    /// It cannot be taken, or cannot be reached.
    Unavailable,
    /// It has no configuration yet.
    Pending,
    /// NIO is at work.
    Applying,
    /// NIO applied exactly what it holds.
    Confirmed,
    /// It holds something else than it should.
    Outdated,
    /// NIO has not applied it in time.
    Failed,
    /// It is being released, or is to be.
    Leaving,
}

/// A condition (Kubernetes API conventions, "Typical status properties").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterCondition {
    /// Type of the condition.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: String,
    /// Generation of the spec that it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_transition_time: Option<Timestamp>,
    /// Machine-readable reason.
    #[serde(default)]
    pub reason: String,
    /// Human-readable message.
    #[serde(default)]
    pub message: String,
}

impl ClusterCondition {
    /// Whether it is True.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}
