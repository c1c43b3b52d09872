//! Why a machine cannot be claimed.

use kube::core::Selector;

use crate::api::conditions::{Cause, Reason};
use crate::api::names::{MachineName, RELEASE_ANNOTATION};
use crate::api::nio::Machine;
use crate::api::status::Role;
use crate::plan::desired::ON_REMOVE_FLAKE;
use crate::plan::nio;
use crate::plan::observed::{Holder, Observed, PAUSE, SshKeyView};

use super::pool;

/// Why a machine, or several, cannot be claimed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Obstacle {
    /// The machine, if it concerns only one.
    pub machine: Option<MachineName>,
    /// Why.
    pub cause: Cause,
    /// What kind of obstacle it is.
    pub kind: ObstacleKind,
}

/// The kind of an obstacle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObstacleKind {
    /// The machine is in use; by the cluster with this uid if it is another one.
    InUse(Option<String>),
    /// Its SSH key cannot be used.
    UnusableKey,
    /// Its address or its name is invalid.
    Unusable,
    /// Anything else.
    Other,
}

impl Obstacle {
    /// The uid of the other cluster that uses the machine.
    #[must_use]
    pub fn rival(&self) -> Option<&String> {
        match &self.kind {
            ObstacleKind::InUse(rival) => rival.as_ref(),
            ObstacleKind::UnusableKey | ObstacleKind::Unusable | ObstacleKind::Other => None,
        }
    }
}

pub(super) fn configured(machine: &Machine) -> bool {
    machine
        .status
        .as_ref()
        .is_some_and(|status| status.has_configuration)
}

pub(super) fn configured_obstacle(machine: &MachineName) -> Obstacle {
    Obstacle {
        machine: Some(machine.clone()),
        cause: Cause::new(
            Reason::MachineInUse,
            format!(
                "Machine {machine} says hasConfiguration though no NixosConfiguration names it; list it under machines to use it anyway"
            ),
        ),
        kind: ObstacleKind::InUse(None),
    }
}

pub(super) fn released(observed: &Observed, machine: &MachineName) -> bool {
    observed.machine(machine).is_some_and(is_released)
}

/// Whether the user has annotated the Machine so that no selector chooses it.
pub(super) fn is_released(machine: &Machine) -> bool {
    let annotations = machine.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(RELEASE_ANNOTATION))
        .is_some_and(|value| value == "true")
}

/// The obstacle of a Machine that a selector matches and whose name is not a DNS label.
pub(super) fn misnamed_obstacle(name: &str, selector: &Selector) -> Obstacle {
    let (chosen, instead) = if selector.selects_all() {
        (
            "is matched by the empty selector",
            "give the selector labels that it does not have",
        )
    } else {
        ("matches the selector", "take its labels away")
    };
    Obstacle {
        machine: None,
        cause: Cause::new(
            Reason::MachineNameUnusable,
            format!(
                "Machine {name} {chosen}, and its name cannot be used: it must be a DNS label, of at most 63 lower-case letters, digits and hyphens, since it becomes a host name and a label value; create the Machine again under such a name, or {instead}"
            ),
        ),
        kind: ObstacleKind::Other,
    }
}

/// The cause for a Machine whose address is invalid.
#[must_use]
pub fn malformed_address(name: &MachineName, field: &str) -> Cause {
    Cause::new(
        Reason::MachineAddressMalformed,
        format!(
            "{field} of Machine {name} is neither an IP address nor a plain host name: correct it"
        ),
    )
}

/// The cause for a machine that NIO cannot reach.
#[must_use]
pub fn undiscoverable(observed: &Observed, name: &MachineName) -> Cause {
    let hint = observed.nio.map_or_else(String::new, |nio| {
        format!(": {}", nio::for_generation(nio).reach_hint())
    });
    Cause::new(
        Reason::MachineUndiscoverable,
        format!("Machine {name} is not discoverable, NIO cannot reach it{hint}"),
    )
}

/// The field of the spec that lists a machine.
fn listed_in(observed: &Observed, name: &MachineName) -> &'static str {
    let lists = |role| {
        let spec = observed.spec.as_ref();
        spec.is_ok_and(|spec| pool(spec, role).listed().any(|it| it == name))
    };
    match Role::ALL.into_iter().find(|role| lists(*role)) {
        Some(Role::ControlPlane) => "spec.controlPlane.machines",
        Some(Role::Worker) => "spec.dataPlane.machines",
        None => "the spec",
    }
}

/// Why a machine cannot be claimed now; `None` if it can.
pub(super) fn obstacle(observed: &Observed, name: &MachineName) -> Option<Obstacle> {
    let found = |reason, message: String, kind| {
        Some(Obstacle {
            machine: Some(name.clone()),
            cause: Cause::new(reason, message),
            kind,
        })
    };
    match observed.holder(name) {
        Holder::Nobody => {}
        Holder::Us(_, true) => {
            return found(
                Reason::GivingBack,
                format!(
                    "Machine {name} is being released by this cluster: it joins again by itself once NIO has released it"
                ),
                ObstacleKind::Other,
            );
        }
        Holder::Us(role, false) => {
            return found(
                Reason::GivingBack,
                format!(
                    "Machine {name} is still held by this cluster as {}: it leaves that role first, and joins then by itself",
                    role.as_str()
                ),
                ObstacleKind::InUse(None),
            );
        }
        Holder::Cluster(cluster, _) if cluster == observed.cluster.name => {
            return found(
                Reason::MachineInUse,
                format!("NixosConfiguration {name} {PAUSE}"),
                ObstacleKind::InUse(None),
            );
        }
        Holder::Cluster(cluster, uid) => {
            return found(
                Reason::MachineInUse,
                format!(
                    "Machine {name} is held by KubernetesCluster {cluster}: choose another one, or remove it from {cluster}"
                ),
                ObstacleKind::InUse(Some(uid)),
            );
        }
        Holder::Configuration(configuration) => {
            return found(
                Reason::MachineInUse,
                format!(
                    "Machine {name} is held by NixosConfiguration {configuration}, which no KubernetesCluster owns: choose another one, or delete that NixosConfiguration"
                ),
                ObstacleKind::InUse(None),
            );
        }
    }
    let Some(machine) = observed.machines.get(name) else {
        return found(
            Reason::MachineMissing,
            format!(
                "Machine {name} does not exist in namespace {}: create it, or correct {}",
                observed.cluster.namespace,
                listed_in(observed, name)
            ),
            ObstacleKind::Other,
        );
    };
    if machine.metadata.deletion_timestamp.is_some() {
        return found(
            Reason::MachineMissing,
            format!(
                "Machine {name} is being deleted: create it again once it is gone, or correct the spec"
            ),
            ObstacleKind::Other,
        );
    }
    if ON_REMOVE_FLAKE.strip_prefix('#') == Some(name.as_str()) {
        return found(
            Reason::MachineNameUnusable,
            format!(
                "Machine {name} has the name of the flake's output for released machines, {ON_REMOVE_FLAKE}: create it again under another name, or take it out of the spec"
            ),
            ObstacleKind::Unusable,
        );
    }
    let longest = observed
        .nio
        .map(|nio| nio::for_generation(nio).longest_name());
    if let Some(longest) = longest.filter(|longest| name.as_str().len() > *longest) {
        return found(
            Reason::MachineNameTooLong,
            format!(
                "Machine {name} has a name of more than {longest} characters, from which this NIO cannot make the names of its Jobs: create it under a shorter one"
            ),
            ObstacleKind::Unusable,
        );
    }
    if let Some(field) = machine.malformed_address() {
        let Cause { reason, message } = malformed_address(name, field);
        return found(reason, message, ObstacleKind::Unusable);
    }
    if !observed.discoverable(name) {
        let Cause { reason, message } = undiscoverable(observed, name);
        return found(reason, message, ObstacleKind::Other);
    }
    if machine.address().is_none() {
        let mend = observed.nio.map_or_else(String::new, |nio| {
            let field = nio::for_generation(nio).address_property();
            format!(": set spec.{field}")
        });
        return found(
            Reason::MachineUndiscoverable,
            format!("Machine {name} has no address{mend}"),
            ObstacleKind::Other,
        );
    }
    None
}

/// Why a machine has no usable SSH key; `None` if it has one.
pub(super) fn key_obstacle(observed: &Observed, machine: &MachineName) -> Option<Obstacle> {
    let (kind, cause) = match observed.ssh_keys.get(machine) {
        Some(SshKeyView::Usable { .. }) => return None,
        Some(SshKeyView::Unusable(cause)) => (ObstacleKind::UnusableKey, cause.clone()),
        None => (
            ObstacleKind::Other,
            Cause::new(
                Reason::Unknown,
                format!("the SSH key of Machine {machine} was not read yet"),
            ),
        ),
    };
    Some(Obstacle {
        machine: Some(machine.clone()),
        cause,
        kind,
    })
}
