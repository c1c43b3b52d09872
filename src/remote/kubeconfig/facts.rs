//! What may be known of a stored kubeconfig: where it leads to, and how long its client certificate is valid.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::rebuild::{self, Access, Credential};
use crate::api::digest::sha256;
use crate::api::kubeconfig::{KUBECONFIG_KEY, KUBECONFIG_LABEL, KubeconfigFacts, VALUE_KEY};
use crate::api::names::{DIGEST_ANNOTATION, ENDPOINT_ANNOTATION, STORED_ANNOTATION};

/// The facts of a Secret; `None` where it is not as NICO wrote it.
#[must_use]
pub fn of(secret: &Secret) -> Option<KubeconfigFacts> {
    let data = secret.data.as_ref()?;
    let text = &data.get(VALUE_KEY)?.0;
    let annotation = |name| secret.metadata.annotations.as_ref()?.get(name).cloned();
    let as_written =
        data.get(KUBECONFIG_KEY)?.0 == *text && annotation(DIGEST_ANNOTATION)? == sha256(text);
    let access = as_written.then(|| inspected(text))??;
    Some(KubeconfigFacts {
        cluster: secret
            .metadata
            .labels
            .as_ref()?
            .get(KUBECONFIG_LABEL)?
            .clone(),
        host: access.server.host.to_string(),
        endpoint: annotation(ENDPOINT_ANNOTATION).unwrap_or_default(),
        client_certificate: validity(&access).map(|(from, to)| {
            // An older version did not note when.
            let stored = annotation(STORED_ANNOTATION).and_then(|it| it.parse().ok());
            (
                stored.map_or(from, |stored: Timestamp| stored.max(from)),
                to,
            )
        }),
    })
}

/// When the client certificate of a kubeconfig ends; `None` where it has none.
#[must_use]
pub fn ends(text: &[u8]) -> Option<Timestamp> {
    validity(&inspected(text)?).map(|(_, to)| to)
}

fn inspected(text: &[u8]) -> Option<Access> {
    let parsed = rebuild::inspect(text).ok()?;
    parsed.resolve(&BTreeMap::new()).ok()
}

fn validity(access: &Access) -> Option<(Timestamp, Timestamp)> {
    match &access.credential {
        Credential::Certificate { certificates, .. } => certificates.validity(),
        Credential::Token(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use jiff::Timestamp;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use rig::pki::{Authority, Validity};
    use serde_json::json;

    use super::*;

    /// A stored kubeconfig whose certificate was dated back by a year and lives for one more.
    fn secret(stored: Option<&str>) -> Secret {
        let year = Duration::from_secs(365 * 24 * 3600);
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        let validity = Validity {
            not_before: now - year,
            not_after: now + year,
        };
        let authority = Authority::new("kubernetes").unwrap();
        let client = authority.client("admin", None, validity).unwrap();
        let data = |pem: &str| ByteString(pem.as_bytes().to_vec());
        let config = json!({
            "clusters": [{"name": "a", "cluster": {"server": "https://10.0.0.11:6443",
                "certificate-authority-data": data(authority.certificate())}}],
            "users": [{"name": "a", "user": {"client-certificate-data": data(&client.certificate),
                "client-key-data": data(&client.key)}}],
        });
        let text = config.to_string().into_bytes();
        let stored = stored.map(|stored| (STORED_ANNOTATION.to_owned(), stored.to_owned()));
        let digest = (DIGEST_ANNOTATION.to_owned(), sha256(&text));
        let text = ByteString(text);
        Secret {
            metadata: ObjectMeta {
                labels: Some(BTreeMap::from([(
                    KUBECONFIG_LABEL.to_owned(),
                    "a".to_owned(),
                )])),
                annotations: Some([digest].into_iter().chain(stored).collect()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([
                (VALUE_KEY.to_owned(), text.clone()),
                (KUBECONFIG_KEY.to_owned(), text),
            ])),
            ..Secret::default()
        }
    }

    #[test]
    fn a_certificate_is_in_use_since_it_was_stored() {
        let since = |stored: Option<&str>| of(&secret(stored)).unwrap().client_certificate.unwrap();
        let (born, ends) = since(None);
        let now = born + ends.duration_since(born) / 2;
        assert_eq!(since(Some(&now.to_string())).0, now);
        // An annotation of somebody else's says nothing.
        assert_eq!(since(Some("yesterday")).0.duration_since(born).as_secs(), 0);
        assert_eq!(
            since(Some("1999-01-01T00:00:00Z"))
                .0
                .duration_since(born)
                .as_secs(),
            0
        );
    }
}
