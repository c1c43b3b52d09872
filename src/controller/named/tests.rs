#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;

use kube::client::Body;
use serde_json::json;
use tower::service_fn;

use super::*;
use crate::plan::desired::TOKEN_KEY;

const KEY: &str = include_str!("../../remote/ssh/test_keys/ed25519.openssh");

/// Secret `key` contains a private key, `giant` one that is too long to compute with, and `data` none.
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

/// The probe is the first to notice that the kubeconfig was deleted. The planner must learn of it before the next resync.
#[tokio::test]
async fn a_kubeconfig_that_is_gone_when_it_is_to_be_used_is_not_remembered_any_more() {
    let named = named();
    let (namespace, name) = ("default", "kubeconfig");
    let remembered = async || {
        let read = named.secret(namespace, name, Freshness::Remembered).await;
        read.unwrap()
    };
    remembered().await;
    assert_ne!(remembered().await.freshness, Freshness::Live);
    let version = Precondition {
        uid: "another".to_owned(),
        resource_version: "1".to_owned(),
    };
    let kubeconfig = named.kubeconfig(namespace, name, &version).await;
    assert!(kubeconfig.unwrap().is_none());
    assert_eq!(remembered().await.freshness, Freshness::Live);
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
    // The remembered fingerprint is returned.
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

/// A changing cluster is probed every two seconds, and twice for each machine.
#[tokio::test]
async fn the_kubeconfig_is_read_once_for_many_questions_and_anew_where_another_is_stored() {
    let reads = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&reads);
    let service = service_fn(move |_: hyper::Request<Body>| {
        let read = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let version = if read == 0 { "1" } else { "2" };
        let data = json!({ VALUE_KEY: k8s_openapi::ByteString(version.into()) });
        let secret = json!({"metadata": {"uid": "u", "resourceVersion": version}, "data": data});
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

/// A user who may write a Secret or a ConfigMap with such a name can fill it with keys.
#[test]
fn of_many_keys_those_are_kept_that_are_read() {
    let many = || (0..80_000).map(|number| format!("{number:x}"));
    let bytes = |key: String| (key, k8s_openapi::ByteString(b"x".to_vec()));
    let keys = many().chain(SECRET_KEYS.map(str::to_owned));
    let kept = secret_facts(Secret {
        data: Some(keys.map(bytes).collect()),
        ..Secret::default()
    });
    let kept: Vec<_> = kept.keys.into_keys().collect();
    assert_eq!(kept, ["0", "1", SSH_KEY, TOKEN_KEY, VALUE_KEY]);
    let read = ["id", "founded", "slot", "commit", KNOWN_HOSTS_KEY];
    let keys = many().chain(read.map(str::to_owned));
    let kept = map_facts(ConfigMap {
        data: Some(keys.map(|key| (key, String::new())).collect()),
        ..ConfigMap::default()
    });
    assert_eq!(kept.data.len(), read.len());
    let kept = remembered(kept);
    assert_eq!(kept.data.len(), read.len() - 1, "host keys are read again");
}

#[tokio::test]
async fn a_kubeconfig_that_is_forgotten_is_not_kept() {
    let named = named();
    let version = Precondition::of(&ObjectMeta::default());
    let kept = Some((version, SecretText::new("canary".to_owned())));
    let key = ("default".to_owned(), "prod-kubeconfig".to_owned());
    remember(&named.kubeconfigs, key, kept);
    named.forget("default", "prod-kubeconfig");
    assert!(lock(&named.kubeconfigs).is_empty());
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
