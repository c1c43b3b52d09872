//! Objects read by name and remembered until the next resync or NICO's own write: there is no list or watch of Secrets, which
//! would show every one of them (SPEC 7, "Rights"). Of a Secret only facts are kept, never a value.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use zeroize::Zeroize;

use super::calls::{self, CallError};
use super::schedule::RECENT_READ_AGE;
use crate::api::digest::sha256;
use crate::api::kubeconfig::KUBECONFIG_TYPE;
use crate::api::nio::SSH_KEY;
use crate::plan::facts::{Freshness, MapFacts, ObjectFacts, Read, SecretFacts};
use crate::remote::kubeconfig::facts as kubeconfig;
use crate::remote::secret::SecretText;
use crate::remote::ssh::fingerprint_of_public_half;

/// Reads by name.
pub struct Named {
    client: kube::Client,
    resync: Duration,
    secrets: Memory<SecretFacts>,
    maps: Memory<MapFacts>,
}

type Memory<T> = Mutex<HashMap<(String, String), (Instant, Option<T>)>>;

impl Named {
    /// Remembers nothing yet; what is read is remembered for `resync`.
    #[must_use]
    pub fn new(client: kube::Client, resync: Duration) -> Self {
        Self {
            client,
            resync,
            secrets: Mutex::default(),
            maps: Mutex::default(),
        }
    }

    /// Forgets an object, so that the next look reads it.
    pub fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        lock(&self.secrets).remove(&key);
        lock(&self.maps).remove(&key);
    }

    /// Forgets everything that was read too long ago.
    pub fn expire(&self) {
        lock(&self.secrets).retain(|_, (at, _)| at.elapsed() < self.resync);
        lock(&self.maps).retain(|_, (at, _)| at.elapsed() < self.resync);
    }

    /// A Secret.
    pub async fn secret(
        &self,
        namespace: &str,
        name: &str,
        at_least: Freshness,
    ) -> Result<Read<SecretFacts>, CallError> {
        let at = (namespace, name);
        self.read(&self.secrets, at, at_least, secret_facts).await
    }

    /// A ConfigMap.
    pub async fn map(
        &self,
        namespace: &str,
        name: &str,
        at_least: Freshness,
    ) -> Result<Read<MapFacts>, CallError> {
        let at = (namespace, name);
        self.read(&self.maps, at, at_least, map_facts).await
    }

    async fn read<K, T: Clone>(
        &self,
        memory: &Memory<T>,
        (namespace, name): (&str, &str),
        at_least: Freshness,
        facts: fn(K) -> T,
    ) -> Result<Read<T>, CallError>
    where
        K: calls::Object + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let key = (namespace.to_owned(), name.to_owned());
        let remembered = lock(memory).get(&key).cloned();
        if let Some((at, found)) = remembered {
            let age = at.elapsed();
            let freshness = if age < RECENT_READ_AGE.min(self.resync) {
                Freshness::Recent
            } else {
                Freshness::Remembered
            };
            if age < self.resync && freshness >= at_least {
                return Ok(Read { found, freshness });
            }
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let found = calls::get_opt(&api, name).await?.map(facts);
        remember(memory, key, found.clone());
        Ok(Read {
            found,
            freshness: Freshness::Live,
        })
    }

    /// Takes in what the API server answered to a write of our own.
    pub fn saw_secret(&self, secret: Secret) {
        remember(
            &self.secrets,
            key(&secret.metadata),
            Some(secret_facts(secret)),
        );
    }

    /// The same of a ConfigMap.
    pub fn saw_map(&self, map: ConfigMap) {
        remember(&self.maps, key(&map.metadata), Some(map_facts(map)));
    }
}

/// One value of a Secret: read now and kept by nobody else.
pub async fn secret_value(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    key: &str,
) -> Result<Option<SecretText>, CallError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = calls::get_opt(&api, name).await?;
    Ok(secret.and_then(|secret| value_of(secret, key)))
}

fn value_of(mut secret: Secret, key: &str) -> Option<SecretText> {
    let value = secret.data.as_mut().and_then(|data| data.remove(key));
    erase(&mut secret);
    let text = String::from_utf8(value?.0);
    text.map(SecretText::new)
        .map_err(|error| error.into_bytes().zeroize())
        .ok()
}

fn secret_facts(mut secret: Secret) -> SecretFacts {
    let keys = secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), (!value.0.is_empty()).then(|| sha256(&value.0))))
        .collect();
    let fingerprint = secret
        .data
        .as_ref()
        .and_then(|data| data.get(SSH_KEY))
        .map(|key| {
            let text = std::str::from_utf8(&key.0).map_err(|_| "it is not text".to_owned())?;
            fingerprint_of_public_half(&SecretText::new(text.to_owned()))
                .map_err(|error| error.to_string())
        });
    let is_kubeconfig = secret.type_.as_deref() == Some(KUBECONFIG_TYPE);
    let kubeconfig = kubeconfig::of(&secret).filter(|_| is_kubeconfig);
    let facts = SecretFacts {
        object: ObjectFacts::of(&secret.metadata),
        keys,
        fingerprint,
        is_kubeconfig,
        kubeconfig,
    };
    erase(&mut secret);
    facts
}

fn map_facts(map: ConfigMap) -> MapFacts {
    MapFacts {
        object: ObjectFacts::of(&map.metadata),
        data: map.data.unwrap_or_default(),
    }
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

fn remember<T>(memory: &Memory<T>, key: (String, String), known: Option<T>) {
    lock(memory).insert(key, (Instant::now(), known));
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
