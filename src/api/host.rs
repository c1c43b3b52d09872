//! Hosts: parsed strictly, so that nothing unexpected gets into a URL, a connection or a message.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::form::Form;
use super::names::MAX_LABEL;

/// Most characters of a DNS name (RFC 1035).
const MAX_NAME: usize = 253;

/// A host: an IP address or a plain DNS name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address. IPv4 addresses in IPv6 form become IPv4.
    Ip(IpAddr),
    /// A name of letters, digits, hyphens and dots, and of underscores where they are allowed.
    Name(String),
}

impl Host {
    /// Parses a host; IPv6 addresses are written without brackets and without zone.
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
        // A last label that is a number makes it an IPv4 address in one of its odd forms (URL standard, "ends in a number").
        let numeric_end = name.rsplit('.').next().is_some_and(is_number);
        (name.len() <= MAX_NAME && name.split('.').all(label) && !numeric_end)
            .then_some(Self::Name(name))
    }

    /// The same, but the labels of a name may contain underscores: machines and git servers have such names.
    #[must_use]
    pub fn with_underscores(text: &str) -> Option<Self> {
        Some(match Self::parse(&text.replace('_', "-"))? {
            Self::Name(_) => Self::Name(canonical(text)),
            address @ Self::Ip(_) => address,
        })
    }

    /// The host as it is written in a URL: an IPv6 address in brackets.
    #[must_use]
    pub fn in_url(&self) -> String {
        match self {
            Self::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
            host => host.to_string(),
        }
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

/// The canonical form of an address. Addresses are compared in this form, never as they are written.
/// An IP address as Rust writes it, of an IPv4 address in IPv6 form the IPv4 address; a name in lower case without a dot at its end.
#[must_use]
pub fn canonical(address: &str) -> String {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return ip.to_canonical().to_string();
    }
    address
        .strip_suffix('.')
        .unwrap_or(address)
        .to_ascii_lowercase()
}

/// Decimal, octal or hexadecimal.
fn is_number(label: &str) -> bool {
    let hexadecimal = |rest: &str| rest.bytes().all(|c| c.is_ascii_hexdigit());
    label.bytes().all(|c| c.is_ascii_digit()) || label.strip_prefix("0x").is_some_and(hexadecimal)
}

/// The address of a Machine, as it is written there: a plain host, whose name may hold underscores, as NixOS allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Address(String);

impl Address {
    /// The same as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Form for Address {
    fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() <= MAX_NAME && Host::with_underscores(text).is_some();
        is_plain.then(|| Self(text.to_owned()))
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

#[cfg(test)]
mod tests {
    use super::{Address, Form as _, Host, canonical};

    #[test]
    fn addresses_are_plain_hosts_as_they_are_written() {
        let longest = format!("{}.lan", ["a"; 125].join("."));
        for good in [
            "10.0.0.1",
            "fd00::1",
            "CP-01.lan.",
            "cp_01",
            "01-worker",
            "cp.1a",
            "3rd",
            &longest,
        ] {
            assert_eq!(Address::parse(good).map(|it| it.0), Some(good.to_owned()));
        }
        let (label, name) = ("a".repeat(64), format!("a.{longest}"));
        for bad in [
            "",
            "a b",
            "[::1]",
            "10.0.0.1:22",
            "-a",
            "_a",
            "a..b",
            "a\nb",
            "\u{1b}[31m",
            "10.0.0",
            "10.0x7f",
            "fe80::1%eth0",
            "ä",
            &label,
            &name,
            &"a".repeat(300_000),
        ] {
            assert_eq!(Address::parse(bad), None, "{}", bad.escape_debug());
        }
    }

    #[test]
    fn all_texts_of_an_address_are_one() {
        for (text, one) in [
            ("fd00::11", "fd00::11"),
            ("FD00:0:0::11", "fd00::11"),
            ("fd00:0:0:0:0:0:0:11", "fd00::11"),
            ("fd00::0.0.0.17", "fd00::11"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::FFFF:a00:1", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("CP_01.Lan.", "cp_01.lan"),
        ] {
            assert_eq!(canonical(text), one);
        }
        assert_ne!(canonical("fd00::1"), canonical("fd00::11"));
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
