//! The spec of a `KubernetesCluster` as the program works with it: parsed and validated once, at the edge.

use std::collections::BTreeSet;
use std::fmt;

use kube::core::Selector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::MachineName;

/// A spec in which every rule holds, with the defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidSpec {
    /// Flake repository; absent: the operator's default.
    pub git_repo: Option<String>,
    /// Branch, tag or commit; absent: not sent.
    pub git_ref: Option<String>,
    /// Who turns `git_ref` into a commit; absent: by NIO's generation.
    pub ref_policy: Option<RefPolicy>,
    /// Directory of the flake in the repository; absent: its root.
    pub configuration_subdir: Option<String>,
    /// Secret with the credentials of a private repository.
    pub credentials: Option<String>,
    /// Machines of the control plane; never [`Pool::None`].
    pub control_plane: Pool,
    /// Workers.
    pub data_plane: Pool,
    /// VIP or load balancer in front of the control plane.
    pub endpoint: Option<Endpoint>,
    /// Whether the first configuration of a machine wipes its disks.
    pub full_install: bool,
    /// Whether a machine is given its own SSH key.
    pub inject_ssh_key: bool,
    /// Where the admin kubeconfig lies on a control plane machine; absent: the well-known places.
    pub kubeconfig_path: Option<String>,
    /// Whether nothing but status and some quiet writes may happen.
    pub paused: bool,
    /// How a living cluster is changed.
    pub rollout: Rollout,
    /// Paths of fields that have no effect, since machines are listed beside them.
    pub ignored: Vec<String>,
}

/// Who turns `ref` into a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RefPolicy {
    /// NIO follows the branch by itself.
    Follow,
    /// NICO resolves the ref and rolls the commit out.
    Pin,
}

/// The machines that a role asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Pool {
    /// The role asks for no machine.
    None,
    /// These machines, whatever their labels.
    Listed(BTreeSet<MachineName>),
    /// So many of those that match.
    Selected {
        /// Which Machines match.
        selector: Selector,
        /// How many of them.
        count: usize,
    },
}

impl Pool {
    /// How many machines the role asks for.
    #[must_use]
    pub fn total(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Listed(machines) => machines.len(),
            Self::Selected { count, .. } => *count,
        }
    }

    /// Whether a machine is asked for by name.
    #[must_use]
    pub fn lists(&self, machine: &MachineName) -> bool {
        matches!(self, Self::Listed(machines) if machines.contains(machine))
    }

    /// The machines that are asked for by name.
    pub fn listed(&self) -> impl Iterator<Item = &MachineName> {
        match self {
            Self::Listed(machines) => Some(machines),
            Self::None | Self::Selected { .. } => None,
        }
        .into_iter()
        .flatten()
    }
}

/// An address in front of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// DNS name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How a living cluster is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Which role is updated first.
    pub order: RolloutOrder,
    /// Workers updated at a time.
    pub max_unavailable: MaxUnavailable,
    /// Seconds within which a machine must be confirmed.
    pub progress_deadline_seconds: u32,
    /// Whether the cluster's own word counts.
    pub node_checks: bool,
    /// Seconds that a leaving machine's pods are given; 0: no drain.
    pub drain_timeout_seconds: u32,
}

/// Which role is updated first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutOrder {
    /// The workers, then the control plane.
    WorkersFirst,
    /// As the Kubernetes version-skew policy asks on a minor upgrade.
    ControlPlaneFirst,
}

/// Workers updated at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxUnavailable {
    /// So many, at least 1.
    Count(u32),
    /// Per cent of the workers, rounded down as Deployments do.
    Percent(u32),
}

impl MaxUnavailable {
    /// How many of `workers` may be updated at a time: at least 1.
    #[must_use]
    pub fn scaled(self, workers: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) => workers.saturating_mul(percent as usize) / 100,
        }
        .max(1)
    }
}
