//! Has exactly the attempt that a configuration holds been applied to its machine? (SPEC 3.5; NIO.md, "What proves that a machine is confirmed")

use crate::api::names::{CONFIRMED_ANNOTATION, Marker};
use crate::api::nio::{Generation, Machine, NixosConfiguration};

use super::files_hash::additional_files_hash;

/// The marker that a configuration holds: the path of its last additional file.
#[must_use]
pub fn held_marker(configuration: &NixosConfiguration) -> Option<Marker> {
    let path = configuration.spec.files().last()?.get("path")?.as_str()?;
    Marker::from_path(path)
}

/// The annotation that keeps NIO's proof, whatever its value.
#[must_use]
pub fn kept(configuration: &NixosConfiguration) -> Option<&str> {
    configuration
        .metadata
        .annotations
        .as_ref()?
        .get(CONFIRMED_ANNOTATION)
        .map(String::as_str)
}

/// Whether the held attempt is confirmed: the annotation equals the held marker.
#[must_use]
pub fn is_confirmed(configuration: &NixosConfiguration) -> bool {
    held_marker(configuration).is_some_and(|marker| kept(configuration) == Some(marker.as_str()))
}

/// Whether some attempt was ever confirmed.
#[must_use]
pub fn once_confirmed(configuration: &NixosConfiguration) -> bool {
    kept(configuration).is_some()
}

/// Whether NIO proves now that the held attempt was applied.
#[must_use]
pub fn proved(
    nio: Generation,
    configuration: &NixosConfiguration,
    machine: Option<&Machine>,
) -> bool {
    match nio {
        Generation::Classic => proved_by_classic(configuration, machine),
        // Its proof is made of Jobs, which this release does not read.
        Generation::V1 => false,
    }
}

/// Whether NIO proves now that another attempt than the held one was applied last (SPEC 3.5).
#[must_use]
pub fn speaks_of_another(
    nio: Generation,
    configuration: &NixosConfiguration,
    machine: Option<&Machine>,
) -> bool {
    match nio {
        Generation::Classic => classics_proof(configuration, machine)
            .is_some_and(|applied| applied != additional_files_hash(configuration.spec.files())),
        Generation::V1 => false,
    }
}

fn proved_by_classic(configuration: &NixosConfiguration, machine: Option<&Machine>) -> bool {
    held_marker(configuration).is_some()
        && classics_proof(configuration, machine)
            .is_some_and(|applied| applied == additional_files_hash(configuration.spec.files()))
}

/// The hash of the list that classic applied to this machine, where all else that proves it is there (NIO.md).
fn classics_proof<'a>(
    configuration: &'a NixosConfiguration,
    machine: Option<&Machine>,
) -> Option<&'a str> {
    let (Some(status), Some(machine)) = (
        &configuration.status,
        machine.and_then(|machine| machine.status.as_ref()),
    ) else {
        return None;
    };
    let name = configuration.metadata.name.as_deref();
    let applied = status
        .condition("Applied")
        .is_some_and(|applied| applied.status == "True" && applied.reason == "Success");
    let named = |text: &Option<String>| {
        text.as_deref()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let hash = status.additional_files_hash.as_deref()?;
    (configuration.metadata.deletion_timestamp.is_none()
        && applied
        && status
            .target_machine
            .as_deref()
            .is_some_and(|target| Some(target) == configuration.spec.machine())
        && named(&status.applied_commit).is_some()
        && !hash.is_empty()
        && name.is_some()
        && configuration.spec.machine() == name
        && machine.applied_configuration.as_deref() == name)
        .then_some(hash)
}

/// What NIO has against a machine, for a person; `None` where it has nothing (SPEC 1.2, Ready).
#[must_use]
pub fn complaint(nio: Generation, configuration: &NixosConfiguration) -> Option<String> {
    let status = configuration.status.as_ref()?;
    match nio {
        Generation::Classic => {
            let applied = status.condition("Applied")?;
            (applied.status == "False")
                .then(|| format!("NIO says Applied=False ({})", word(&applied.reason)))
        }
        Generation::V1 => {
            let stalled = status
                .condition("Stalled")
                .is_some_and(|stalled| stalled.status == "True");
            let phase = status
                .phase
                .as_deref()
                .filter(|phase| matches!(*phase, "Blocked" | "Degraded"));
            (stalled || phase.is_some())
                .then(|| format!("NIO says {}", phase.unwrap_or("Stalled=True")))
        }
    }
}

/// What NIO calls a reason, cut to one word: it goes into a status that people and tools read.
fn word(text: &str) -> String {
    text.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(64)
        .collect()
}
