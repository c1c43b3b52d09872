//! Server addresses in a kubeconfig. They are parsed strictly, so that nothing unexpected gets into a URL or a message.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::api::host::Host;

/// The port of https.
const HTTPS_PORT: u16 = 443;

/// The address of an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// The host.
    pub(super) host: Host,
    /// The TCP port.
    pub(super) port: u16,
}

impl Server {
    /// Parses a URL, which must be https with only host and port.
    #[must_use]
    pub(super) fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("https://")?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
            let (ip, rest) = bracketed.split_once(']')?;
            let ip: Ipv6Addr = ip.parse().ok()?;
            let port = if rest.is_empty() {
                None
            } else {
                Some(rest.strip_prefix(':')?)
            };
            (Host::Ip(IpAddr::V6(ip).to_canonical()), port)
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (Host::parse(host)?, Some(port)),
                None => (Host::parse(authority)?, None),
            }
        };
        let port = match port {
            None => HTTPS_PORT,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) => {
                digits.parse().ok()?
            }
            Some(_) => return None,
        };
        (port != 0).then_some(Self { host, port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}", self.host.in_url(), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn servers_that_are_taken() {
        for (url, written) in [
            ("https://10.0.0.11:6443", "https://10.0.0.11:6443"),
            ("https://10.0.0.11:6443/", "https://10.0.0.11:6443"),
            ("https://API.example.org", "https://api.example.org:443"),
            ("https://[fd00::1]:6443", "https://[fd00::1]:6443"),
            ("https://[::ffff:10.0.0.1]", "https://10.0.0.1:443"),
        ] {
            assert_eq!(
                Server::parse(url)
                    .map(|server| server.to_string())
                    .as_deref(),
                Some(written)
            );
        }
    }

    #[test]
    fn servers_that_are_not() {
        for url in [
            "",
            "https://",
            "http://10.0.0.1:6443",
            "HTTPS://10.0.0.1",
            "https:10.0.0.1",
            "unix:///run/x",
            "https://u:p@10.0.0.1:6443",
            "https://10.0.0.1:6443/path",
            "https://10.0.0.1:6443?x=1",
            "https://10.0.0.1:6443#x",
            "https://10.0.0.1:0",
            "https://10.0.0.1:65536",
            "https://10.0.0.1:",
            "https://10.0.0.1:+1",
            "https://10.0.0.1:6443:1",
            "https://a b",
            "https://a\nb",
            "https://a\"b",
            "https://$(id)",
            "https://a_b",
            "https://-a",
            "https://a..b",
            "https://.",
            "https://127.1",
            "https://0x7f.1",
            "https://2130706433",
            "https://0177.0.0.1",
            "https://1.2.3.4.5",
            "https://[fe80::1%25eth0]:6443",
            "https://[::1",
            "https://::1:6443",
            "https://[10.0.0.1]:1",
            "https://[::1]x",
            "https://é.org",
        ] {
            assert_eq!(Server::parse(url), None, "{url}");
        }
    }
}
