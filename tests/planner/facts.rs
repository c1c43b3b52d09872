//! What the tests say of an object in a word, as the facts that the shell would read of it. The search includes this file.

use std::collections::BTreeMap;

use nico::api::conditions::Reason;
use nico::api::kubeconfig::{KubeconfigFacts, VALUE_KEY};
use nico::api::ledger::Ledger;
use nico::api::nio::SSH_KEY;
use nico::plan::assemble::assemble;
use nico::plan::facts::{Facts, Freshness, MapFacts, Needs, ObjectFacts, Read, SecretFacts};
use nico::plan::observed::{ClusterView, KnownHostsView, Observed, SecretView, SshKeyView, Stored};
use nico::plan::writes::Precondition;

/// Reads until nothing is missing.
pub fn complete(facts: &mut Facts, mut read: impl FnMut(Needs, &mut Facts)) -> Observed {
    for _ in 0..32 {
        match assemble(facts) {
            Ok(observed) => return observed,
            Err(needs) => read(*needs, facts),
        }
    }
    panic!("what is needed is never met: {:?}", assemble(facts).err());
}

pub fn live<T>(found: Option<T>) -> Read<T> {
    let freshness = Freshness::Live;
    Read { found, freshness }
}

/// An object of the cluster's, held by NICO's finalizer.
pub fn ours(cluster: &ClusterView, version: Precondition) -> ObjectFacts {
    ObjectFacts {
        version,
        deleting: false,
        controller: Some(cluster.uid.clone()),
        in_use: true,
        adopt: None,
        left_by: None,
    }
}

pub fn version(uid: &str, resource_version: &str) -> Precondition {
    Precondition {
        uid: uid.to_owned(),
        resource_version: resource_version.to_owned(),
    }
}

/// A Secret of that one key that is seen so.
pub fn secret(view: SecretView, cluster: &ClusterView, key: &str) -> Option<SecretFacts> {
    let mut object = ours(cluster, version("secret", "1"));
    let mut keys = BTreeMap::from([(key.to_owned(), Some("digest".to_owned()))]);
    match view {
        SecretView::Absent => return None,
        SecretView::Ours => {}
        SecretView::Unusable => keys.clear(),
        SecretView::Terminating => object.deleting = true,
        SecretView::Leftover => (object.controller, object.deleting) = (None, true),
        SecretView::Foreign => object.controller = None,
        SecretView::Adopted => {
            (object.controller, object.adopt) = (None, Some(cluster.name.clone()));
        }
    }
    Some(SecretFacts {
        object,
        keys,
        fingerprint: None,
        is_kubeconfig: false,
        kubeconfig: None,
    })
}

/// The Secret with a machine's SSH key.
pub fn ssh_key(view: &SshKeyView, cluster: &ClusterView) -> Option<SecretFacts> {
    let mut facts = secret(SecretView::Foreign, cluster, SSH_KEY)?;
    facts.fingerprint = Some(Ok("SHA256:unusable".to_owned()));
    match view {
        SshKeyView::Usable { fingerprint, .. } => facts.fingerprint = Some(Ok(fingerprint.clone())),
        SshKeyView::Unusable(cause) if cause.reason == Reason::SSHKeyUnusable => {
            facts.keys.insert("another".to_owned(), None);
        }
        SshKeyView::Unusable(_) => return None,
    }
    Some(facts)
}

/// The Secret with the kubeconfig.
pub fn kubeconfig(view: SecretView, cluster: &ClusterView, stored: &Stored) -> Option<SecretFacts> {
    let mut facts = secret(view, cluster, VALUE_KEY)?;
    facts.object.version = stored.version.clone();
    facts.is_kubeconfig = true;
    facts.kubeconfig = stored.host.clone().map(|host| KubeconfigFacts {
        cluster: cluster.name.clone(),
        host,
        endpoint: stored.endpoint.clone(),
        port: stored.port,
        client_certificate: stored.client_certificate,
        stored: stored.stored,
    });
    Some(facts)
}

pub fn known_hosts(view: KnownHostsView, cluster: &ClusterView) -> Option<MapFacts> {
    let mut object = ours(cluster, version("known-hosts", "1"));
    match view {
        KnownHostsView::Absent => return None,
        KnownHostsView::Ours => {}
        KnownHostsView::Foreign => object.controller = None,
    }
    let data = BTreeMap::new();
    Some(MapFacts { object, data })
}

pub fn ledger(ledger: &Ledger, cluster: &ClusterView, version: Precondition) -> MapFacts {
    MapFacts {
        object: ours(cluster, version),
        data: ledger.to_data(),
    }
}
