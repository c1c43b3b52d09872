//! Objects read by name and remembered until the next resync or NICO's own write: there is no list or watch of Secrets, which
//! would show every one of them. Of a Secret only facts are kept, never a value, but for the kubeconfig of a cluster
//! that is asked again and again.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use zeroize::Zeroize;

use super::calls::{self, CallError};
use super::lock::lock;
use super::schedule::{KUBECONFIG_MEMORY, RECENT_READ_AGE};
use crate::api::digest::sha256;
use crate::api::kubeconfig::{KUBECONFIG_TYPE, VALUE_KEY};
use crate::api::nio::SSH_KEY;
use crate::plan::facts::{Freshness, MapFacts, ObjectFacts, Read, SecretFacts};
use crate::plan::writes::Precondition;
use crate::remote::kubeconfig::facts as kubeconfig;
use crate::remote::offload::{ANSWERS, KEYS};
use crate::remote::secret::SecretText;
use crate::remote::ssh::{KeyError, MAX_TEXT, fingerprint_of_public_half};

/// Fingerprints that are remembered, of 200 bytes each.
const MAX_FINGERPRINTS: usize = 10_000;

/// Reads by name.
pub struct NamedReads {
    client: kube::Client,
    resync: Duration,
    secrets: Remembered<SecretFacts>,
    maps: Remembered<MapFacts>,
    /// What came of reading private keys, by the digest of their text.
    fingerprints: Mutex<HashMap<String, Result<String, KeyError>>>,
    /// The kubeconfigs of the clusters that were asked lately, each with the version of its Secret.
    kubeconfigs: Remembered<(Precondition, SecretText)>,
}

type Remembered<T> = Mutex<HashMap<(String, String), (Instant, Option<T>)>>;

impl NamedReads {
    /// Remembers nothing yet; what is read is remembered for `resync`.
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
        lock(&self.kubeconfigs).retain(|_, (at, _)| at.elapsed() < KUBECONFIG_MEMORY);
    }

    /// The kubeconfig in a Secret, to ask the cluster. It is read at most every [`KUBECONFIG_MEMORY`] while the Secret is of that
    /// version: a cluster that changes is asked every few seconds.
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
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = calls::get_opt(&api, name).await?;
        let read = secret.and_then(|secret| {
            let version = Precondition::of(&secret.metadata);
            Some((version, value_of(secret, VALUE_KEY)?))
        });
        lock(&self.kubeconfigs).retain(|_, (at, _)| is_fresh(at));
        remember(&self.kubeconfigs, key, read.clone());
        Ok(read.map(|(_, kubeconfig)| kubeconfig))
    }

    /// A Secret.
    pub async fn secret(
        &self,
        namespace: &str,
        name: &str,
        at_least: Freshness,
    ) -> Result<Read<SecretFacts>, CallError> {
        let at = (namespace, name);
        let facts = async |secret| self.secret_facts(secret).await;
        self.read(&self.secrets, at, at_least, facts).await
    }

    /// A ConfigMap.
    pub async fn map(
        &self,
        namespace: &str,
        name: &str,
        at_least: Freshness,
    ) -> Result<Read<MapFacts>, CallError> {
        let at = (namespace, name);
        self.read(&self.maps, at, at_least, async |map| map_facts(map))
            .await
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
            // Too long a one is refused for its length alone: what is not text is as long in this form.
            let text = String::from_utf8_lossy(&text[..text.len().min(MAX_TEXT + 1)]).into_owned();
            Some((sha256(text.as_bytes()), SecretText::new(text)))
        };
        let fingerprint = match digest_and_text(&secret) {
            Some((digest, text)) => Some(self.fingerprint(digest, text).await),
            None => None,
        };
        SecretFacts {
            fingerprint: fingerprint.map(|it| it.map_err(|error| error.to_string())),
            ..ANSWERS.offload(move || secret_facts(secret)).await
        }
    }

    /// The fingerprint of the public half of a private key, computed once for each text.
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

/// How new an answer of this age is, where that is new enough.
fn freshness(age: Duration, resync: Duration, at_least: Freshness) -> Option<Freshness> {
    let freshness = if age < RECENT_READ_AGE.min(resync) {
        Freshness::Recent
    } else {
        Freshness::Remembered
    };
    (age < resync && freshness >= at_least).then_some(freshness)
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

/// The facts of a Secret but for the fingerprint of its SSH key.
fn secret_facts(mut secret: Secret) -> SecretFacts {
    let keys = secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), (!value.0.is_empty()).then(|| sha256(&value.0))))
        .collect();
    let is_kubeconfig = secret.type_.as_deref() == Some(KUBECONFIG_TYPE);
    let kubeconfig = kubeconfig::of(&secret).filter(|_| is_kubeconfig);
    let facts = SecretFacts {
        object: ObjectFacts::of(&secret.metadata),
        keys,
        fingerprint: None,
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

fn remember<T>(memory: &Remembered<T>, key: (String, String), known: Option<T>) {
    lock(memory).insert(key, (Instant::now(), known));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use std::convert::Infallible;

    use kube::client::Body;
    use serde_json::json;
    use tower::service_fn;

    use super::*;

    const KEY: &str = include_str!("../remote/ssh/test_keys/ed25519.openssh");

    /// Secret `key` holds a private key, `giant` one that is too long to compute with, and `data` none.
    fn named() -> NamedReads {
        let service = service_fn(|request: hyper::Request<Body>| {
            let path = request.uri().path();
            let data = if path.ends_with("/key") {
                json!({ SSH_KEY: KEY })
            } else if path.ends_with("/giant") {
                json!({ SSH_KEY: KEY.repeat(1000) })
            } else {
                json!({ "token": "canary" })
            };
            let secret: Secret =
                serde_json::from_value(json!({"metadata": {}, "stringData": data})).unwrap();
            let data = secret.string_data.into_iter().flatten();
            let data = data.map(|(key, text)| (key, k8s_openapi::ByteString(text.into_bytes())));
            let secret = Secret {
                data: Some(data.collect()),
                ..Secret::default()
            };
            let body = Body::from(serde_json::to_vec(&secret).unwrap());
            async move { Ok::<_, Infallible>(hyper::Response::new(body)) }
        });
        let client = kube::Client::new(service, "default");
        NamedReads::new(client, Duration::from_secs(300))
    }

    #[tokio::test]
    async fn the_fingerprint_of_a_key_is_computed_once_for_its_text() {
        let named = named();
        for _ in 0..3 {
            let read = named.secret("default", "key", Freshness::Live).await;
            assert_eq!(
                read.unwrap().found.unwrap().fingerprint.unwrap().as_deref(),
                Ok("SHA256:wIksy2+1Ja53rCCwklwAidgYvnEZPSCb3qjAbxc7uXk")
            );
        }
        let read = named.secret("default", "data", Freshness::Live).await;
        assert_eq!(read.unwrap().found.unwrap().fingerprint, None);
        let digest = sha256(KEY.as_bytes());
        assert_eq!(lock(&named.fingerprints).len(), 1);
        // What is remembered is what is said.
        lock(&named.fingerprints).insert(digest, Ok("remembered".to_owned()));
        let read = named.secret("default", "key", Freshness::Live).await;
        let fingerprint = read.unwrap().found.unwrap().fingerprint;
        assert_eq!(fingerprint, Some(Ok("remembered".to_owned())));
    }

    #[tokio::test]
    async fn a_giant_key_is_told_with_its_mend() {
        let read = named().secret("default", "giant", Freshness::Live).await;
        let why = read.unwrap().found.unwrap().fingerprint.unwrap();
        assert_eq!(why, Err(KeyError::TooLarge.to_string()));
    }

    /// A cluster that is being changed is asked every two seconds, and twice for each machine.
    #[tokio::test]
    async fn the_kubeconfig_is_read_once_for_many_questions_and_anew_where_another_is_stored() {
        let reads = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&reads);
        let service = service_fn(move |_: hyper::Request<Body>| {
            let read = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let version = if read == 0 { "1" } else { "2" };
            let data = json!({ VALUE_KEY: k8s_openapi::ByteString(version.into()) });
            let secret =
                json!({"metadata": {"uid": "u", "resourceVersion": version}, "data": data});
            let body = Body::from(serde_json::to_vec(&secret).unwrap());
            async move { Ok::<_, Infallible>(hyper::Response::new(body)) }
        });
        let client = kube::Client::new(service, "default");
        let named = NamedReads::new(client, Duration::from_secs(300));
        for (version, reads_then) in [("1", 1), ("1", 1), ("2", 2), ("2", 2)] {
            let version = Precondition {
                uid: "u".to_owned(),
                resource_version: version.to_owned(),
            };
            let read = named.kubeconfig("default", "kubeconfig", &version).await;
            assert_eq!(read.unwrap().unwrap().expose(), version.resource_version);
            assert_eq!(reads.load(std::sync::atomic::Ordering::SeqCst), reads_then);
        }
    }

    #[test]
    fn an_answer_serves_as_long_as_it_is_new_enough() {
        use Freshness::{Live, Recent, Remembered};
        let resync = Duration::from_secs(300);
        let seconds = Duration::from_secs;
        for (age, at_least, serves) in [
            (0, Remembered, Some(Recent)),
            (4, Recent, Some(Recent)),
            (5, Recent, None),
            (5, Remembered, Some(Remembered)),
            (299, Remembered, Some(Remembered)),
            (300, Remembered, None),
            (0, Live, None),
        ] {
            assert_eq!(
                freshness(seconds(age), resync, at_least),
                serves,
                "{age} s, {at_least:?}"
            );
        }
        assert_eq!(
            freshness(seconds(1), seconds(1), Remembered),
            None,
            "older than a resync"
        );
    }
}
