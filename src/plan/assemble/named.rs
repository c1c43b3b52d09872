//! Evaluates objects that are read by name: whether they exist, belong to the cluster, and can be used.

use std::collections::BTreeMap;

use crate::api::kubeconfig::VALUE_KEY;
use crate::api::ledger::Ledger;
use crate::api::names::{
    MachineName, join_token_name, known_hosts_name, kubeconfig_name, ledger_name, worker_token_name,
};
use crate::api::nio::Machine;
use crate::plan::desired::TOKEN_KEY;
use crate::plan::facts::{Facts, Freshness, MapFacts, Needs, ObjectFacts, Read, SecretFacts};
use crate::plan::observed::{
    KnownHostsView, LedgerView, Left, Observed, SecretView, SshKeyView, Stored,
};
use crate::plan::ssh_key;
use crate::plan::writes::{Child, Precondition, Token};

/// Evaluates the objects of one cluster. A problem counts only if the answer is recent: users fix it, and no watch reports that.
pub(super) struct NamedFacts<'a> {
    facts: &'a Facts,
    /// What must still be read.
    pub(super) needs: Needs,
    /// Children from which NICO's finalizer was removed.
    pub(super) without_finalizer: BTreeMap<Child, Precondition>,
    /// Objects that an earlier cluster of this name left behind.
    pub(super) left: Left,
}

impl<'a> NamedFacts<'a> {
    pub(super) fn of(facts: &'a Facts) -> Self {
        Self {
            facts,
            needs: Needs::default(),
            without_finalizer: BTreeMap::new(),
            left: Left::default(),
        }
    }

    fn secret(&mut self, name: &str, at_least: Freshness) -> Option<&'a SecretFacts> {
        known(&self.facts.secrets, &mut self.needs.secrets, name, at_least)
    }

    fn map(&mut self, name: &str, at_least: Freshness) -> Option<&'a MapFacts> {
        known(&self.facts.maps, &mut self.needs.maps, name, at_least)
    }

    /// Requests a recent read of a Secret with a problem.
    fn doubt_secret(&mut self, name: &str) {
        if self.facts.secrets.contains_key(name) {
            self.secret(name, Freshness::Recent);
        }
    }

    /// Requests a recent read of a ConfigMap with a problem.
    fn doubt_map(&mut self, name: &str) {
        if self.facts.maps.contains_key(name) {
            self.map(name, Freshness::Recent);
        }
    }

    /// How recent the read of a Secret must be if a configuration that is written refers to it: NIO applies without a missing Secret and
    /// reports success.
    fn referred_to(is_written: bool) -> Freshness {
        if is_written {
            Freshness::Recent
        } else {
            Freshness::Remembered
        }
    }

    fn controls(&self, object: &ObjectFacts) -> bool {
        object.is_controlled_by(&self.facts.cluster.uid)
    }

    /// Whether a former cluster of this name left the object. It is being deleted and has NICO's finalizer, and no configuration of that
    /// cluster is left to refer to it. Or it lost its owner before it was deleted.
    fn is_leftover(&mut self, object: &ObjectFacts) -> bool {
        if !object.deleting || !object.in_use {
            return false;
        }
        let Some(uid) = &object.controller else {
            return true;
        };
        if *uid == self.facts.cluster.uid {
            return false;
        }
        let controls_any = self.facts.controllers.get(uid);
        if controls_any.is_none() {
            self.needs.controllers.insert(uid.clone());
        }
        controls_any == Some(&false)
    }

    /// Notes an object of the cluster that should have `in-use` and has not.
    fn note_without_finalizer(&mut self, child: Child, object: &ObjectFacts) {
        if self.controls(object) && !object.deleting && !object.in_use {
            self.without_finalizer.insert(child, object.version.clone());
        }
    }

    /// Notes an object that has the cluster's labels and no existing owner, if it can be used.
    fn note_left(&mut self, child: Child, object: &ObjectFacts) {
        if self.is_left(object) {
            self.left.children.insert(child, object.version.clone());
        }
    }

    fn is_left(&self, object: &ObjectFacts) -> bool {
        let cluster = Some(&self.facts.cluster.name);
        object.left_by.as_ref() == cluster
            && object.adopt.as_ref() != cluster
            && !object.deleting
            && !self.controls(object)
    }

    /// The ledger.
    pub(super) fn ledger(&mut self) -> LedgerView {
        let name = ledger_name(&self.facts.cluster.name);
        let found = self.map(&name, Freshness::Remembered);
        let view = match found {
            None => LedgerView::Absent,
            Some(map) if self.is_leftover(&map.object) => LedgerView::Leftover,
            Some(map) if !self.controls(&map.object) => LedgerView::Foreign,
            // A user deleted it, as messages about an unreadable ledger advise: its finalizer is removed, and a new ledger is created.
            Some(map) if map.object.deleting => LedgerView::Leftover,
            Some(map) => match Ledger::from_data(&map.data) {
                Ok(ledger) => LedgerView::Ours(map.object.version.clone(), ledger),
                Err(error) => LedgerView::Unreadable(error),
            },
        };
        if let Some(map) = found {
            self.note_without_finalizer(Child::Ledger, &map.object);
            match Ledger::from_data(&map.data) {
                _ if !self.is_left(&map.object) => {}
                Ok(ledger) => {
                    self.note_left(Child::Ledger, &map.object);
                    self.left.id = Some(ledger.id);
                }
                Err(error) => self.left.unreadable = Some(error),
            }
        }
        if view.ours().is_none() {
            self.doubt_map(&name);
        }
        view
    }

    /// A token: a single key that is not empty, because classic uses the first key of a Secret.
    pub(super) fn token(&mut self, token: Token) -> SecretView {
        let cluster = &self.facts.cluster.name;
        let name = match token {
            Token::Join => join_token_name(cluster),
            Token::Worker => worker_token_name(cluster),
        };
        let found = self.secret(&name, Self::referred_to(!self.facts.writes.is_empty()));
        let is_usable = |facts: &SecretFacts| {
            facts.keys.len() == 1 && facts.keys.get(TOKEN_KEY).is_some_and(Option::is_some)
        };
        let view = self.judge(found, is_usable);
        if let Some(facts) = found {
            self.note_without_finalizer(token.into(), &facts.object);
            if is_usable(facts) {
                self.note_left(token.into(), &facts.object);
            }
        }
        if !view.usable() {
            self.doubt_secret(&name);
        }
        view
    }

    fn judge(
        &mut self,
        found: Option<&SecretFacts>,
        is_usable: impl Fn(&SecretFacts) -> bool,
    ) -> SecretView {
        let Some(found) = found else {
            return SecretView::Absent;
        };
        let object = &found.object;
        let adopted = object.adopt.as_deref() == Some(&self.facts.cluster.name);
        match (self.controls(object), adopted) {
            (false, false) if self.is_leftover(object) => SecretView::Leftover,
            (false, false) => SecretView::Foreign,
            _ if object.deleting => SecretView::Terminating,
            _ if !is_usable(found) => SecretView::Unusable,
            (true, _) => SecretView::Ours,
            (false, true) => SecretView::Adopted,
        }
    }

    /// The Secret that `credentialsRef` names.
    pub(super) fn credentials(&mut self, name: &str) -> SecretView {
        let view = match self.secret(name, Self::referred_to(!self.facts.writes.is_empty())) {
            None => SecretView::Absent,
            Some(facts) if facts.object.deleting => SecretView::Terminating,
            Some(_) => SecretView::Adopted,
        };
        if !view.usable() {
            self.doubt_secret(name);
        }
        view
    }

    /// The SSH key of a machine, which it gets itself if `given`; `None` until its Secret was read. Only a Secret of the cluster's own
    /// namespace is read.
    pub(super) fn ssh_key(
        &mut self,
        name: &MachineName,
        machine: &Machine,
        given: bool,
    ) -> Option<SshKeyView> {
        let facts = self.facts;
        let secret = match ssh_key::secret_of(name, machine, facts.nio, &facts.cluster.namespace) {
            Ok(secret) => secret,
            Err(view) => return Some(view),
        };
        let found = self.secret(secret, Self::referred_to(facts.writes.contains(name)));
        let view = ssh_key::judge(name, secret, found, facts.nio, given);
        if !matches!(view, SshKeyView::Usable { .. }) {
            self.doubt_secret(secret);
        }
        (!self.needs.secrets.contains_key(secret)).then_some(view)
    }

    /// The kubeconfig's Secret. Returns the digest of the kubeconfig in it, if it belongs to the cluster.
    pub(super) fn kubeconfig(&mut self, observed: &mut Observed) -> Option<String> {
        let name = kubeconfig_name(&self.facts.cluster.name);
        // Until the ledger says that the cluster is founded, a stored kubeconfig shows it. So a cached absence is not enough.
        let ledger = ledger_name(&self.facts.cluster.name);
        let unfounded = self.facts.maps.contains_key(&ledger)
            && observed.ledger.ours().is_none_or(|ledger| !ledger.founded);
        let found = self.secret(
            &name,
            if self.facts.live && unfounded {
                Freshness::Live
            } else {
                Freshness::Remembered
            },
        );
        let value = found.and_then(|facts| facts.keys.get(VALUE_KEY)?.clone());
        if let Some(facts) = found.filter(|facts| facts.is_kubeconfig && value.is_some()) {
            self.note_left(Child::Kubeconfig, &facts.object);
        }
        let view = &mut observed.kubeconfig;
        view.secret = match self.judge(found, |_| value.is_some()) {
            // A kubeconfig cannot be adopted.
            SecretView::Adopted => SecretView::Foreign,
            // The type of a Secret cannot be changed.
            SecretView::Ours | SecretView::Unusable
                if !found.is_some_and(|found| found.is_kubeconfig) =>
            {
                SecretView::Foreign
            }
            view => view,
        };
        let is_ours = matches!(view.secret, SecretView::Ours | SecretView::Unusable);
        view.stored = found.filter(|_| is_ours).map(|found| {
            let as_written = found.kubeconfig.as_ref();
            let as_written = as_written.filter(|it| it.cluster == self.facts.cluster.name);
            Stored {
                version: found.object.version.clone(),
                host: as_written.map(|it| it.host.clone()),
                endpoint: as_written.map(|it| it.endpoint.clone()).unwrap_or_default(),
                port: as_written.and_then(|it| it.port),
                client_certificate: as_written.and_then(|it| it.client_certificate),
                stored: as_written.and_then(|it| it.stored),
            }
        });
        // While it is searched for, a cached absence is enough: it is only stored after another read.
        if !is_ours && (self.facts.live || view.secret != SecretView::Absent) {
            self.doubt_secret(&name);
        }
        value.filter(|_| view.secret == SecretView::Ours)
    }

    /// The pinned host keys.
    pub(super) fn known_hosts(&mut self) -> KnownHostsView {
        let name = known_hosts_name(&self.facts.cluster.name);
        let found = self.map(&name, Freshness::Remembered);
        let view = known_hosts(&self.facts.cluster.uid, found);
        if let Some(map) = found {
            self.note_left(Child::KnownHosts, &map.object);
        }
        // The same: keys are only compared and pinned after another read.
        if view == KnownHostsView::Foreign || self.facts.live && view == KnownHostsView::Absent {
            self.doubt_map(&name);
        }
        view
    }
}

/// Which party the ConfigMap with the pinned host keys belongs to, for the cluster with that uid.
#[must_use]
pub fn known_hosts(uid: &str, map: Option<&MapFacts>) -> KnownHostsView {
    match map {
        None => KnownHostsView::Absent,
        Some(map) if map.object.is_controlled_by(uid) => KnownHostsView::Ours,
        Some(_) => KnownHostsView::Foreign,
    }
}

/// The object with a name, if the answer is recent enough; otherwise it must be read.
fn known<'a, T>(
    read: &'a BTreeMap<String, Read<T>>,
    needs: &mut BTreeMap<String, Freshness>,
    name: &str,
    at_least: Freshness,
) -> Option<&'a T> {
    let answer = read.get(name);
    if answer.is_none_or(|answer| answer.freshness < at_least) {
        let needed = needs.entry(name.to_owned()).or_insert(at_least);
        *needed = at_least.max(*needed);
    }
    answer.and_then(|answer| answer.found.as_ref())
}
