//! Objects read by name and remembered until the next resync or NICO's own write: there is no list or watch of Secrets, which
//! would show every one of them (SPEC 7, "Rights"). Of a Secret only facts are kept, never a value.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use zeroize::Zeroize;

use super::calls::{self, CallError};
use super::schedule::ABSENCE_MEMORY;
use crate::api::digest::sha256;
use crate::api::names::{ADOPT_ANNOTATION, IN_USE_FINALIZER};
use crate::api::nio::SSH_KEY;
use crate::plan::writes::Precondition;
use crate::remote::kubeconfig::facts::{KUBECONFIG_TYPE, KubeconfigFacts};
use crate::remote::secret::SecretText;
use crate::remote::ssh::fingerprint_of_public_half;

/// What is known of an object's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Version to insist on.
    pub version: Precondition,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Uid of its controller.
    pub controller: Option<String>,
    /// Its finalizers.
    finalizers: Vec<String>,
    /// Value of the annotation `adopt`.
    pub adopt: Option<String>,
}

impl Facts {
    fn of(meta: &ObjectMeta) -> Self {
        let controller = meta
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true));
        let annotation = |name| meta.annotations.as_ref()?.get(name).cloned();
        Self {
            version: Precondition::of(meta),
            deleting: meta.deletion_timestamp.is_some(),
            controller: controller.map(|owner| owner.uid.clone()),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            adopt: annotation(ADOPT_ANNOTATION),
        }
    }

    /// Whether NICO's finalizer holds it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.finalizers.iter().any(|held| held == IN_USE_FINALIZER)
    }

    /// Whether the cluster of that uid is its controller.
    #[must_use]
    pub fn is_owned_by(&self, uid: &str) -> bool {
        self.controller.as_deref() == Some(uid)
    }
}

/// What is known of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFacts {
    /// Its metadata.
    pub facts: Facts,
    /// Keys, with the SHA-256 digest of each value; `None` where it is empty.
    pub keys: BTreeMap<String, Option<String>>,
    /// Fingerprint of the public half of its SSH key; `Err` says why there is none. Absent where there is no such key.
    pub fingerprint: Option<Result<String, String>>,
    /// Whether it is of the type of kubeconfigs.
    pub is_kubeconfig: bool,
    /// What its kubeconfig says that is no secret, where that is as NICO wrote it.
    pub kubeconfig: Option<KubeconfigFacts>,
}

/// What is known of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFacts {
    /// Its metadata.
    pub facts: Facts,
    /// Its data.
    pub data: BTreeMap<String, String>,
}

/// Reads by name.
#[derive(Debug)]
pub struct Named {
    secrets: Memory<SecretFacts>,
    maps: Memory<MapFacts>,
}

type Memory<T> = Mutex<HashMap<(String, String), (Instant, Option<T>)>>;

impl Named {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
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

    /// Forgets everything that was read longer than `age` ago.
    pub fn expire(&self, age: Duration) {
        lock(&self.secrets).retain(|_, (at, _)| at.elapsed() < age);
        lock(&self.maps).retain(|_, (at, _)| at.elapsed() < age);
    }

    /// A Secret's facts, at most `age` old where they are `as_hoped`; `None` where there is no such Secret.
    pub async fn secret(
        &self,
        client: &kube::Client,
        namespace: &str,
        name: &str,
        age: Duration,
        as_hoped: impl Fn(&SecretFacts) -> bool,
    ) -> Result<Option<SecretFacts>, CallError> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(Known(known)) = remembered(&self.secrets, &key, age, as_hoped) {
            return Ok(known);
        }
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let facts = calls::get_opt(&api, name).await?.map(secret_facts);
        remember(&self.secrets, key, facts.clone());
        Ok(facts)
    }

    /// A ConfigMap, at most `age` old where it is `as_hoped`; `None` where there is no such ConfigMap.
    pub async fn map(
        &self,
        client: &kube::Client,
        namespace: &str,
        name: &str,
        age: Duration,
        as_hoped: impl Fn(&MapFacts) -> bool,
    ) -> Result<Option<MapFacts>, CallError> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(Known(known)) = remembered(&self.maps, &key, age, as_hoped) {
            return Ok(known);
        }
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let facts = calls::get_opt(&api, name).await?.map(map_facts);
        remember(&self.maps, key, facts.clone());
        Ok(facts)
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

impl Default for Named {
    fn default() -> Self {
        Self::new()
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
    let kubeconfig = KubeconfigFacts::of(&secret).filter(|_| is_kubeconfig);
    let facts = SecretFacts {
        facts: Facts::of(&secret.metadata),
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
        facts: Facts::of(&map.metadata),
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

/// What is known of an object, where it was looked for lately: `Known(None)` is a known absence.
struct Known<T>(Option<T>);

fn remembered<T: Clone>(
    memory: &Memory<T>,
    key: &(String, String),
    age: Duration,
    as_hoped: impl Fn(&T) -> bool,
) -> Option<Known<T>> {
    let memory = lock(memory);
    let (at, known) = memory.get(key)?;
    let age = if known.as_ref().is_some_and(as_hoped) {
        age
    } else {
        age.min(ABSENCE_MEMORY)
    };
    (at.elapsed() < age).then(|| Known(known.clone()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
