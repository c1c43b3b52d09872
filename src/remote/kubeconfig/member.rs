//! The API servers of a cluster's members, each reached at its own address under a name in its certificate.

use std::net::IpAddr;
use std::time::Duration;

use hyper::Request;
use kube::Client;
use kube::client::Body;
use rustls::CertificateError;

use super::rebuild::Access;
use super::verify::{access, client_of, tls_cause};
use crate::api::host::Host;
use crate::remote::answer;
use crate::remote::offload::ANSWERS;
use crate::remote::secret::SecretText;
use crate::remote::tls;

/// A name in nearly every API server's certificate (Kubernetes, "PKI certificates and requirements").
const API_SERVER_NAME: &str = "kubernetes";
/// Names that other certificates have instead.
const OTHER_NAMES: [&str; 3] = [
    "kubernetes.default.svc",
    "kubernetes.default",
    "kubernetes.default.svc.cluster.local",
];
/// Most bytes of a response to `/readyz`.
const MAX_ANSWER: usize = 64 * 1024;
/// Most names of a certificate in a message.
const MOST_SHOWN: usize = 8;

/// A member's API server.
pub struct Member {
    access: Access,
    /// Names to try, one of which its certificate should have.
    names: Vec<Host>,
    deadline: Duration,
}

/// A member's API server could not be reached.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreached {
    /// What is wrong with TLS, for users; `None` if the server does not answer at all.
    pub tls: Option<String>,
}

/// The API server of each member at these addresses; `None` if the address or the kubeconfig is unusable. Authority and credential are
/// those of the kubeconfig, address and port the member's (port `None`: the kubeconfig's).
pub async fn members(
    kubeconfig: &SecretText,
    addresses: Vec<String>,
    port: Option<u16>,
    deadline: Duration,
) -> Vec<Option<Member>> {
    let kubeconfig = kubeconfig.clone();
    let read = ANSWERS.offload(move || {
        let access = access(&kubeconfig).ok();
        let member = |address: String| {
            let (mut access, host) = (access.clone()?, Host::parse(&address)?);
            let mut names: Vec<Host> = access.tls_server_name.take().into_iter().collect();
            names.extend(Host::parse(API_SERVER_NAME));
            names.push(host.clone());
            names.extend(OTHER_NAMES.iter().filter_map(|name| Host::parse(name)));
            // The host in the kubeconfig, which is the endpoint's if there is one.
            names.push(std::mem::replace(&mut access.server.host, host));
            let named = |names: Vec<Host>, name| {
                if names.contains(&name) {
                    names
                } else {
                    [names, vec![name]].concat()
                }
            };
            let names = names.into_iter().fold(Vec::new(), named);
            access.server.port = port.unwrap_or(access.server.port);
            Some(Member {
                access,
                names,
                deadline,
            })
        };
        addresses.into_iter().map(member).collect()
    });
    read.await
}

impl Member {
    /// Requests `/readyz` under each name until the certificate matches. Returns the client for further requests, and the HTTP status. Fails if
    /// nothing answers, or if the certificate has none of the names.
    pub async fn reach(&self) -> Result<(Client, u16), Unreached> {
        let mut tls = None;
        for name in &self.names {
            let (mut access, deadline) = (self.access.clone(), self.deadline);
            access.tls_server_name = Some(name.clone());
            let client = ANSWERS.offload(move || client_of(&access, deadline).ok());
            let request = Request::get("/readyz").body(Body::empty());
            let (Some(client), Ok(request)) = (client.await, request) else {
                break;
            };
            let error = match client.send(request).await {
                Ok(response) => {
                    let status = response.status().as_u16();
                    let body = answer::body(response, MAX_ANSWER).await;
                    let reached = body.map(|_| (client, status));
                    return reached.ok_or(Unreached { tls: None });
                }
                Err(error) => error,
            };
            let error = tls::error_of(&error);
            let Some(names) = error.and_then(names_of_another) else {
                let tls = error.map(tls_cause);
                return Err(Unreached { tls });
            };
            tls = Some(self.has_none(&names));
        }
        Err(Unreached { tls })
    }

    fn has_none(&self, presented: &[String]) -> String {
        let asked: Vec<String> = self.names.iter().map(Host::to_string).collect();
        format!(
            "its certificate has none of the names {}, {}; add one of the names, best the machine's address",
            asked.join(", "),
            but(presented)
        )
    }
}

/// The names in a certificate that does not contain the requested name; `None` for other errors.
fn names_of_another(error: &rustls::Error) -> Option<Vec<String>> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::NotValidForName) => Some(Vec::new()),
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        }) => Some(shown_names(presented)),
        _ => None,
    }
}

/// The first names of a certificate that are safe to show. The TLS library writes `DnsName("x")` and `IpAddress(x)`.
pub(super) fn shown_names(presented: &[String]) -> Vec<String> {
    let shown = presented.iter().filter_map(|name| {
        let dns = name.strip_prefix("DnsName(\"");
        if let Some(name) = dns.and_then(|name| name.strip_suffix("\")")) {
            let plain = name.strip_prefix("*.").unwrap_or(name);
            return Host::parse(plain).map(|_| name.to_ascii_lowercase());
        }
        let ip = name.strip_prefix("IpAddress(")?.strip_suffix(')')?;
        let ip: IpAddr = ip.parse().ok()?;
        Some(ip.to_string())
    });
    shown.take(MOST_SHOWN).collect()
}

/// The part of a message that lists the names it has instead.
pub(super) fn but(names: &[String]) -> String {
    if names.is_empty() {
        "but no DNS name and no address".to_owned()
    } else {
        format!("but {}", names.join(", "))
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic, reason = "a test")]
mod tests;
