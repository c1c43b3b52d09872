//! Too few healthy control plane machines, and the message that says so.

use super::{NAMED_OTHERWISE, Probe, why_unknown};
use crate::api::conditions::Reason;
use crate::api::names::MachineName;

/// Too few healthy control plane machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plan::rollout) struct Shortage {
    /// Configurations that exist, and Nodes that belong to none of them.
    pub(in crate::plan::rollout) n: usize,
    /// How many of them are healthy.
    pub(in crate::plan::rollout) healthy: usize,
    /// The state of the others.
    pub(in crate::plan::rollout) others: Vec<String>,
    /// The change for which they are too few.
    pub(in crate::plan::rollout) purpose: Purpose,
    /// Whether they are a quorum.
    pub(in crate::plan::rollout) quorum: Quorum,
    /// Nodes that control plane machines may have left, now that they run no kubelets.
    pub(in crate::plan::rollout) left_over: Vec<String>,
}

/// The change of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plan::rollout) enum Purpose {
    /// It is updated.
    Change,
    /// It joins.
    Join,
    /// It leaves.
    Leave,
    /// Its Node is deleted.
    NodeLeaves(String),
}

/// Whether the healthy ones are a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plan::rollout) enum Quorum {
    /// They are, and would not be after the change.
    AtRisk,
    /// They are not.
    Lost,
    /// They may be: the Nodes of these machines are not found; whether that has lasted.
    Unmatched { names: Vec<String>, lasts: bool },
    /// They may be: the health of this many is unknown.
    Unknown(usize),
}

impl Shortage {
    pub(super) fn reason(&self) -> Reason {
        match self.quorum {
            Quorum::AtRisk => Reason::QuorumAtRisk,
            Quorum::Lost => Reason::QuorumLost,
            Quorum::Unmatched { .. } => Reason::NodeNotReady,
            Quorum::Unknown(_) => Reason::ClusterUnreachable,
        }
    }

    pub(super) fn message(&self, machine: &MachineName, probe: &Probe<'_>) -> String {
        let Self { n, healthy, .. } = self;
        let others = self.others.join(", ");
        let except = if others.is_empty() {
            others
        } else {
            format!(" (not {others})")
        };
        // What leads on where the numbers never will.
        let off = format!(
            "where it is permanently off, annotate the cluster nico.homystack.com/force-release: {machine}"
        );
        let what = match &self.purpose {
            Purpose::Change => format!("for Machine {machine} to be changed"),
            Purpose::Join => format!("for Machine {machine} to join"),
            Purpose::Leave => format!("for Machine {machine} to leave; {off}"),
            Purpose::NodeLeaves(name) => format!("for Node {name} to leave; {off}"),
        };
        let follows = match &self.quorum {
            Quorum::AtRisk => "; repair those that do not recover by themselves".to_owned(),
            Quorum::Lost => "; bring them back. Until then NICO changes no healthy one. After three minutes it updates the others that are out of date and that NIO reaches, one at a time".to_owned(),
            Quorum::Unmatched { names, lasts } => {
                let names = names.join(", ");
                let otherwise = if *lasts { NAMED_OTHERWISE } else { "" };
                format!("; no Node matches {names} by name or InternalIP{otherwise}")
            }
            Quorum::Unknown(unknown) => format!(
                "; the health of {unknown} is unknown: {}",
                why_unknown(probe)
            ),
        };
        format!(
            "{healthy} of {n} control plane machines are healthy{except}, too few {what}{follows}{}",
            no_kubelets(&self.left_over)
        )
    }
}

/// What to do where the control plane runs no kubelets any more, as the end of a sentence.
pub(super) fn no_kubelets(left_over: &[String]) -> String {
    if left_over.is_empty() {
        return String::new();
    }
    format!(
        "; where the control plane runs no kubelets any more, run kubectl delete node {} in that cluster",
        left_over.join(" ")
    )
}
