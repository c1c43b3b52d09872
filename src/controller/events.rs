//! Kubernetes Events, as shown in `kubectl describe`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::task::unconstrained;
use tracing::{Instrument as _, debug, warn};

use super::schedule::EVENT_GOES_FIRST_FOR;
use crate::api::names::{FIELD_MANAGER, GROUP, MachineName};
use crate::api::status::Role;
use crate::api::text::{counted, shown_in};
use crate::plan::observed::ClusterView;
use crate::remote::gate::{Class, Gate};
use crate::remote::offload::of_namespace;

/// Most bytes of an event's note (Kubernetes API reference, `Event`: 1 kB).
const MAX_NOTE: usize = 1024;

/// Something about a cluster that is published as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Machines were claimed, in one pass.
    Claimed(Vec<MachineName>, Role),
    /// What an earlier cluster of this name left was taken back.
    TakenBack(Vec<String>),
    /// NIO applied the configuration of a machine.
    Confirmed(String),
    /// A configuration was updated.
    Updating(MachineName),
    /// The leftover Node of a machine was deleted: its name.
    NodeDeleted(MachineName, String),
    /// The Node of a machine that leaves is made unschedulable, and its pods are evicted.
    Draining(MachineName, String),
    /// The drain was undone, since the machine stays.
    Undrained(MachineName, String),
    /// A machine left, and a user has to delete its Node.
    NodeStays(MachineName),
    /// A machine left a control plane without Nodes: a person looks whether etcd still has its member.
    MemberStays(MachineName),
    /// NIO's finalizers were removed from a configuration, as the user requested.
    Forced(String),
    /// NIO released a machine that still reports that it is configured.
    LeftBehind(MachineName),
    /// A machine of a control plane with this many members is changed, which cannot keep its quorum meanwhile.
    QuorumNotKept(MachineName, usize),
    /// A configuration was deleted, of a machine that NIO can reach or not.
    GivenBack(String, Reach),
    /// The kubeconfig Secret was written: the file and machine of its origin.
    KubeconfigStored(String),
    /// The stored kubeconfig was replaced: the file and machine of its origin.
    KubeconfigRenewed(String),
    /// The cluster became Ready: with how many machines.
    Ready(String),
    /// The cluster is no longer Ready, in normal operation: why.
    NotReady(String, String),
    /// Something needs the user's attention: reason and message.
    Trouble(String, String),
    /// Another program keeps overwriting the status.
    StatusContested,
    /// A control plane with an even number of members tolerates no more failures than one with one member less.
    EvenControlPlane(usize),
}

/// Whether NIO can reach a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It can.
    Reached,
    /// It cannot, or there is no Machine object to reach it by.
    NotReached,
}

impl Happening {
    fn event(&self) -> (EventType, String, String, String) {
        let normal = |reason: &str, action: &str, note: String| {
            (
                EventType::Normal,
                reason.to_owned(),
                action.to_owned(),
                note,
            )
        };
        let warning = |reason: &str, action: &str, note: String| {
            (
                EventType::Warning,
                reason.to_owned(),
                action.to_owned(),
                note,
            )
        };
        match self {
            Self::Claimed(machines, role) => {
                let named: Vec<&str> = machines.iter().map(MachineName::as_str).collect();
                let (count, named) = (named.len(), named.join(", "));
                let note = match (role, count) {
                    (Role::ControlPlane, 1) => format!("{named} assigned as control plane machine"),
                    (Role::ControlPlane, _) => {
                        format!("{count} machines assigned to the control plane: {named}")
                    }
                    (Role::Worker, 1) => format!("{named} assigned as worker"),
                    (Role::Worker, _) => format!("{count} machines assigned as workers: {named}"),
                };
                normal("Claimed", "Claim", note)
            }
            Self::TakenBack(objects) => normal(
                "TakenBack",
                "TakeBack",
                format!(
                    "took back what an earlier KubernetesCluster of this name left: {}",
                    objects.join(", ")
                ),
            ),
            Self::Confirmed(machine) => normal(
                "Confirmed",
                "Confirm",
                format!("{machine}: configuration applied"),
            ),
            Self::Updating(machine) => normal(
                "Updating",
                "Update",
                format!("{machine}: configuration updated"),
            ),
            Self::NodeDeleted(machine, node) => normal(
                "NodeDeleted",
                "DeleteNode",
                format!("deleted the old Node {node} of Machine {machine}"),
            ),
            Self::Draining(machine, node) => normal(
                "Draining",
                "Drain",
                format!("Machine {machine} leaves: evicting the pods of Node {node}"),
            ),
            Self::Undrained(machine, node) => normal(
                "Undrained",
                "Undrain",
                format!("Machine {machine} stays: Node {node} is as it was before the drain"),
            ),
            Self::Forced(machine) => warning(
                "Forced",
                "Release",
                format!(
                    "removed NIO's finalizers from NixosConfiguration {machine}, as force-release asks: what ran on the machine may still run"
                ),
            ),
            Self::LeftBehind(machine) => warning(
                "LeftBehind",
                "Release",
                format!(
                    "NIO released Machine {machine}, which still reports hasConfiguration: onRemoveFlake may not have run there; check the machine before you use it again"
                ),
            ),
            Self::NodeStays(machine) => warning(
                "NodeStays",
                "Release",
                format!(
                    "Machine {machine} leaves, and NICO does not delete its Node (rollout.nodeChecks is false, or the cluster's own API cannot be reached): delete the Node once the machine is off"
                ),
            ),
            Self::MemberStays(machine) => warning(
                "MemberStays",
                "Release",
                format!(
                    "Machine {machine} left a control plane without Nodes, where NICO cannot see whether its etcd member is gone, too: look with etcdctl member list, and remove the member if it is still there"
                ),
            ),
            Self::QuorumNotKept(machine, n) => warning(
                "QuorumNotKept",
                "Update",
                format!(
                    "the control plane has {}: its API may be unavailable while {machine} is changed",
                    counted(*n, "machine")
                ),
            ),
            Self::GivenBack(machine, reach) => normal(
                "Releasing",
                "Release",
                match reach {
                    Reach::Reached => {
                        format!("{machine}: configuration deleted, NIO applies #minimal")
                    }
                    Reach::NotReached => format!(
                        "{machine}: configuration deleted, and NIO cannot reach the machine: what runs there goes on"
                    ),
                },
            ),
            Self::KubeconfigStored(origin) => normal(
                "KubeconfigStored",
                "Store",
                format!("the kubeconfig is stored, from {origin}"),
            ),
            Self::KubeconfigRenewed(origin) => normal(
                "KubeconfigRenewed",
                "Store",
                format!("the stored kubeconfig is replaced by {origin}"),
            ),
            Self::Ready(machines) => normal(
                "Ready",
                "Reconcile",
                format!("the cluster is Ready: {machines}"),
            ),
            Self::NotReady(reason, message) => normal(reason, "Reconcile", message.clone()),
            Self::Trouble(reason, message) => warning(reason, "Reconcile", message.clone()),
            Self::StatusContested => warning(
                "StatusContested",
                "Reconcile",
                "another program keeps overwriting this status: look for a second NICO with other flags (kubectl get --show-managed-fields names the writers)".to_owned(),
            ),
            Self::EvenControlPlane(count) => warning(
                "EvenControlPlane",
                "Reconcile",
                format!(
                    "a control plane of {count} tolerates no more failures than one of {}: prefer an odd number",
                    count - 1
                ),
            ),
        }
    }
}

impl Happening {
    /// The machine that the event concerns. Events about different machines are not merged into a series.
    fn machine(&self) -> Option<&str> {
        match self {
            Self::Claimed(machines, _) => match &machines[..] {
                [machine] => Some(machine.as_str()),
                _ => None,
            },
            Self::Updating(machine)
            | Self::NodeDeleted(machine, _)
            | Self::Draining(machine, _)
            | Self::Undrained(machine, _)
            | Self::NodeStays(machine)
            | Self::MemberStays(machine)
            | Self::LeftBehind(machine)
            | Self::QuorumNotKept(machine, _) => Some(machine.as_str()),
            Self::Confirmed(machine) | Self::GivenBack(machine, _) | Self::Forced(machine) => {
                Some(machine)
            }
            Self::TakenBack(_)
            | Self::KubeconfigStored(_)
            | Self::KubeconfigRenewed(_)
            | Self::Ready(_)
            | Self::NotReady(..)
            | Self::Trouble(..)
            | Self::StatusContested
            | Self::EvenControlPlane(_) => None,
        }
    }
}

/// Most events that are being sent at the same time, of about 10 kB each. One namespace gets at most half of the places, and one pass over
/// the largest cluster makes fewer events.
const EVENTS_UNDER_WAY: usize = 3072;

/// Writes events in the background.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    room: Gate,
    /// Number of events dropped since the last one that was sent.
    dropped: Arc<AtomicUsize>,
}

impl Events {
    /// An event publisher for this operator.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        let reporter = Reporter {
            controller: format!("{GROUP}/{FIELD_MANAGER}"),
            instance: std::env::var("HOSTNAME").ok(),
        };
        Self {
            recorder: Recorder::new(client, reporter),
            room: Gate::new(EVENTS_UNDER_WAY, 0),
            dropped: Arc::default(),
        }
    }

    /// Publishes an event in the background. A failure is only logged. If many are dropped in a row, the first and their number are
    /// logged.
    pub fn emit(&self, cluster: &ClusterView, happening: &Happening) {
        if let Some(publish) = self.publish(cluster, happening) {
            tokio::spawn(publish.in_current_span());
        }
    }

    /// The same, and waits for the API server's answer, but not for long.
    pub async fn emit_first(&self, cluster: &ClusterView, happening: &Happening) {
        if let Some(publish) = self.publish(cluster, happening) {
            let published = tokio::spawn(publish.in_current_span());
            let _ = tokio::time::timeout(EVENT_GOES_FIRST_FOR, published).await;
        }
    }

    fn publish(
        &self,
        cluster: &ClusterView,
        happening: &Happening,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        // A pass may send more events at once than the runtime lets a task take such steps.
        let room = unconstrained(self.room.enter(&cluster.namespace, "", Class::Other));
        let Some(room) = room.now_or_never().flatten() else {
            if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                warn!("events are lost: the API server takes them more slowly than they happen");
            }
            return None;
        };
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            warn!(events = dropped, "events were lost");
        }
        let (type_, reason, action, note) = happening.event();
        let event = Event {
            type_,
            reason,
            action,
            note: Some(shown_in(&note, MAX_NOTE)),
            secondary: happening.machine().map(|machine| ObjectReference {
                api_version: Some("nio.homystack.com/v1alpha1".to_owned()),
                kind: Some("Machine".to_owned()),
                name: Some(machine.to_owned()),
                namespace: Some(cluster.namespace.clone()),
                ..ObjectReference::default()
            }),
        };
        let reference = ObjectReference {
            api_version: Some(format!("{GROUP}/v1alpha1")),
            kind: Some("KubernetesCluster".to_owned()),
            name: Some(cluster.name.clone()),
            namespace: Some(cluster.namespace.clone()),
            uid: Some(cluster.uid.clone()),
            ..ObjectReference::default()
        };
        let recorder = self.recorder.clone();
        let publish = async move {
            let _room = room;
            if recorder.publish(&event, &reference).await.is_err() {
                debug!(reason = event.reason, "an event was lost");
            }
        };
        // The API server returns the whole object, which others may have made long.
        Some(of_namespace(&cluster.namespace, publish))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
