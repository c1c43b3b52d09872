//! What is read by name, judged for one cluster: is it there, is it ours, can it be used? (SPEC 3.1, 3.6, 6)

use std::time::Duration;

use super::calls::CallError;
use super::context::Context;
use super::named::{Facts, MapFacts, SecretFacts};
use super::stores::{Stores, owner_key};
use crate::api::ledger::Ledger;
use crate::api::names::{MachineName, known_hosts_name, kubeconfig_name, ledger_name};
use crate::api::nio::{Generation, Machine};
use crate::plan::desired::TOKEN_KEY;
use crate::plan::observed::{
    ClusterView, KnownHostsView, KubeconfigView, LedgerView, SecretView, SshKeyView, Stored, Works,
};
use crate::plan::ssh_key::{KeySecret, judge, secret_of};
use crate::plan::writes::Precondition;
use crate::remote::known_hosts::KNOWN_HOSTS_KEY;
use crate::remote::kubeconfig::facts::VALUE_KEY;

/// What every look by name needs.
pub(super) struct Views<'a> {
    /// The operator.
    pub(super) context: &'a Context,
    /// Configurations, cached or just listed.
    pub(super) stores: &'a Stores,
    /// The cluster that asks.
    pub(super) cluster: &'a ClusterView,
}

impl Views<'_> {
    async fn secret(
        &self,
        name: &str,
        age: Duration,
        as_hoped: impl Fn(&SecretFacts) -> bool,
    ) -> Result<Option<SecretFacts>, CallError> {
        let Context { client, named, .. } = self.context;
        named
            .secret(client, &self.cluster.namespace, name, age, as_hoped)
            .await
    }

    async fn map(
        &self,
        name: &str,
        age: Duration,
        as_hoped: impl Fn(&MapFacts) -> bool,
    ) -> Result<Option<MapFacts>, CallError> {
        let Context { client, named, .. } = self.context;
        named
            .map(client, &self.cluster.namespace, name, age, as_hoped)
            .await
    }

    fn is_ours(&self, facts: &Facts) -> bool {
        facts.is_owned_by(&self.cluster.uid)
    }

    /// Left by a former cluster of this name, which is gone since this one has the name: being deleted, held by NICO's
    /// finalizer, and no configuration of that cluster is left to refer to it. Or it lost its owner, and was deleted then.
    fn is_leftover(&self, facts: &Facts) -> bool {
        facts.deleting
            && facts.is_held()
            && facts.controller.as_ref().is_none_or(|uid| {
                *uid != self.cluster.uid
                    && self
                        .stores
                        .configurations
                        .find(&self.cluster.namespace, &owner_key(uid))
                        .is_empty()
            })
    }

    /// The version of what is ours and should carry `in-use`, where somebody took that off (SPEC 3.1, 3.6).
    fn unheld(&self, facts: &Facts) -> Option<Precondition> {
        (self.is_ours(facts) && !facts.deleting && !facts.is_held()).then(|| facts.version.clone())
    }

    /// The ledger (SPEC 3.6), as it was at most `age` ago; and its version where NICO's finalizer is missing on it.
    pub(super) async fn ledger(
        &self,
        age: Duration,
    ) -> Result<(LedgerView, Option<Precondition>), CallError> {
        let readable =
            |map: &MapFacts| self.is_ours(&map.facts) && Ledger::from_data(&map.data).is_ok();
        let name = ledger_name(&self.cluster.name);
        let map = self.map(&name, age, readable).await?;
        Ok(self.judge_ledger(map))
    }

    /// What a ConfigMap of the ledger's name is.
    pub(super) fn judge_ledger(&self, map: Option<MapFacts>) -> (LedgerView, Option<Precondition>) {
        let unheld = map.as_ref().and_then(|map| self.unheld(&map.facts));
        let view = match map {
            None => LedgerView::Absent,
            Some(map) if self.is_leftover(&map.facts) => LedgerView::Leftover,
            Some(map) if !self.is_ours(&map.facts) => LedgerView::Foreign,
            // Somebody deleted it, as the messages about a ledger of no use advise: it is let go, and made anew.
            Some(map) if map.facts.deleting => LedgerView::Leftover,
            Some(map) => match Ledger::from_data(&map.data) {
                Ok(ledger) => LedgerView::Ours(map.facts.version, ledger),
                Err(error) => LedgerView::Unreadable(error),
            },
        };
        (view, unheld)
    }

    /// A token: one key, not empty, since classic hands out the first key of a Secret (NIO.md); and its version where NICO's
    /// finalizer is missing on it.
    pub(super) async fn token(
        &self,
        name: &str,
        age: Duration,
    ) -> Result<(SecretView, Option<Precondition>), CallError> {
        let usable = |facts: &SecretFacts| {
            facts.keys.len() == 1 && facts.keys.get(TOKEN_KEY).is_some_and(Option::is_some)
        };
        let facts = self
            .secret(name, age, |facts| self.judge(Some(facts), usable).usable())
            .await?;
        let unheld = facts.as_ref().and_then(|facts| self.unheld(&facts.facts));
        Ok((self.judge(facts.as_ref(), usable), unheld))
    }

    fn judge(
        &self,
        facts: Option<&SecretFacts>,
        usable: impl Fn(&SecretFacts) -> bool,
    ) -> SecretView {
        let Some(found) = facts else {
            return SecretView::Absent;
        };
        let ours = self.is_ours(&found.facts);
        let adopted = found.facts.adopt.as_deref() == Some(&self.cluster.name);
        match (ours, adopted) {
            (false, false) if self.is_leftover(&found.facts) => SecretView::Leftover,
            (false, false) => SecretView::Foreign,
            _ if found.facts.deleting => SecretView::Terminating,
            _ if !usable(found) => SecretView::Unusable,
            (true, _) => SecretView::Ours,
            (false, true) => SecretView::Adopted,
        }
    }

    /// The Secret that `credentialsRef` names.
    pub(super) async fn credentials(
        &self,
        name: &str,
        age: Duration,
    ) -> Result<SecretView, CallError> {
        let is_there = |facts: &SecretFacts| !facts.facts.deleting;
        let facts = self.secret(name, age, is_there).await?;
        Ok(match facts {
            None => SecretView::Absent,
            Some(facts) if facts.facts.deleting => SecretView::Terminating,
            Some(_) => SecretView::Adopted,
        })
    }

    /// The SSH key of a machine, `given` to it or for NICO alone. Only a Secret of the cluster's own namespace is read.
    pub(super) async fn ssh_key(
        &self,
        nio: Option<Generation>,
        name: &MachineName,
        machine: &Machine,
        given: bool,
        age: Duration,
    ) -> Result<SshKeyView, CallError> {
        let secret = match secret_of(name, machine, nio, &self.cluster.namespace) {
            Ok(secret) => secret,
            Err(view) => return Ok(view),
        };
        let judge = |facts: Option<&SecretFacts>| {
            let found = facts.map(|facts| KeySecret {
                first: facts.keys.keys().next().map(String::as_str),
                fingerprint: facts.fingerprint.as_ref(),
            });
            judge(name, secret, found, nio, given)
        };
        let is_usable =
            |facts: &SecretFacts| matches!(judge(Some(facts)), SshKeyView::Usable { .. });
        let facts = self.secret(secret, age, is_usable).await?;
        Ok(judge(facts.as_ref()))
    }

    /// The kubeconfig, stored and on its way; `circumstances` are those under which it is being read now.
    pub(super) async fn kubeconfig(
        &self,
        circumstances: &str,
        age: Duration,
    ) -> Result<KubeconfigView, CallError> {
        let name = kubeconfig_name(&self.cluster.name);
        let facts = self
            .secret(&name, age, |facts| {
                self.is_ours(&facts.facts) && !facts.facts.deleting
            })
            .await?;
        let value = facts
            .as_ref()
            .and_then(|facts| facts.keys.get(VALUE_KEY).cloned().flatten());
        let secret = match self.judge(facts.as_ref(), |_| value.is_some()) {
            // There is no adopting of a kubeconfig.
            SecretView::Adopted => SecretView::Foreign,
            // One of another type cannot become what NICO writes.
            SecretView::Ours | SecretView::Unusable
                if !facts.as_ref().is_some_and(|found| found.is_kubeconfig) =>
            {
                SecretView::Foreign
            }
            view => view,
        };
        let stored = facts.as_ref().map(|found| {
            let as_written = found.kubeconfig.as_ref();
            let as_written = as_written.filter(|it| it.cluster == self.cluster.name);
            Stored {
                version: found.facts.version.clone(),
                host: as_written.map(|it| it.host.clone()),
                endpoint: as_written.map(|it| it.endpoint.clone()).unwrap_or_default(),
                client_certificate: as_written.and_then(|it| it.client_certificate),
            }
        });
        let Context { background, .. } = self.context;
        let (works, failures, try_again) = match (&value, secret) {
            (Some(digest), SecretView::Ours) => {
                if stored.as_ref().is_some_and(|it| it.host.is_some()) {
                    background.note_stored(&self.cluster.uid, digest);
                }
                if background.verified_another(&self.cluster.uid, digest) {
                    // It was replaced since it was looked at.
                    self.context.named.forget(&self.cluster.namespace, &name);
                }
                background.works(&self.cluster.uid, digest)
            }
            _ => (Works::Unknown, 0, false),
        };
        let is_ours = matches!(secret, SecretView::Ours | SecretView::Unusable);
        Ok(KubeconfigView {
            secret,
            stored: stored.filter(|_| is_ours),
            works,
            failures,
            try_again,
            fetch: background.fetch(&self.cluster.uid, circumstances),
        })
    }

    /// The pinned host keys: whose they are, and their text.
    pub(super) async fn known_hosts(
        &self,
        age: Duration,
    ) -> Result<(KnownHostsView, String), CallError> {
        let name = known_hosts_name(&self.cluster.name);
        let map = self.map(&name, age, |map| self.is_ours(&map.facts)).await?;
        let Some(mut map) = map else {
            return Ok((KnownHostsView::Absent, String::new()));
        };
        let text = map.data.remove(KNOWN_HOSTS_KEY).unwrap_or_default();
        let view = if self.is_ours(&map.facts) {
            KnownHostsView::Ours
        } else {
            KnownHostsView::Foreign
        };
        Ok((view, text))
    }
}
