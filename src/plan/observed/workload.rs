//! What a cluster says of itself through its own API: its Nodes, and whether each member's API server is ready.

use std::sync::Arc;

use crate::api::names::MachineName;
use crate::api::workload::{Answer, Nodes, Workload};

/// What was learned when the cluster was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WorkloadHealth {
    /// Nobody asked, or too long ago.
    #[default]
    NotProbed,
    /// There is no kubeconfig to ask it with.
    NoKubeconfig,
    /// Nothing could be asked: why, for a person.
    NotReachable(String),
    /// What the members' API servers answered.
    Answered(Arc<Workload>),
}

impl WorkloadHealth {
    /// The Nodes, where they could be listed.
    #[must_use]
    pub fn nodes(&self) -> Option<&Nodes> {
        match self {
            Self::Answered(workload) => workload.nodes.as_ref(),
            Self::NotProbed | Self::NoKubeconfig | Self::NotReachable(_) => None,
        }
    }

    /// The same, but for the Nodes.
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

    /// Whether a member did not answer, or the Nodes could not be listed: to ask the cluster takes long then.
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

    /// What is wrong with the TLS of a member's API server.
    #[must_use]
    pub fn untrusted(&self, machine: &MachineName) -> Option<&str> {
        match self {
            Self::Answered(workload) => workload.untrusted.get(machine).map(String::as_str),
            Self::NotProbed | Self::NoKubeconfig | Self::NotReachable(_) => None,
        }
    }

    /// What a member's API server answered; `None`: it was not asked.
    #[must_use]
    pub fn answer(&self, machine: &MachineName) -> Option<&Answer> {
        match self {
            Self::Answered(workload) => workload.answers.get(machine),
            Self::NotProbed | Self::NoKubeconfig | Self::NotReachable(_) => None,
        }
    }
}
