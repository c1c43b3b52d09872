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
        client_certificate: validity(&access),
        stored: annotation(STORED_ANNOTATION).and_then(|it| it.parse().ok()),
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
