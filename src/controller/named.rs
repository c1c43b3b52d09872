//! Objects that are read by name, and remembered until the next resync or NICO's own write. Secrets are neither listed nor watched, since
//! that would expose all of them. Only facts about a Secret are kept, never a value. The exception is the kubeconfig of a cluster, which is
//! used again and again.

mod kept;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use zeroize::Zeroize;

use super::calls::{self, CallError};
use super::schedule::{KUBECONFIG_MEMORY, RECENT_READ_AGE};
use crate::api::digest::sha256;
use crate::api::kubeconfig::{KUBECONFIG_TYPE, VALUE_KEY};
use crate::api::ledger::longest_value;
use crate::api::nio::SSH_KEY;
use crate::plan::facts::{Freshness, MapFacts, ObjectFacts, Read, SecretFacts};
use crate::plan::writes::Precondition;
use crate::remote::known_hosts::KNOWN_HOSTS_KEY;
use crate::remote::kubeconfig::facts as kubeconfig;
use crate::remote::lock::lock;
use crate::remote::offload::{ANSWERS, KEYS};
use crate::remote::secret::SecretText;
use crate::remote::ssh::{KeyError, MAX_TEXT, fingerprint_of_public_half};
use kept::{KeptMap, KeptSecret, SECRET_KEYS};

/// Most fingerprints that are remembered, of 200 bytes each.
const MAX_FINGERPRINTS: usize = 10_000;

/// Reads by name.
pub struct NamedReads {
    client: kube::Client,
    resync: Duration,
    secrets: Remembered<SecretFacts>,
    maps: Remembered<MapFacts>,
    /// The fingerprints of private keys, by the digest of their text.
    fingerprints: Mutex<HashMap<String, Result<String, KeyError>>>,
    /// The kubeconfigs of recently probed clusters, each with the version of its Secret.
    kubeconfigs: Remembered<(Precondition, SecretText)>,
}

type Remembered<T> = Mutex<HashMap<(String, String), (Instant, Option<T>)>>;

impl NamedReads {
    /// An empty memory; reads are remembered for `resync`.
    #[must_use]
    pub fn new(client: kube::Client, resync: Duration) -> Self {
        Self {
            client,
            resync,
            secrets: Mutex::default(),
            maps: Mutex::default(),
            fingerprints: Mutex::default(),
            kubeconfigs: Mutex::default(),
        }
    }

    /// Forgets an object, so that the next lookup reads it.
    pub fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        lock(&self.secrets).remove(&key);
        lock(&self.maps).remove(&key);
        lock(&self.kubeconfigs).remove(&key);
    }

    /// Forgets reads that are too old.
    pub fn expire(&self) {
        lock(&self.secrets).retain(|_, (at, _)| at.elapsed() < self.resync);
        lock(&self.maps).retain(|_, (at, _)| at.elapsed() < self.resync);
        lock(&self.kubeconfigs).retain(|_, (at, _)| at.elapsed() < KUBECONFIG_MEMORY);
    }

    /// The kubeconfig in a Secret, to reach the cluster. It is remembered for [`KUBECONFIG_MEMORY`] while the Secret has this version,
    /// since a changing cluster is probed every few seconds.
    pub async fn kubeconfig(
        &self,
        namespace: &str,
        name: &str,
        version: &Precondition,
    ) -> Result<Option<SecretText>, CallError> {
        let key = (namespace.to_owned(), name.to_owned());
        let is_fresh = |at: &Instant| at.elapsed() < KUBECONFIG_MEMORY;
        if let Some((at, Some((of, kubeconfig)))) = lock(&self.kubeconfigs).get(&key)
            && is_fresh(at)
            && of == version
        {
            return Ok(Some(kubeconfig.clone()));
        }
        let api: Api<KeptSecret> = Api::namespaced(self.client.clone(), namespace);
        let secret = calls::get_opt(&api, name).await?;
        let read = secret.map(Secret::from).and_then(|secret| {
            let version = Precondition::of(&secret.metadata);
            Some((version, value_of(secret, VALUE_KEY)?))
        });
        if read.as_ref().is_none_or(|(of, _)| of != version) {
            // The remembered facts of the Secret are outdated, so the next lookup reads it.
            lock(&self.secrets).remove(&key);
        }
        lock(&self.kubeconfigs).retain(|_, (at, _)| is_fresh(at));
        remember(&self.kubeconfigs, key, read.clone());
        Ok(read.map(|(_, kubeconfig)| kubeconfig))
    }

    /// The facts of a Secret.
    pub async fn secret(
        &self,
        namespace: &str,
        name: &str,
        at_least: Freshness,
    ) -> Result<Read<SecretFacts>, CallError> {
        let at = (namespace, name);
        let facts = async |secret: KeptSecret| self.secret_facts(secret.into()).await;
        self.read(&self.secrets, at, at_least, facts).await
    }

    /// The facts of a ConfigMap.
    pub async fn map(
        &self,
        namespace: &str,
        name: &str,
        at_least: Freshness,
    ) -> Result<Read<MapFacts>, CallError> {
        let at = (namespace, name);
        let facts = async |map: KeptMap| remembered(map_facts(map.into()));
        self.read(&self.maps, at, at_least, facts).await
    }

    async fn read<K, T: Clone>(
        &self,
        memory: &Remembered<T>,
        (namespace, name): (&str, &str),
        at_least: Freshness,
        facts: impl AsyncFnOnce(K) -> T,
    ) -> Result<Read<T>, CallError>
    where
        K: calls::Object + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let key = (namespace.to_owned(), name.to_owned());
        let remembered = lock(memory).get(&key).cloned();
        if let Some((at, found)) = remembered
            && let Some(freshness) = freshness(at.elapsed(), self.resync, at_least)
        {
            return Ok(Read { found, freshness });
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let found = match calls::get_opt(&api, name).await? {
            Some(object) => Some(facts(object).await),
            None => None,
        };
        remember(memory, key, found.clone());
        Ok(Read {
            found,
            freshness: Freshness::Live,
        })
    }

    async fn secret_facts(&self, secret: Secret) -> SecretFacts {
        let digest_and_text = |secret: &Secret| {
            let text = &secret.data.as_ref()?.get(SSH_KEY)?.0;
            // A value that is too long is refused for its length. Replacing invalid UTF-8 does not make it shorter.
            let text = String::from_utf8_lossy(&text[..text.len().min(MAX_TEXT + 1)]).into_owned();
            Some((sha256(text.as_bytes()), SecretText::new(text)))
        };
        let fingerprint = match digest_and_text(&secret) {
            Some((digest, text)) => Some(self.fingerprint(digest, text).await),
            None => None,
        };
        let values = secret.data.iter().flatten().map(|(_, value)| value.0.len());
        // A kubeconfig is YAML with certificates.
        let length = if is_kubeconfig(&secret) {
            usize::MAX
        } else {
            values.sum()
        };
        SecretFacts {
            fingerprint: fingerprint.map(|outcome| outcome.map_err(|error| error.to_string())),
            ..ANSWERS.run(length, move || secret_facts(secret)).await
        }
    }

    /// The fingerprint of the public half of a private key. It is computed once for each text.
    async fn fingerprint(&self, digest: String, text: SecretText) -> Result<String, KeyError> {
        if let Some(known) = lock(&self.fingerprints).get(&digest) {
            return known.clone();
        }
        let fingerprint = KEYS
            .offload(move || fingerprint_of_public_half(&text))
            .await;
        let mut known = lock(&self.fingerprints);
        if known.len() >= MAX_FINGERPRINTS {
            known.clear();
        }
        known.insert(digest, fingerprint.clone());
        fingerprint
    }

    /// Remembers a Secret as the API server returned it for one of NICO's writes.
    pub fn saw_secret(&self, secret: Secret) {
        remember(
            &self.secrets,
            key(&secret.metadata),
            Some(secret_facts(secret)),
        );
    }

    /// The same for a ConfigMap.
    pub fn saw_map(&self, map: ConfigMap) {
        let key = key(&map.metadata);
        remember(&self.maps, key, Some(remembered(map_facts(map))));
    }
}

/// The freshness of a read of this age, if it is fresh enough.
fn freshness(age: Duration, resync: Duration, at_least: Freshness) -> Option<Freshness> {
    let freshness = if age < RECENT_READ_AGE.min(resync) {
        Freshness::Recent
    } else {
        Freshness::Remembered
    };
    (age < resync && freshness >= at_least).then_some(freshness)
}

/// Reads one value of a Secret, which is not remembered.
pub async fn secret_value(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    key: &str,
) -> Result<Option<SecretText>, CallError> {
    let api: Api<KeptSecret> = Api::namespaced(client.clone(), namespace);
    let secret = calls::get_opt(&api, name).await?;
    Ok(secret.and_then(|secret| value_of(secret.into(), key)))
}

/// Reads the facts of a ConfigMap, which are not remembered.
pub async fn map_now(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> Result<Option<MapFacts>, CallError> {
    let api: Api<KeptMap> = Api::namespaced(client.clone(), namespace);
    let map = calls::get_opt(&api, name).await?;
    Ok(map.map(|map| map_facts(map.into())))
}

fn value_of(mut secret: Secret, key: &str) -> Option<SecretText> {
    let value = secret.data.as_mut().and_then(|data| data.remove(key));
    erase(&mut secret);
    SecretText::from_bytes(value?.0)
}

fn is_kubeconfig(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(KUBECONFIG_TYPE)
}

/// The facts of a Secret, without the fingerprint of its SSH key.
fn secret_facts(mut secret: Secret) -> SecretFacts {
    // The first two keys show which comes first and whether there is only one. Of the others, only those that NICO reads are kept.
    let is_kept =
        |(at, (key, _)): &(usize, (&String, _))| *at < 2 || SECRET_KEYS.contains(&key.as_str());
    let keys = secret
        .data
        .iter()
        .flatten()
        .enumerate()
        .filter(is_kept)
        .map(|(_, (key, value))| {
            let digest = (!value.0.is_empty()).then(|| sha256(&value.0));
            (key.clone(), digest)
        })
        .collect();
    let is_kubeconfig = is_kubeconfig(&secret);
    let kubeconfig = is_kubeconfig.then(|| kubeconfig::from_secret(&secret));
    let facts = SecretFacts {
        object: ObjectFacts::of(&secret.metadata),
        keys,
        fingerprint: None,
        is_kubeconfig,
        kubeconfig: kubeconfig.flatten(),
    };
    erase(&mut secret);
    facts
}

fn map_facts(map: ConfigMap) -> MapFacts {
    MapFacts {
        object: ObjectFacts::of(&map.metadata),
        data: map
            .data
            .into_iter()
            .flatten()
            .filter(|(key, _)| key == KNOWN_HOSTS_KEY || longest_value(key).is_some())
            .collect(),
    }
}

/// The facts without the pinned host keys, which are long and always read again.
fn remembered(mut facts: MapFacts) -> MapFacts {
    facts.data.remove(KNOWN_HOSTS_KEY);
    facts
}

fn erase(secret: &mut Secret) {
    for value in secret.data.iter_mut().flatten() {
        value.1.0.zeroize();
    }
}

fn key(meta: &ObjectMeta) -> (String, String) {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    (part(&meta.namespace), part(&meta.name))
}

fn remember<T>(memory: &Remembered<T>, key: (String, String), known: Option<T>) {
    lock(memory).insert(key, (Instant::now(), known));
}

#[cfg(test)]
mod tests;
