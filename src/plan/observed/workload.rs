//! The health that a cluster's own API reports: its Nodes, and whether each member's API server is ready.

use std::sync::Arc;

use crate::api::names::MachineName;
use crate::api::workload::{Answer, Nodes, Workload};

/// The result of the workload health probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WorkloadHealth {
    /// There is no recent probe.
    #[default]
    NotProbed,
    /// There is no kubeconfig for a probe.
    NoKubeconfig,
    /// The probe failed with this error.
    NotReachable(String),
    /// The answers of the members' API servers.
    Answered(Arc<Workload>),
}

impl WorkloadHealth {
    /// The Nodes, if they were listed.
    #[must_use]
    pub fn nodes(&self) -> Option<&Nodes> {
        match self {
            Self::Answered(workload) => workload.nodes.as_ref(),
            Self::NotProbed | Self::NoKubeconfig | Self::NotReachable(_) => None,
        }
    }

    /// The answers, without the Nodes.
    #[must_use]
    pub fn without_nodes(&self) -> Self {
        match self {
            Self::Answered(workload) => Self::Answered(Arc::new(Workload {
                nodes: None,
                answers: workload.answers.clone(),
                untrusted: workload.untrusted.clone(),
                api_minor: workload.api_minor,
            })),
            other => other.clone(),
        }
    }

    /// Whether a member did not answer, or the Nodes could not be listed: then a probe takes long.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        match self {
            Self::Answered(workload) => {
                let mut answers = workload.answers.values();
                workload.nodes.is_none() || answers.any(|it| *it == Answer::Unreachable)
            }
            Self::NotProbed | Self::NoKubeconfig | Self::NotReachable(_) => false,
        }
    }

    /// The TLS error of a member's API server.
    #[must_use]
    pub fn untrusted(&self, machine: &MachineName) -> Option<&str> {
        match self {
            Self::Answered(workload) => workload.untrusted.get(machine).map(String::as_str),
            Self::NotProbed | Self::NoKubeconfig | Self::NotReachable(_) => None,
        }
    }

    /// The answer of a member's API server; `None` if it was not asked.
    #[must_use]
    pub fn answer(&self, machine: &MachineName) -> Option<&Answer> {
        match self {
            Self::Answered(workload) => workload.answers.get(machine),
            Self::NotProbed | Self::NoKubeconfig | Self::NotReachable(_) => None,
        }
    }
}
