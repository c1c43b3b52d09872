//! What keeps a machine from being changed, and the messages that say so.

mod shortage;

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::names::MachineName;
use crate::api::workload::{Stuck, StuckPod};
use crate::plan::observed::WorkloadHealth;
use crate::plan::output::Output;
pub(super) use shortage::{Purpose, Quorum, Shortage};

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
    UnknownState { ledger: String, state: String },
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
        node: String,
        /// Nodes that control plane machines may have left, now that they run no kubelets.
        left_over: Vec<String>,
    },
    /// The machine that was changed last has no Node; whether that has lasted.
    NewestHasNoNode { newest: MachineName, lasts: bool },
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

/// The last probe of the cluster, for messages.
#[derive(Clone, Copy)]
pub(super) struct Probe<'a> {
    /// What it told.
    pub(super) workload: &'a WorkloadHealth,
    /// Whether probes have told nothing for so long that advice is due.
    pub(super) unknown_for_long: bool,
}

/// The waits that report why machines are not changed: for each reason, the first machine.
pub(super) fn waits(blocked: Vec<(MachineName, Blocker)>, probe: &Probe<'_>) -> Output {
    let mut output = Output::default();
    let mut reported = BTreeSet::new();
    for (machine, blocker) in blocked {
        if matches!(blocker, Blocker::SshKey(_)) {
            output.look_for_missing();
        }
        let cause = blocker.cause(&machine, probe);
        if reported.insert(cause.reason) {
            output.wait_for(machine, ConditionType::RollingOut, cause);
        }
    }
    output
}

impl Blocker {
    fn cause(&self, machine: &MachineName, probe: &Probe<'_>) -> Cause {
        let (reason, message) = match self {
            Self::NotAsked => (Reason::Progressing, why_unknown(probe)),
            Self::Unreachable => (Reason::ClusterUnreachable, why_unknown(probe)),
            Self::Contested { by } => (
                Reason::MachineInUse,
                format!(
                    "Machine {machine} is also named by NixosConfiguration {by}, which is not of this cluster: nothing is written to it until that is gone; delete one of them"
                ),
            ),
            Self::SshKey(why) => (
                why.reason,
                format!(
                    "Machine {machine} is out of date and cannot be written: {}",
                    why.message
                ),
            ),
            Self::UnknownState { ledger, state } => (
                Reason::LedgerUnreadable,
                format!(
                    "ConfigMap {ledger} has Machine {machine} in the state {state}, which this version of NICO does not know, so nothing is done to it: run the version that wrote it, or delete the ConfigMap"
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
                    "Machine {machine} is out of date and NIO cannot reach it: it is updated when it returns, or is taken out of the spec"
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
            Self::NewestNotReady {
                newest,
                node,
                left_over,
            } => (
                Reason::NodeNotReady,
                format!(
                    "Node {node} of Machine {newest}, which was changed last, is not Ready: the next machine waits for it; see kubectl describe node {node} in that cluster{}",
                    shortage::no_kubelets(left_over)
                ),
            ),
            Self::NewestHasNoNode {
                newest,
                lasts: true,
            } => (
                Reason::NodeNotReady,
                format!(
                    "no Node matches Machine {newest} by name or InternalIP: the next machine waits for it{NAMED_OTHERWISE}"
                ),
            ),
            Self::NewestHasNoNode { newest, .. } => (
                Reason::NodeNotReady,
                format!(
                    "waiting for the Node of Machine {newest} to register: the next machine waits for it"
                ),
            ),
            Self::NewestServerNotReady { newest, why } => {
                let why = why
                    .as_ref()
                    .map_or_else(String::new, |why| format!(" ({why})"));
                (
                    Reason::ApiServerNotReady,
                    format!(
                        "the API server of Machine {newest}, which was changed last, does not say that it is ready{why}: the next machine waits for it; see its log on the machine"
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
                    "Machine {machine} is kept until its replacement is available ({missing} missing): create the missing Machines, or correct the spec"
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
                match probe.workload.nodes() {
                    Some(_) => (Reason::NodeLeftOver, waits),
                    None => (
                        Reason::MemberNotRemoved,
                        format!("{waits}: {}", why_unknown(probe)),
                    ),
                }
            }
            Self::OnlyOne => (
                Reason::WouldLoseQuorum,
                format!(
                    "Machine {machine} is the only one of its control plane: it leaves once another has joined, so add one to spec.controlPlane"
                ),
            ),
            Self::Needed { of } => (
                Reason::WouldLoseQuorum,
                format!(
                    "Machine {machine} is one of a control plane of {of}, which has no quorum without it: take it out of etcd, then annotate the cluster nico.homystack.com/accept-quorum-loss: {machine}"
                ),
            ),
            Self::Quorum(shortage) => (shortage.reason(), shortage.message(machine, probe)),
        };
        Cause::new(reason, message)
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

/// Why a pod does not go, as the end of a sentence.
fn why_stuck(pod: &StuckPod) -> String {
    let StuckPod {
        namespace,
        name,
        why,
    } = pod;
    let why = match why {
        Stuck::Budgets(budgets) => match budgets.as_slice() {
            [budget] => {
                format!("cannot be evicted: PodDisruptionBudget {budget} allows no disruption now")
            }
            several => format!(
                "cannot be evicted: PodDisruptionBudgets {} select it, and a pod of several budgets is never evicted: delete all but one",
                several.join(", ")
            ),
        },
        Stuck::Refused(why) => format!("cannot be evicted: {why}"),
        Stuck::Terminates { since, finalizers } => match finalizers.as_slice() {
            [] => {
                format!("was to be gone at {since}, and the kubelet of its Node has not ended it")
            }
            [one] => format!("was to be gone at {since}, and finalizer {one} holds it"),
            several => format!(
                "was to be gone at {since}, and finalizers {} hold it",
                several.join(", ")
            ),
        },
    };
    format!("; Pod {namespace}/{name} {why}")
}

/// Why the cluster's health is unknown, for users. The advice to go on without checks waits until it has lasted: an API server may just start.
fn why_unknown(probe: &Probe<'_>) -> String {
    let (why, advice) = match probe.workload {
        WorkloadHealth::NotProbed => {
            return "checking the health of Nodes and API servers".to_owned();
        }
        WorkloadHealth::NoKubeconfig => {
            return "there is no kubeconfig to check the cluster with; no machine is changed until NICO has read it from the control plane".to_owned();
        }
        WorkloadHealth::NotReachable(why) => (
            format!("NICO cannot check the cluster through its own API ({why})"),
            HARMLESS,
        ),
        WorkloadHealth::Answered(workload) if workload.nodes.is_some() => (
            "no Node matches them by name or InternalIP, or their API servers do not say how they are".to_owned(),
            NAMED_OTHERWISE,
        ),
        WorkloadHealth::Answered(workload) => {
            let mut untrusted = workload.untrusted.iter();
            let why = untrusted.next().map_or_else(String::new, |(machine, why)| {
                format!(" ({machine}: no trusted TLS connection, {why})")
            });
            (
                format!("no control plane machine lists the cluster's Nodes{why}"),
                HARMLESS,
            )
        }
    };
    let advice = if probe.unknown_for_long { advice } else { "" };
    format!("{why}; no machine is changed{advice}")
}

const HARMLESS: &str = "; where that is known to be harmless, set spec.rollout.nodeChecks: false";
const NAMED_OTHERWISE: &str =
    "; where Nodes are named otherwise, set spec.rollout.nodeChecks: false";
