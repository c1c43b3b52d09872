//! The Jobs of NIO v1 as the planner is shown them.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nico::api::nio::{Job, JobState};

use crate::compact::{Attempt, Jobs};
use crate::mutation::Mutation;
use crate::texts::Texts;

/// The Jobs of a configuration that holds this attempt; a mutation shows those that a weaker proof would look at.
pub fn objects(
    jobs: &Jobs,
    held: Attempt,
    texts: &Texts,
    (mutation, now): (Mutation, Timestamp),
) -> Vec<Arc<Job>> {
    let ago = |seconds: i64| now - SignedDuration::from_secs(seconds);
    let of = |number: u8, state: JobState| {
        let mut job = Job {
            marker: Some(texts.marker(Attempt { number, ..held })),
            state,
            ..Job::default()
        };
        job.metadata.name = Some("a-job".to_owned());
        job.metadata.creation_timestamp = Some(Time(ago(30)));
        Arc::new(job)
    };
    let is_of_held = |ended: &(i64, (u8, bool))| ended.1 == (held.number, true);
    let ended = [10, 20].into_iter().zip(jobs.ended);
    let mut ended: Vec<_> = ended.filter_map(|(at, job)| Some((at, job?))).collect();
    let mut running: Vec<u8> = jobs.running.into_iter().flatten().collect();
    match mutation {
        Mutation::ReadyIsProof => {
            running.clear();
            ended = vec![(10, (held.number, true))];
        }
        Mutation::UnfinishedJobsAside => running.clear(),
        Mutation::AnyCompleteJob if ended.iter().any(is_of_held) => ended.retain(is_of_held),
        _ => {}
    }
    let ended = ended.into_iter().map(|(at, (number, succeeded))| {
        let state = if succeeded {
            JobState::Complete(ago(at))
        } else {
            JobState::Failed(ago(at))
        };
        of(number, state)
    });
    let running = running.into_iter();
    ended
        .chain(running.map(|number| of(number, JobState::Unfinished)))
        .collect()
}
