//! Hosts and server addresses in a kubeconfig: parsed strictly, so that nothing odd gets into a URL, a host name or a message.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::api::names::MAX_LABEL;

/// Most characters of a DNS name (RFC 1035).
const MAX_NAME: usize = 253;
/// The port of https.
const HTTPS_PORT: u16 = 443;

/// A host: an IP address or a plain DNS name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address. IPv4 addresses in IPv6 form are taken as IPv4.
    Ip(IpAddr),
    /// A name of letters, digits, hyphens and dots.
    Name(String),
}

impl Host {
    /// The host, where it is plain; IPv6 addresses stand without brackets and without zone.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(Self::Ip(ip.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |label: &str| {
            let inside = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
            !label.is_empty()
                && label.len() <= MAX_LABEL
                && label.bytes().all(inside)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A last label that begins with a digit is an IPv4 address in one of its odd forms (URL standard, "ends in a number").
        let numeric_end = name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
        (name.len() <= MAX_NAME && name.split('.').all(label) && !numeric_end)
            .then_some(Self::Name(name))
    }

    /// Whether it means the host itself: loopback, `localhost`, or no address at all (`0.0.0.0`, `::`).
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.is_loopback() || ip.octets().first() == Some(&0),
            Self::Ip(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unspecified(),
            Self::Name(name) => {
                name == "localhost"
                    || name.ends_with(".localhost")
                    || name == "localhost.localdomain"
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Where an API server answers, over https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The host.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
}

impl Server {
    /// The server of an URL, where that is https and nothing but host and port.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
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
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "https://[{ip}]:{}", self.port),
            host => write!(f, "https://{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Host, Server};

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

    #[test]
    fn hosts_that_mean_themselves() {
        for host in [
            "127.0.0.1",
            "127.77.0.2",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "localhost",
            "LOCALHOST.",
            "x.localhost",
        ] {
            assert!(
                Host::parse(host).is_some_and(|host| host.is_local()),
                "{host}"
            );
        }
        for host in [
            "10.0.0.1",
            "128.0.0.1",
            "fd00::1",
            "localhost.example.org",
            "notlocalhost",
        ] {
            assert!(
                Host::parse(host).is_some_and(|host| !host.is_local()),
                "{host}"
            );
        }
    }
}
