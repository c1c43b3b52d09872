//! Classic: homystack/NIO, Python on kopf.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::names::{CLASSIC_FINALIZER, ObjectName};
use crate::api::parsed::Parsed;
use crate::plan::observed::Member;
use crate::plan::patience::OLDER_ATTEMPT_RUNS_FOR;

use super::{Nio, Proof, Wanted};

/// Namespace of an SSH Secret if the Machine does not set one.
const DEFAULT_NAMESPACE: &str = "default";

/// Classic.
pub(super) struct Classic;

impl Nio for Classic {
    fn name(&self) -> &'static str {
        "classic"
    }

    fn project(&self) -> &'static str {
        "homystack/NIO"
    }

    fn address_property(&self) -> &'static str {
        "hostname"
    }

    /// The limit of names in Kubernetes.
    fn reach_hint(&self) -> &'static str {
        "check that the machine is on, its address, its SSH key, and that its host key is in NIO's own known_hosts"
    }

    fn longest_name(&self) -> usize {
        63
    }

    fn works_by_jobs(&self) -> bool {
        false
    }

    fn refuses_pin(&self) -> Option<&'static str> {
        Some("classic NIO cannot pin a commit")
    }

    fn follows_pushes(&self, _: Option<&str>) -> Option<&'static str> {
        Some(
            "NIO applies each push to the default branch on all machines at once, in no order: push to another branch, and merge it when all machines may follow",
        )
    }

    fn refuses_full_install(&self) -> Option<&'static str> {
        Some(
            "classic NIO would wipe the disks again on every later apply: set it to false, and install the machines before NICO takes them",
        )
    }

    fn path<'a>(&self, _: Option<&str>, file: &'a str) -> Cow<'a, str> {
        file.into()
    }

    fn first_fields(&self, _: bool) -> Map<String, Value> {
        Map::from_iter([("fullInstall".to_owned(), json!(false))])
    }

    fn rewritten_fields(&self, _: &Member<'_>, _: &Wanted<'_>) -> Map<String, Value> {
        self.first_fields(false)
    }

    fn full_install_differs(&self, held: Option<&Value>) -> bool {
        held.is_some_and(|held| *held != Value::Bool(false))
    }

    fn quiet_fields(
        &self,
        _: &Member<'_>,
        _: &Wanted<'_>,
        _: Timestamp,
    ) -> (Map<String, Value>, Option<Duration>) {
        Default::default()
    }

    fn key_namespace<'a>(
        &self,
        named: Option<&'a Parsed<ObjectName>>,
        _: &'a str,
    ) -> Result<&'a str, &'static str> {
        match named {
            Some(Parsed::Good(namespace)) => Ok(namespace.as_str()),
            Some(Parsed::Malformed) => Err("spec.sshKeySecretRef.namespace"),
            None => Ok(DEFAULT_NAMESPACE),
        }
    }

    fn gives_first_key(&self) -> bool {
        true
    }

    fn proof(&self, member: &Member<'_>) -> Option<Proof> {
        let applied = applied(member)?;
        if applied == member.held.spec.files_hash() {
            member.marker().map(|_| Proof::OfHeld)
        } else {
            Some(Proof::OfAnother)
        }
    }

    fn complaint(&self, member: &Member<'_>) -> Option<String> {
        let applied = member.held.status.as_ref()?.condition("Applied")?;
        (applied.status == "False")
            .then(|| format!("NIO says Applied=False ({})", alphanumeric(&applied.reason)))
    }

    fn older_attempt_runs_for(&self) -> Option<Duration> {
        Some(OLDER_ATTEMPT_RUNS_FOR)
    }

    fn finalizer(&self) -> &'static str {
        CLASSIC_FINALIZER
    }

    fn keeps_without_machine(&self) -> Option<&'static str> {
        Some(
            "its Machine object is gone, and classic NIO never releases it without that: create it again",
        )
    }
}

/// The hash of the list that was applied to the machine, if the rest of the proof is complete.
fn applied<'a>(member: &Member<'a>) -> Option<&'a str> {
    let status = member.held.status.as_ref()?;
    let on = member.machine?.status.as_ref()?;
    let name = Some(member.name.as_str());
    let applied = status
        .condition("Applied")
        .is_some_and(|applied| applied.status == "True" && applied.reason == "Success");
    let says = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let proves = !member.is_deleting()
        && applied
        && status.target_machine.as_deref() == name
        && says(&status.applied_commit)
        && says(&status.additional_files_hash)
        && member.held.spec.machine() == name
        && on.applied_configuration.as_deref() == name;
    status.additional_files_hash.as_deref().filter(|_| proves)
}

/// NIO's reason, reduced to letters and digits: it becomes part of a status that users and tools read.
fn alphanumeric(text: &str) -> String {
    text.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(64)
        .collect()
}
