//! What may be known of a stored kubeconfig: where it leads to, and how long its client certificate is valid.

use jiff::Timestamp;

use super::rebuild::{self, Credential};
use crate::api::spec::Endpoint;

/// Secret type by which Cluster API and Flux find a kubeconfig (SPEC 3.1).
pub const KUBECONFIG_TYPE: &str = "cluster.x-k8s.io/secret";
/// Key of the kubeconfig in its Secret (Cluster API).
pub const VALUE_KEY: &str = "value";
/// The same again, for people (SPEC 3.1).
pub const KUBECONFIG_KEY: &str = "kubeconfig";

/// What is no secret in a kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeconfigFacts {
    /// Where it leads to.
    pub server: Endpoint,
    /// From when to when its client certificate is valid; `None` where it has none.
    pub client_certificate: Option<(Timestamp, Timestamp)>,
}

impl KubeconfigFacts {
    /// The facts of a kubeconfig; `None` where it is none of NICO's.
    #[must_use]
    pub fn of(text: &[u8]) -> Option<Self> {
        let parsed = rebuild::inspect(text).ok()?;
        let access = parsed.resolve(&std::collections::BTreeMap::new()).ok()?;
        let client_certificate = match &access.credential {
            Credential::Certificate { certificates, .. } => certificates.validity(),
            Credential::Token(_) => None,
        };
        Some(Self {
            server: Endpoint {
                host: access.server.host.to_string(),
                port: access.server.port,
            },
            client_certificate,
        })
    }
}
