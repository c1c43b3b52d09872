//! The kubeconfig of one cluster: the stored one is verified now and then; where one is missing, or no longer good enough, another
//! is fetched, verified and kept at hand until it is stored.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::fetch::{Fetched, Round};
use super::hosts::Hosts;
use super::pace::Paces;
use super::task::Task;
use crate::api::conditions::{Cause, Reason};
use crate::controller::gate::Class;
use crate::plan::observed::{ControlPlaneHosts, Fetch, NotWorking, Works};
use crate::plan::patience::KUBECONFIG_TRIED_AGAIN_AFTER;

/// Fetched kubeconfigs that are remembered. One is stored a few rounds after it was fetched, or never.
const REMEMBERED_ROUNDS: usize = 8;

/// What is known of the stored kubeconfig, and of the one that is to replace it.
#[derive(Default)]
pub(super) struct Kubeconfig {
    pub(super) verifying: Task,
    verified: Option<Verified>,
    /// Under what the next one is fetched: founding, spec and machines.
    circumstances: String,
    /// When each machine may be connected to. A search that is started again connects no sooner.
    pub(super) paces: Arc<Mutex<Paces>>,
    pub(super) hosts: Hosts,
    pub(super) next: Next,
}

/// How a kubeconfig did when it was last verified.
struct Verified {
    /// SHA-256 of the kubeconfig.
    digest: String,
    at: Instant,
    outcome: Result<(), NotWorking>,
    /// Failures in a row, this one included.
    failures: u32,
}

/// The kubeconfig that is to be stored next.
#[derive(Default)]
pub(super) struct Next {
    pub(super) fetching: Task,
    /// When fetching was last started.
    pub(super) began: Option<Timestamp>,
    /// Why the last round brought none.
    failure: Option<Cause>,
    pub(super) fetched: Option<Fetched>,
    /// SHA-256 of the kubeconfigs that were fetched last: a later round may replace one while it is being stored.
    brought: VecDeque<String>,
}

/// The outcome of verifying a kubeconfig that is not there any more: its digest is no other's, so the Secret is read again.
pub(super) fn none_is_stored() -> NotWorking {
    NotWorking {
        unreachable: false,
        why: "the Secret holds none any more".to_owned(),
    }
}

impl Kubeconfig {
    /// Whether the stored kubeconfig of that digest works, how often in a row it did not, and whether it is to be verified again.
    pub(super) fn works(&self, digest: &str, resync: Duration) -> (Works, u32, bool) {
        let idle = !self.verifying.is_running();
        let Some(verified) = self.verified.as_ref().filter(|it| it.digest == digest) else {
            return (Works::Unknown, 0, idle);
        };
        let (works, pause) = match &verified.outcome {
            Ok(()) => (Works::Yes, resync),
            Err(why) => (Works::No(why.clone()), KUBECONFIG_TRIED_AGAIN_AFTER),
        };
        let due = idle && verified.at.elapsed() >= pause;
        (works, verified.failures, due)
    }

    /// Whether it was another kubeconfig that was verified last.
    pub(super) fn verified_another(&self, digest: &str) -> bool {
        self.verified.as_ref().is_some_and(|it| it.digest != digest)
    }

    /// Notes how the stored kubeconfig did.
    pub(super) fn note_verified(&mut self, digest: String, outcome: Result<(), NotWorking>) {
        let before = self.verified.as_ref().filter(|it| it.digest == digest);
        let failures = match outcome {
            Ok(()) => 0,
            Err(_) => before.map_or(0, |it| it.failures).saturating_add(1),
        };
        self.verified = Some(Verified {
            digest,
            at: Instant::now(),
            outcome,
            failures,
        });
    }

    /// How the next one stands. What was fetched under other circumstances is of another founding or another spec: it is dropped.
    pub(super) fn under(&mut self, circumstances: &str, hosts: &ControlPlaneHosts) -> Fetch {
        if self.circumstances != circumstances {
            circumstances.clone_into(&mut self.circumstances);
            self.next = Next::default();
        }
        let hosts = self.hosts.of(hosts);
        let next = &self.next;
        Fetch {
            running: next.fetching.is_running(),
            began: next.began,
            failure: next.failure.clone().or_else(|| self.hosts.failure()),
            at_hand: next.fetched.as_ref().map(|it| it.at_hand.clone()),
            new_host_key: self.hosts.to_write(),
            hosts,
        }
    }

    /// Forgets what was fetched: what it was fetched under has changed, or nothing is wanted any more.
    pub(super) fn discard(&mut self) {
        self.next = Next {
            began: self.next.began,
            ..Next::default()
        };
    }

    /// A kubeconfig of that digest is stored. Where it was fetched, the search is over: secret bytes go, also those that a later
    /// round brought meanwhile, and what was verified already need not be verified again.
    pub(super) fn note_stored(&mut self, digest: &str) {
        if !self.next.brought.iter().any(|it| it == digest) {
            return;
        }
        let fetched = self.next.fetched.take();
        if let Some(fetched) = fetched.filter(|it| it.digest() == digest) {
            self.note_verified(digest.to_owned(), fetched.at_hand.verified);
        }
        self.paces = Arc::default();
        self.hosts.note_stored();
        self.next = Next {
            began: self.next.began,
            ..Next::default()
        };
    }
}

impl Kubeconfig {
    /// Notes what a round brought; whether that is news.
    pub(super) fn note_round(&mut self, round: Round) -> bool {
        if round.host_key_changed {
            self.hosts.note_changed();
        }
        self.next.note_round(round)
    }

    /// Host keys are pinned.
    pub(super) fn note_pinned(&mut self) {
        self.hosts.note_pinned();
        self.next.note_pinned();
    }
}

impl Next {
    /// The class of the first round. Where one failed, the next may be slow again.
    pub(super) fn class(&self) -> Class {
        match self.failure {
            None => Class::First,
            Some(_) => Class::Other,
        }
    }

    /// Notes what a round brought; whether that is news.
    pub(super) fn note_round(&mut self, round: Round) -> bool {
        // What was fetched from a host that is not who it was is not used.
        if round
            .failure
            .as_ref()
            .is_some_and(|it| it.reason == Reason::HostKeyChanged)
        {
            self.fetched = None;
        }
        let other_failure = self.failure != round.failure;
        self.failure = round.failure;
        let other_outcome = round.fetched.is_some_and(|fetched| {
            let verified = |it: &Fetched| it.at_hand.verified.clone();
            let before = self.fetched.as_ref().map(verified);
            let other = before != Some(verified(&fetched));
            self.brought.push_back(fetched.digest());
            if self.brought.len() > REMEMBERED_ROUNDS {
                self.brought.pop_front();
            }
            self.fetched = Some(fetched);
            other
        });
        other_failure || other_outcome
    }

    /// Host keys are pinned. Fetching starts again, under the new pins: under the old ones it leaves out their machines.
    fn note_pinned(&mut self) {
        *self = Self {
            failure: self.failure.take(),
            fetched: self.fetched.take(),
            brought: std::mem::take(&mut self.brought),
            ..Self::default()
        };
    }
}
