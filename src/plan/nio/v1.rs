//! V1: kitsunoff/NIO 1.0, Go on controller-runtime.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::names::{Marker, ObjectName, V1_FINALIZER};
use crate::api::nio::{Job, JobState};
use crate::api::parsed::Parsed;
use crate::plan::observed::{Member, elapsed};
use crate::plan::patience::JOB_STARTED_AFTER;

use super::{Nio, Proof, Wanted};

const FULL_INSTALL: &str = "fullInstall";
const SCHEDULE: &str = "dayTwoSchedule";
/// The schedule while a machine waits for its confirmation: the default is every half hour.
const EVERY_MINUTE: &str = "* * * * *";

/// V1.
pub(super) struct V1;

impl Nio for V1 {
    fn name(&self) -> &'static str {
        "v1"
    }

    fn project(&self) -> &'static str {
        "kitsunoff/NIO 1.0"
    }

    fn address_property(&self) -> &'static str {
        "host"
    }

    /// `<name>-day2-r-<12 digits>-manual` is the value of a label: 63 characters.
    fn reach_hint(&self) -> &'static str {
        "check that the machine is on, its address and its SSH key"
    }

    fn longest_name(&self) -> usize {
        36
    }

    fn works_by_jobs(&self) -> bool {
        true
    }

    fn refuses_pin(&self) -> Option<&'static str> {
        None
    }

    fn follows_pushes(&self, git_ref: Option<&str>) -> Option<&'static str> {
        let follows = !git_ref.is_some_and(is_commit);
        follows.then_some(
            "NIO applies each push to spec.ref on all machines at once, in no order: for rolling updates, set spec.refPolicy to Pin",
        )
    }

    fn refuses_full_install(&self) -> Option<&'static str> {
        None
    }

    /// Files are put into the repository's root.
    fn path<'a>(&self, subdir: Option<&str>, file: &'a str) -> Cow<'a, str> {
        match subdir {
            Some(subdir) => format!("{subdir}/{file}").into(),
            None => file.into(),
        }
    }

    /// It applies a new configuration at once, whatever the schedule.
    fn first_fields(&self, full_install: bool) -> Map<String, Value> {
        Map::from_iter([(FULL_INSTALL.to_owned(), json!(full_install))])
    }

    /// It applies a new commit at once: a run of the schedule would overlap that one.
    fn rewritten_fields(&self, member: &Member<'_>, wanted: &Wanted<'_>) -> Map<String, Value> {
        let commit = |git_ref: Option<&str>| git_ref.filter(|it| is_commit(it)).map(str::to_owned);
        let held = commit(member.held.spec.text("ref"));
        let runs_at_once = commit(wanted.git_ref).is_some_and(|new| held != Some(new));
        let schedule = (!runs_at_once).then_some(EVERY_MINUTE);
        let installs = wanted.full_install && asks_full_install(member) && !member.was_confirmed();
        let mut fields = self.first_fields(installs);
        fields.insert(SCHEDULE.to_owned(), json!(schedule));
        fields
    }

    /// It installs once: the field is reset quietly.
    fn full_install_differs(&self, _: Option<&Value>) -> bool {
        false
    }

    fn quiet_fields(
        &self,
        member: &Member<'_>,
        wanted: &Wanted<'_>,
        now: Timestamp,
    ) -> (Map<String, Value>, Option<Duration>) {
        let mut fields = Map::new();
        if asks_full_install(member) && (member.was_confirmed() || !wanted.full_install) {
            fields.insert(FULL_INSTALL.to_owned(), json!(false));
        }
        let hurries = member.held.spec.text(SCHEDULE) == Some(EVERY_MINUTE);
        let mut later = None;
        if member.is_confirmed() {
            if hurries {
                fields.insert(SCHEDULE.to_owned(), Value::Null);
            }
        } else if !(hurries || wanted.paused || is_running(member)) {
            let waited = member.written().map(|written| elapsed(written, now));
            let rest = JOB_STARTED_AFTER.saturating_sub(waited.unwrap_or(JOB_STARTED_AFTER));
            // The Job of a new commit does not come from the schedule, and only Jobs of the schedule make NIO write the configuration's
            // name to the Machine.
            if rest.is_zero() || applied_last(member) == Some(Proof::OfHeld) {
                fields.insert(SCHEDULE.to_owned(), json!(EVERY_MINUTE));
            } else {
                later = Some(rest);
            }
        }
        (fields, later)
    }

    fn key_namespace<'a>(
        &self,
        _: Option<&'a Parsed<ObjectName>>,
        own: &'a str,
    ) -> Result<&'a str, &'static str> {
        Ok(own)
    }

    fn gives_first_key(&self) -> bool {
        false
    }

    /// Its status proves nothing: `Ready` and `resolvedRevision` change before anything is applied.
    fn proof(&self, member: &Member<'_>) -> Option<Proof> {
        let on = member.machine?.status.as_ref()?;
        let name = Some(member.name.as_str());
        let proves = !member.is_deleting()
            && !is_running(member)
            && member.held.spec.machine() == name
            && on.applied_configuration.as_deref() == name;
        applied_last(member).filter(|_| proves)
    }

    fn complaint(&self, member: &Member<'_>) -> Option<String> {
        let status = member.held.status.as_ref()?;
        let stalled = status.condition("Stalled").filter(|it| it.status == "True");
        let phase = status.phase.as_deref();
        let phase = phase.filter(|phase| matches!(*phase, "Blocked" | "Degraded"));
        let complains = phase.or(stalled.map(|_| "Stalled=True"))?;
        let why = stalled.or_else(|| status.condition("Ready"));
        let why = why.map(|why| why.message.as_str()).unwrap_or_default();
        let colon = if why.is_empty() { "" } else { ": " };
        Some(format!("NIO says {complains}{colon}{why}"))
    }

    /// All of its Jobs are known. While one may still run, no other is a proof.
    fn older_attempt_runs_for(&self) -> Option<Duration> {
        None
    }

    fn finalizer(&self) -> &'static str {
        V1_FINALIZER
    }

    fn keeps_without_machine(&self) -> Option<&'static str> {
        None
    }
}

/// Whether a Job of the configuration has not ended.
fn is_running(member: &Member<'_>) -> bool {
    member.jobs.iter().any(|job| job.is_unfinished())
}

/// What the Job that ended last has applied. Times are in seconds, so all Jobs that ended in the same second count.
fn applied_last(member: &Member<'_>) -> Option<Proof> {
    let held: Marker = member.marker()?;
    let ends = member.jobs.iter().filter_map(|job| job.ended());
    let last = ends.max()?;
    let ended = member.jobs.iter().filter(|job| job.ended() == Some(last));
    let mut proofs = ended.map(|job| applies(job, &held));
    let first = proofs.next()??;
    proofs.all(|proof| proof == Some(first)).then_some(first)
}

/// What a finished Job has applied; `None` if it failed.
fn applies(job: &Job, held: &Marker) -> Option<Proof> {
    let of_held = job.marker.as_ref() == Some(held);
    let proof = if of_held {
        Proof::OfHeld
    } else {
        Proof::OfAnother
    };
    matches!(job.state, JobState::Complete(_)).then_some(proof)
}

fn asks_full_install(member: &Member<'_>) -> bool {
    member.held.spec.get(FULL_INSTALL) == Some(&Value::Bool(true))
}

/// Whether a `ref` is a commit, and not a branch or a tag.
fn is_commit(git_ref: &str) -> bool {
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    git_ref.len() == 40 && git_ref.bytes().all(is_digit)
}
