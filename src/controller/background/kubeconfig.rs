//! The kubeconfig of one cluster. The stored one is verified regularly. If there is none, or it is no longer good enough, another is
//! fetched, verified and kept until it is stored.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::fetch::{Fetched, Round};
use super::hosts::Hosts;
use super::pace::Paces;
use super::task::Task;
use crate::api::conditions::{Cause, Reason};
use crate::plan::observed::{ControlPlaneHosts, Fetch, NotWorking, Works};
use crate::plan::patience::KUBECONFIG_TRIED_AGAIN_AFTER;
use crate::remote::gate::Class;

/// How many digests of fetched kubeconfigs are remembered. A kubeconfig is stored within a few rounds after it was fetched, or never.
const REMEMBERED_ROUNDS: usize = 8;

/// The state of the stored kubeconfig, and of the one that will replace it.
#[derive(Default)]
pub(super) struct Kubeconfig {
    pub(super) verifying: Task,
    verified: Option<Verified>,
    /// The circumstances of the current fetch: founding, spec and machines.
    circumstances: String,
    /// When the next connection to each machine is due, for searches and key exchanges alike. It outlives a search, so that a new search does not connect sooner.
    pub(super) paces: Arc<Mutex<Paces>>,
    pub(super) hosts: Hosts,
    pub(super) next: Next,
}

/// Outcome of the last verification of a kubeconfig.
struct Verified {
    /// SHA-256 of the kubeconfig.
    digest: String,
    at: Instant,
    outcome: Result<(), NotWorking>,
    /// Failures in a row, this one included.
    failures: u32,
}

/// The kubeconfig to store next.
#[derive(Default)]
pub(super) struct Next {
    pub(super) fetching: Task,
    /// When fetching was last started.
    pub(super) began: Option<Timestamp>,
    /// Why the last round found none.
    failure: Option<Cause>,
    pub(super) fetched: Option<Fetched>,
    /// SHA-256 of the last fetched kubeconfigs: a later round may replace one while it is being stored.
    brought: VecDeque<String>,
}

/// The outcome of verifying a kubeconfig that no longer exists. It is noted with a digest that differs from the Secret's, so the Secret is
/// read again.
pub(super) fn none_is_stored() -> NotWorking {
    NotWorking {
        unreachable: false,
        why: "the Secret holds none any more".to_owned(),
    }
}

impl Kubeconfig {
    /// Whether the stored kubeconfig with this digest works, how often in a row it failed, and whether to verify it again.
    pub(super) fn works(&self, digest: &str, resync: Duration) -> (Works, u32, bool) {
        let idle = !self.verifying.is_running();
        let Some(verified) = self
            .verified
            .as_ref()
            .filter(|verified| verified.digest == digest)
        else {
            return (Works::Unknown, 0, idle);
        };
        let (works, pause) = match &verified.outcome {
            Ok(()) => (Works::Yes, resync),
            Err(why) => (Works::No(why.clone()), KUBECONFIG_TRIED_AGAIN_AFTER),
        };
        let due = idle && verified.at.elapsed() >= pause;
        (works, verified.failures, due)
    }

    /// Whether the last verification was of another kubeconfig.
    pub(super) fn verified_another(&self, digest: &str) -> bool {
        self.verified
            .as_ref()
            .is_some_and(|verified| verified.digest != digest)
    }

    /// Notes the outcome of verifying the stored kubeconfig.
    pub(super) fn note_verified(&mut self, digest: String, outcome: Result<(), NotWorking>) {
        let before = self
            .verified
            .as_ref()
            .filter(|verified| verified.digest == digest);
        let failures = match outcome {
            Ok(()) => 0,
            Err(_) => before.map_or(0, |before| before.failures).saturating_add(1),
        };
        self.verified = Some(Verified {
            digest,
            at: Instant::now(),
            outcome,
            failures,
        });
    }

    /// The state of the next kubeconfig. One that was fetched under other circumstances belongs to another founding or spec, and is
    /// dropped.
    pub(super) fn under(&mut self, circumstances: &str, hosts: &ControlPlaneHosts) -> Fetch {
        if self.circumstances != circumstances {
            circumstances.clone_into(&mut self.circumstances);
            self.next = Next::default();
        }
        let hosts = self.hosts.state(hosts);
        let next = &self.next;
        Fetch {
            running: next.fetching.is_running(),
            began: next.began,
            failure: next.failure.clone().or_else(|| self.hosts.failure()),
            at_hand: next.fetched.as_ref().map(|fetched| fetched.at_hand.clone()),
            new_host_key: self.hosts.to_write(),
            hosts,
        }
    }

    /// Forgets the fetched kubeconfig, since its circumstances have changed, or none is wanted any more.
    pub(super) fn discard(&mut self) {
        self.next = Next {
            began: self.next.began,
            ..Next::default()
        };
    }

    /// Notes that the kubeconfig with this digest is stored. If it was fetched here, the search is over: all secret bytes are dropped,
    /// including those of a later round. Its verification is kept.
    pub(super) fn note_stored(&mut self, digest: &str) {
        if !self.next.brought.iter().any(|brought| brought == digest) {
            return;
        }
        let fetched = self.next.fetched.take();
        if let Some(fetched) = fetched.filter(|fetched| fetched.digest() == digest) {
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
    /// Notes the outcome of a round; returns whether that is new.
    pub(super) fn note_round(&mut self, mut round: Round) -> bool {
        self.hosts
            .note_changed(std::mem::take(&mut round.host_keys_changed));
        self.next.note_round(round)
    }

    /// Notes that host keys are pinned.
    pub(super) fn note_pinned(&mut self) {
        self.hosts.note_pinned();
        self.next.note_pinned();
    }
}

impl Next {
    /// The class of the first round. If the last one failed, the next may be slow again.
    pub(super) fn class(&self) -> Class {
        match self.failure {
            None => Class::First,
            Some(_) => Class::Other,
        }
    }

    /// Notes the outcome of a round; returns whether that is new.
    pub(super) fn note_round(&mut self, round: Round) -> bool {
        // If a host key has changed, what was fetched before may be from another host, so it is not used.
        if round
            .failure
            .as_ref()
            .is_some_and(|failure| failure.reason == Reason::HostKeyChanged)
        {
            self.fetched = None;
        }
        let other_failure = self.failure != round.failure;
        self.failure = round.failure;
        let other_outcome = round.fetched.is_some_and(|fetched| {
            let verified = |fetched: &Fetched| fetched.at_hand.verified.clone();
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

    /// Notes that host keys are pinned. Fetching starts again with the new pins, since the current search skips these machines.
    fn note_pinned(&mut self) {
        *self = Self {
            failure: self.failure.take(),
            fetched: self.fetched.take(),
            brought: std::mem::take(&mut self.brought),
            ..Self::default()
        };
    }
}
