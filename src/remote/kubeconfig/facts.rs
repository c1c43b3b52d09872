//! Facts about a stored kubeconfig that are not secret: its server, and how long its client certificate is valid.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::rebuild::{self, Access, Credential};
use crate::api::digest::sha256;
use crate::api::kubeconfig::{KUBECONFIG_KEY, KUBECONFIG_LABEL, KubeconfigFacts, VALUE_KEY};
use crate::api::names::{
    DIGEST_ANNOTATION, ENDPOINT_ANNOTATION, PORT_ANNOTATION, STORED_ANNOTATION,
};

/// The facts of a Secret; `None` if NICO did not write it like this.
#[must_use]
pub fn from_secret(secret: &Secret) -> Option<KubeconfigFacts> {
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
        port: annotation(PORT_ANNOTATION).and_then(|text| text.parse().ok()),
        client_certificate: validity(&access),
        stored: annotation(STORED_ANNOTATION).and_then(|text| text.parse().ok()),
    })
}

/// When the client certificate of a kubeconfig expires; `None` if it has none.
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
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use k8s_openapi::ByteString;
    use rig::pki::Authority;

    use super::*;
    use crate::remote::kubeconfig::pem_text;

    #[test]
    fn the_port_of_the_members_is_remembered_beside_the_kubeconfig() {
        let authority = Authority::new("kubernetes").unwrap();
        let authority = pem_text::encode(authority.certificate());
        let text = format!(
            "clusters: [{{name: c, cluster: {{server: 'https://vip:443', certificate-authority-data: {authority}}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
        );
        let mut secret = Secret::default();
        let value = ByteString(text.clone().into_bytes());
        let keys = [VALUE_KEY, KUBECONFIG_KEY];
        secret.data = Some(keys.map(|key| (key.to_owned(), value.clone())).into());
        let labels = [(KUBECONFIG_LABEL.to_owned(), "prod".to_owned())];
        secret.metadata.labels = Some(labels.into());
        for (port, expected) in [(Some("7443"), Some(7443)), (Some(""), None), (None, None)] {
            let digest = sha256(text.as_bytes());
            let mut annotations = BTreeMap::from([(DIGEST_ANNOTATION.to_owned(), digest)]);
            annotations.extend(port.map(|port| (PORT_ANNOTATION.to_owned(), port.to_owned())));
            secret.metadata.annotations = Some(annotations);
            assert_eq!(from_secret(&secret).unwrap().port, expected, "{port:?}");
        }
    }
}
