//! What NIO v1 does, in memory. Its default schedule is never due, so that nothing rests on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nico::api::form::Form as _;
use nico::api::names::{Commit, MachineName, Marker};
use nico::api::nio::{Job, JobState};
use nico::plan::observed::Jobs;

use crate::given::member;
use crate::world::World;

/// What it keeps.
#[derive(Clone, Debug)]
pub struct NioV1 {
    /// By the uid of their configuration.
    pub jobs: Jobs,
    /// The `ref` that each configuration was last applied at, by uid.
    started: BTreeMap<String, String>,
    /// The commit that every branch names.
    pub head: Commit,
    /// Why the git server does not answer; empty where it does.
    pub git_is_away: &'static str,
}

impl Default for NioV1 {
    fn default() -> Self {
        Self {
            jobs: Jobs::new(),
            started: BTreeMap::new(),
            head: commit('a'),
            git_is_away: "",
        }
    }
}

impl NioV1 {
    pub fn forget_jobs(&mut self) {
        self.jobs = Jobs::new();
        self.started.clear();
    }

    /// What the git server answers.
    pub fn answer(&self) -> Result<Commit, String> {
        if self.git_is_away.is_empty() {
            Ok(self.head.clone())
        } else {
            Err(self.git_is_away.to_owned())
        }
    }
}

/// A commit of one digit.
pub fn commit(digit: char) -> Commit {
    Commit::parse(&digit.to_string().repeat(40)).unwrap()
}

/// A Job that applies an attempt.
pub fn job(marker: Option<&Marker>, began: Timestamp, state: JobState) -> Arc<Job> {
    let mut job = Job {
        marker: marker.cloned(),
        state,
        ..Job::default()
    };
    job.metadata.name = Some("a-day2-r-0123456789ab-manual".to_owned());
    job.metadata.creation_timestamp = Some(Time(began));
    Arc::new(job)
}

impl World {
    /// It applies one configuration, or lets go of it. Whether anything changed.
    pub fn apply_as_v1(&mut self, name: &str) -> bool {
        let Some(held) = self.configurations.get(name) else {
            return false;
        };
        let deleting = held.metadata.deletion_timestamp.is_some();
        let uid = held.metadata.uid.clone().unwrap_or_default();
        let marker = member(held).marker();
        let at = held.spec.text("ref").unwrap_or_default().to_owned();
        let every_minute = held.spec.text("dayTwoSchedule") == Some("* * * * *");
        let target = held.spec.machine().and_then(MachineName::parse);
        if deleting {
            let machine = target.and_then(|it| self.machines.get_mut(&it));
            if let Some(machine) = machine {
                let status = machine.status.get_or_insert_default();
                status.has_configuration = false;
                status.applied_configuration = None;
            }
            self.v1.jobs.remove(&uid);
            self.let_go(name);
            return true;
        }
        let Some(target) = target.filter(|it| !self.broken.contains(it)) else {
            return false;
        };
        let status = self.machines.get(&target).and_then(|it| it.status.as_ref());
        let Some(status) = status.filter(|it| it.discoverable) else {
            return false;
        };
        let jobs = self.v1.jobs.get(&uid);
        let of_held = jobs
            .and_then(|jobs| jobs.last())
            .is_some_and(|it| it.marker == marker);
        let shown = status.applied_configuration.as_deref() == Some(name);
        let new_commit = self.v1.started.get(&uid) != Some(&at);
        // The schedule starts no run beside another. A new commit does.
        let runs = jobs.is_some_and(|jobs| jobs.iter().any(|it| it.is_unfinished()));
        if !new_commit && (!every_minute || runs || of_held && shown) {
            return false;
        }
        self.v1.started.insert(uid.clone(), at);
        let done = job(marker.as_ref(), self.now, JobState::Complete(self.now));
        self.v1.jobs.entry(uid).or_default().push(done);
        // No two Jobs end in one second.
        self.wait(1);
        // A Job that a new commit starts is none of the schedule's: only those are told on the Machine.
        if !new_commit {
            let machine = self.machines.get_mut(&target).expect("it is there");
            let status = machine.status.get_or_insert_default();
            status.has_configuration = true;
            status.applied_configuration = Some(name.to_owned());
        }
        if !runs && (!new_commit || shown) {
            self.flying.remove(&target);
        }
        self.runs_as_configured(name);
        true
    }
}
