//! Verifies a kubeconfig by listing Nodes through it. The client is built only from checked parts of the text: without plugins, proxies,
//! other settings of the environment, or retries. Responses are limited in size, since the server is not trusted.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Request;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde::Deserialize;
use tokio::time::timeout;
use tower::{BoxError, ServiceExt, service_fn};

use super::cause;
use super::member::{but, shown_names};
use super::pem_text::{self, Certificates};
use super::rebuild::{self, Access, Credential, Unsafe};
use crate::remote::answer;
use crate::remote::offload::{ANSWERS, look_up};
use crate::remote::secret::SecretText;
use crate::remote::tls;

/// Most bytes of a response. One Node has at most 1.5 MiB, etcd's request limit.
const MAX_ANSWER: usize = 2 * 1024 * 1024;
/// One Node is enough to verify the kubeconfig.
const NODES: &str = "/api/v1/nodes?limit=1";

/// Why a kubeconfig does not work. Messages name the server's address, and contain nothing that it sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The text is not a harmless kubeconfig.
    #[error("the kubeconfig is refused: {0}")]
    Unsafe(Unsafe),
    /// The server does not answer.
    #[error("the API server at {server} does not answer")]
    Unreachable {
        /// Its URL.
        server: String,
    },
    /// The server does not authenticate the client, or does not let it list Nodes.
    #[error(
        "the API server at {server} does not let the kubeconfig's user list nodes (HTTP {status})"
    )]
    Unauthorised {
        /// Its URL.
        server: String,
        /// The HTTP status: 401 or 403.
        status: u16,
    },
    /// The TLS handshake failed.
    #[error("no trusted TLS connection to the API server at {server}: {why}")]
    Tls {
        /// Its URL.
        server: String,
        /// What is wrong, without any text of the server.
        why: String,
    },
    /// The client certificate is not valid now.
    #[error("the API server at {server} refuses the kubeconfig's client certificate: {why}")]
    ClientCertificate {
        /// Its URL.
        server: String,
        /// From or until when it is valid.
        why: String,
    },
    /// The response is not that of an API server.
    #[error("the API server at {server} did not list its nodes ({why})")]
    Other {
        /// Its URL.
        server: String,
        /// What is wrong, without any text of the server.
        why: String,
    },
}

/// Lists Nodes through a kubeconfig. Fails if it cannot be used, or if its API server does not answer or does not list them.
pub async fn verify(kubeconfig: &SecretText, deadline: Duration) -> Result<(), VerifyError> {
    let kubeconfig = kubeconfig.clone();
    let read = ANSWERS.offload(move || {
        let access = access(&kubeconfig)?;
        Ok((client_of(&access, deadline)?, access))
    });
    let (client, access) = read.await?;
    let server = access.server.to_string();
    match timeout(deadline, list_nodes(&client, &server)).await {
        Ok(outcome) => outcome.map_err(|error| explained(error, &access)),
        Err(_) => Err(VerifyError::Unreachable { server }),
    }
}

/// The same error, or a more exact one if the kubeconfig's own certificates show the cause.
fn explained(error: VerifyError, access: &Access) -> VerifyError {
    let now = Timestamp::now();
    let of_client = match &access.credential {
        Credential::Certificate { certificates, .. } => cause::not_valid(certificates, now),
        Credential::Token(_) => None,
    };
    let refuses_client = match &error {
        VerifyError::Unauthorised { .. } => true,
        VerifyError::Tls { why, .. } => why == ALERT,
        _ => false,
    };
    match (error, of_client) {
        (VerifyError::Unauthorised { server, .. } | VerifyError::Tls { server, .. }, Some(why))
            if refuses_client =>
        {
            VerifyError::ClientCertificate { server, why }
        }
        (VerifyError::Tls { server, why }, _) => {
            let why = match of_authority(&access.authority, now) {
                Some(cause) => format!("{why}; {cause}"),
                None => why,
            };
            VerifyError::Tls { server, why }
        }
        (error, _) => error,
    }
}

/// What is wrong with the authority in the kubeconfig itself.
fn of_authority(authority: &Certificates, now: Timestamp) -> Option<String> {
    if cause::is_no_authority(authority) {
        return Some("the authority in the kubeconfig is no certificate authority".to_owned());
    }
    let not_valid = cause::not_valid(authority, now);
    not_valid.map(|why| format!("the authority in the kubeconfig is not valid: {why}"))
}

pub(super) fn access(kubeconfig: &SecretText) -> Result<Access, VerifyError> {
    let parsed = rebuild::inspect(kubeconfig.expose().as_bytes()).map_err(VerifyError::Unsafe)?;
    // A stored kubeconfig refers to no files. If it did, they would be read on NICO's own file system.
    parsed
        .resolve(&BTreeMap::new())
        .map_err(VerifyError::Unsafe)
}

/// A client that uses only the kubeconfig: no settings of the environment, no retries.
pub(super) fn client_of(access: &Access, deadline: Duration) -> Result<Client, VerifyError> {
    let server = access.server.to_string();
    let other = |why: &str| VerifyError::Other {
        server: server.clone(),
        why: why.to_owned(),
    };
    // Sets each field: `Config::from_kubeconfig` would use proxies from the environment.
    let mut config = Config::new(server.parse().map_err(|_| other("its address is no URL"))?);
    config.root_cert = Some(access.authority.der.clone());
    config.tls_server_name = access.tls_server_name.as_ref().map(ToString::to_string);
    config.connect_timeout = Some(deadline);
    config.read_timeout = Some(deadline);
    config.write_timeout = Some(deadline);
    config.proxy_url = None;
    config.default_retry = false;
    config.auth_info = match &access.credential {
        Credential::Token(token) => AuthInfo {
            token: Some(token.expose().to_owned().into()),
            ..AuthInfo::default()
        },
        Credential::Certificate { certificates, key } => AuthInfo {
            client_certificate_data: Some(pem_text::encode(&certificates.pem())),
            client_key_data: Some(pem_text::encode(key.pem().expose()).into()),
            ..AuthInfo::default()
        },
    };
    connect(&config).map_err(|_| other("its certificates cannot be used"))
}

/// A client as kube builds it, but for the lookup of names: kube uses threads that all work of the process shares.
fn connect(config: &Config) -> kube::Result<Client> {
    let look_up = |name: Name| async move {
        let found = look_up(name.as_str(), 0).await;
        found.map(Vec::into_iter)
    };
    let mut connector = HttpConnector::new_with_resolver(service_fn(look_up));
    connector.enforce_http(false);
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let mut connector = TimeoutConnector::new(connector);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let http = Http::builder(TokioExecutor::new()).build(connector);
    let http = ServiceExt::<Request<Body>>::map_err(http, BoxError::from);
    let client = ClientBuilder::new(http, config.default_namespace.clone());
    let client = client.with_layer(&config.base_uri_layer());
    Ok(match config.auth_layer()? {
        Some(credential) => client.with_layer(&credential).build(),
        None => client.build(),
    })
}

async fn list_nodes(client: &Client, server: &str) -> Result<(), VerifyError> {
    let other = |why: String| VerifyError::Other {
        server: server.to_owned(),
        why,
    };
    let request = Request::get(NODES)
        .body(Body::empty())
        .map_err(|_| other("no request could be made".into()))?;
    let response = client
        .send(request)
        .await
        .map_err(|error| classify(server, &error))?;
    let status = response.status();
    match status.as_u16() {
        200 => {}
        status @ (401 | 403) => {
            return Err(VerifyError::Unauthorised {
                server: server.to_owned(),
                status,
            });
        }
        status => return Err(other(format!("HTTP {status}"))),
    }
    let body = answer::body(response, MAX_ANSWER).await;
    let body = body.ok_or_else(|| other("its answer broke off or was too long".into()))?;
    match answer::json::<KindOnly>(body).await {
        Some(KindOnly { kind }) if kind == "NodeList" => Ok(()),
        _ => Err(other("it sent something else".into())),
    }
}

#[derive(Deserialize)]
struct KindOnly {
    kind: String,
}

/// Tells TLS errors from others by the causes of an error. Their texts may quote certificates, so they are not shown.
fn classify(server: &str, error: &kube::Error) -> VerifyError {
    let server = server.to_owned();
    match tls::error_of(error) {
        Some(error) => VerifyError::Tls {
            server,
            why: tls_cause(error),
        },
        None => VerifyError::Unreachable { server },
    }
}

/// Text for a server that refuses the client certificate.
const ALERT: &str = "it refuses the client certificate";

pub(super) fn tls_cause(error: &rustls::Error) -> String {
    use rustls::{CertificateError as Certificate, Error as Tls};
    let cause = match error {
        Tls::InvalidCertificate(error) => match error {
            Certificate::UnknownIssuer | Certificate::BadSignature => {
                "its certificate is not signed by the authority in the kubeconfig"
            }
            Certificate::NotValidForNameContext { presented, .. } => {
                let names = but(&shown_names(presented));
                return format!(
                    "its certificate does not cover that address, {names}; the flake's certificates must"
                );
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                let now = Timestamp::now();
                return format!("its certificate is expired, and NICO's clock says {now:.0}");
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                let now = Timestamp::now();
                return format!("its certificate is not valid yet, and NICO's clock says {now:.0}");
            }
            Certificate::BadEncoding => "its certificate is malformed",
            Certificate::UnsupportedSignatureAlgorithmContext { .. }
            | Certificate::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                "its certificate is signed by an algorithm that NICO does not support: ECDSA P-256 and P-384, Ed25519, and RSA from 2048 bits on with SHA-2 are"
            }
            Certificate::InvalidPurpose | Certificate::InvalidPurposeContext { .. } => {
                "its certificate is not one of a server"
            }
            Certificate::UnhandledCriticalExtension => {
                "its certificate has a critical extension that NICO does not know"
            }
            // The library's own errors are only names.
            Certificate::Other(error) if error.to_string().contains("UnsupportedCertVersion") => {
                "its certificate is not of version 3 of X.509"
            }
            Certificate::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
                "its certificate is that of an authority, not of a server"
            }
            _ => "its certificate is not valid",
        },
        Tls::AlertReceived(_) => ALERT,
        _ => "it does not speak TLS as it should",
    };
    cause.to_owned()
}
