//! What keeps a machine from being changed, and the messages that say so.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::names::MachineName;
use crate::api::workload::StuckPod;
use crate::plan::observed::WorkloadHealth;
use crate::plan::output::Output;

/// The reason why a machine is not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blocker {
    /// There is no workload health probe yet.
    NotAsked,
    /// The cluster's own API cannot be reached.
    Unreachable,
    /// Another party's configuration refers to the machine too.
    Contested { by: String },
    /// Its SSH key cannot be used for this reason.
    SshKey(Cause),
    /// Its entry is in a state that this version of NICO does not know.
    UnknownState { state: String },
    /// Another machine is in flight.
    InFlight { other: MachineName },
    /// A machine of the other role comes first.
    NotItsTurn { first: MachineName },
    /// NIO cannot reach it.
    Undiscoverable,
    /// The kubelet of a worker is newer than the API server; their minor versions.
    VersionSkew {
        worker: MachineName,
        kubelet: u32,
        api: u32,
    },
    /// The Node of the machine that was changed last is not Ready, or cannot be identified.
    NewestNotReady {
        newest: MachineName,
        node: Option<String>,
    },
    /// The API server of the machine that was changed last does not report that it is ready.
    NewestServerNotReady {
        newest: MachineName,
        why: Option<String>,
    },
    /// There is no control plane machine that it could join.
    NobodyToJoin,
    /// The control plane has fewer machines than the spec asks for.
    Incomplete { missing: usize },
    /// Its pods are being evicted.
    Draining {
        node: String,
        left: Option<usize>,
        volumes: Vec<String>,
        stuck: Vec<StuckPod>,
        until: Timestamp,
    },
    /// Its left-over Node is being deleted; the message if a finalizer blocks that for long.
    NodeGoing { node: String, held: Option<String> },
    /// It has left, and its Node may still exist.
    NodeStays,
    /// It is the only one of its control plane.
    OnlyOne,
    /// Without it, its control plane of so many has no quorum.
    Needed { of: usize },
    /// Too few of the control plane are healthy.
    Quorum(Shortage),
}

/// Too few healthy control plane machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shortage {
    /// Configurations that exist, and Nodes that belong to none of them.
    pub(super) n: usize,
    /// How many of them are healthy.
    pub(super) healthy: usize,
    /// The state of the others.
    pub(super) others: Vec<String>,
    /// The change for which they are too few.
    pub(super) purpose: Purpose,
    /// Whether they are a quorum.
    pub(super) quorum: Quorum,
}

/// The change of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
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
pub(super) enum Quorum {
    /// They are, and would not be after the change.
    AtRisk,
    /// They are not.
    Lost,
    /// They may be: the Nodes of these machines are not found.
    Unmatched(Vec<String>),
    /// They may be: the health of this many is unknown.
    Unknown(usize),
}

/// The waits that report why machines are not changed: for each reason, the first machine.
pub(super) fn waits(blocked: Vec<(MachineName, Blocker)>, workload: &WorkloadHealth) -> Output {
    let mut output = Output::default();
    let mut reported = BTreeSet::new();
    for (machine, blocker) in blocked {
        if matches!(blocker, Blocker::SshKey(_)) {
            output.look_for_missing();
        }
        let cause = blocker.cause(&machine, workload);
        if reported.insert(cause.reason) {
            output.wait_for(machine, ConditionType::RollingOut, cause);
        }
    }
    output
}

impl Blocker {
    fn cause(&self, machine: &MachineName, workload: &WorkloadHealth) -> Cause {
        let (reason, message) = match self {
            Self::NotAsked => (Reason::Progressing, why_unknown(workload)),
            Self::Unreachable => (Reason::ClusterUnreachable, why_unknown(workload)),
            Self::Contested { by } => (
                Reason::MachineInUse,
                format!(
                    "Machine {machine} is also named by NixosConfiguration {by}, which is not of this cluster: nothing is written to it until that is gone"
                ),
            ),
            Self::SshKey(why) => (
                why.reason,
                format!(
                    "Machine {machine} is out of date and cannot be written: {}",
                    why.message
                ),
            ),
            Self::UnknownState { state } => (
                Reason::LedgerUnreadable,
                format!(
                    "the ledger has Machine {machine} in the state {state}, which this version of NICO does not know, so nothing is done to it: run the version that wrote it, or delete the ledger"
                ),
            ),
            Self::InFlight { other } => (
                Reason::InFlight,
                format!("Machine {machine} waits until {other} is done"),
            ),
            Self::NotItsTurn { first } => (
                Reason::Progressing,
                format!("Machine {machine} waits until {first} is up to date"),
            ),
            Self::Undiscoverable => (
                Reason::MachineUndiscoverable,
                format!(
                    "Machine {machine} is out of date and NIO cannot reach it: it is updated when it returns"
                ),
            ),
            Self::VersionSkew {
                worker,
                kubelet,
                api,
            } => (
                Reason::VersionSkew,
                format!(
                    "the kubelet of {worker} is of minor version {kubelet}, newer than the API server's {api}: set spec.rollout.order: ControlPlaneFirst"
                ),
            ),
            Self::NewestNotReady { newest, node } => (
                Reason::NodeNotReady,
                match node {
                    Some(node) => format!(
                        "Node {node} of Machine {newest}, which was changed last, is not Ready: the next machine waits for it"
                    ),
                    None => format!(
                        "no Node matches Machine {newest} by name or InternalIP: the next machine waits for it; where Nodes are named otherwise, set spec.rollout.nodeChecks: false"
                    ),
                },
            ),
            Self::NewestServerNotReady { newest, why } => {
                let why = why
                    .as_ref()
                    .map_or_else(String::new, |why| format!(" ({why})"));
                (
                    Reason::ApiServerNotReady,
                    format!(
                        "the API server of Machine {newest}, which was changed last, does not say that it is ready{why}: the next machine waits for it"
                    ),
                )
            }
            Self::NobodyToJoin => (
                Reason::WaitingForControlPlane,
                format!(
                    "Machine {machine} joins once a control plane machine that was applied is there to join"
                ),
            ),
            Self::Incomplete { missing } => (
                Reason::TooFewMachines,
                format!(
                    "Machine {machine} is kept until its replacement is available ({missing} missing)"
                ),
            ),
            Self::Draining {
                left,
                volumes,
                stuck,
                until,
                ..
            } => {
                let what = if volumes.is_empty() {
                    let left = left.map_or_else(String::new, |left| format!(" ({left} left)"));
                    format!("its pods are gone{left}")
                } else {
                    format!("its volumes are detached ({})", few(volumes))
                };
                let stuck: String = stuck.iter().map(why_stuck).collect();
                (
                    Reason::Draining,
                    format!(
                        "Machine {machine} leaves once {what}, at {until} at the latest{stuck}"
                    ),
                )
            }
            Self::NodeGoing { node, held } => {
                let held = held
                    .as_ref()
                    .map_or_else(String::new, |it| format!(", and {it}"));
                (
                    Reason::NodeLeftOver,
                    format!(
                        "Node {node}, left over from Machine {machine}, is being deleted{held}"
                    ),
                )
            }
            Self::NodeStays => {
                let waits = format!(
                    "Machine {machine} is gone, and its Node has to go, too, before another control plane machine is changed"
                );
                match workload.nodes() {
                    Some(_) => (Reason::NodeLeftOver, waits),
                    None => (
                        Reason::MemberNotRemoved,
                        format!("{waits}: {}", why_unknown(workload)),
                    ),
                }
            }
            Self::OnlyOne => (
                Reason::WouldLoseQuorum,
                format!(
                    "Machine {machine} is the only one of its control plane: it leaves once another has joined"
                ),
            ),
            Self::Needed { of } => (
                Reason::WouldLoseQuorum,
                format!(
                    "Machine {machine} is one of a control plane of {of}, which has no quorum without it: take it out of etcd, then annotate the cluster nico.homystack.com/accept-quorum-loss: {machine}"
                ),
            ),
            Self::Quorum(shortage) => (shortage.reason(), shortage.message(machine, workload)),
        };
        Cause::new(reason, message)
    }
}

impl Shortage {
    fn reason(&self) -> Reason {
        match self.quorum {
            Quorum::AtRisk => Reason::QuorumAtRisk,
            Quorum::Lost => Reason::QuorumLost,
            Quorum::Unmatched(_) => Reason::NodeNotReady,
            Quorum::Unknown(_) => Reason::ClusterUnreachable,
        }
    }

    fn message(&self, machine: &MachineName, workload: &WorkloadHealth) -> String {
        let Self { n, healthy, .. } = self;
        let others = self.others.join(", ");
        let except = if others.is_empty() {
            others
        } else {
            format!(" (not {others})")
        };
        // What to do if the numbers never suffice.
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
            Quorum::AtRisk => String::new(),
            Quorum::Lost => "; no healthy one is touched, and after three minutes sick, discoverable ones that are out of date are written, one at a time".to_owned(),
            Quorum::Unmatched(names) => format!(
                "; no Node matches {} by name or InternalIP; where Nodes are named otherwise, set spec.rollout.nodeChecks: false",
                names.join(", ")
            ),
            Quorum::Unknown(unknown) => format!(
                "; of {unknown} nothing can be learned: {}",
                why_unknown(workload)
            ),
        };
        format!(
            "{healthy} of {n} control plane machines are healthy{except}, too few {what}{follows}"
        )
    }
}

/// The first few names, and how many more there are.
fn few(names: &[String]) -> String {
    const NAMED: usize = 3;
    let named: Vec<&str> = names.iter().map(String::as_str).take(NAMED).collect();
    match names.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Why a pod cannot be evicted, as the end of a sentence.
fn why_stuck(pod: &StuckPod) -> String {
    let StuckPod {
        namespace,
        name,
        budgets,
    } = pod;
    let why = match budgets.as_slice() {
        [budget] => format!("PodDisruptionBudget {budget} allows no disruption now"),
        several => format!(
            "PodDisruptionBudgets {} select it, and a pod of several budgets is never evicted: delete all but one",
            several.join(", ")
        ),
    };
    format!("; Pod {namespace}/{name} cannot be evicted: {why}")
}

/// Why the cluster's health is unknown, for users.
fn why_unknown(workload: &WorkloadHealth) -> String {
    match workload {
        WorkloadHealth::NotProbed => "checking the health of Nodes and API servers".to_owned(),
        WorkloadHealth::NoKubeconfig => "there is no kubeconfig to check the cluster with; no machine is changed until NICO has read it from the control plane".to_owned(),
        WorkloadHealth::NotReachable(why) => format!(
            "NICO cannot check the cluster through its own API ({why}); no machine is changed; where that is known to be harmless, set spec.rollout.nodeChecks: false"
        ),
        WorkloadHealth::Answered(workload) if workload.nodes.is_some() => "no Node matches them by name or InternalIP, or their API servers do not say how they are; no machine is changed; where Nodes are named otherwise, set spec.rollout.nodeChecks: false".to_owned(),
        WorkloadHealth::Answered(workload) => {
            let mut untrusted = workload.untrusted.iter();
            let why = untrusted.next().map_or_else(String::new, |(machine, why)| {
                format!(" ({machine}: no trusted TLS connection, {why})")
            });
            format!("no control plane machine lists the cluster's Nodes{why}; no machine is changed; where that is known to be harmless, set spec.rollout.nodeChecks: false")
        }
    }
}
