//! Parses `spec.gitRepo` into transport, host, port and path.

use crate::api::host::Host;

/// The protocol by which a repository is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Http,
    Https,
    Ssh,
    Git,
}

impl Transport {
    const ALL: [(&str, Self); 4] = [
        ("http", Self::Http),
        ("https", Self::Https),
        ("ssh", Self::Ssh),
        ("git", Self::Git),
    ];

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Ssh => 22,
            Self::Git => 9418,
        }
    }
}

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) transport: Transport,
    pub(super) user: Option<String>,
    pub(super) host: Host,
    pub(super) port: u16,
    /// With HTTP as in the URL, else with percent escapes decoded.
    pub(super) path: Vec<u8>,
}

impl Place {
    /// Parses a URL or `user@host:path`; `None` if it has no form that the spec allows.
    pub(super) fn parse(repo: &str) -> Option<Self> {
        let Some((scheme, rest)) = repo.split_once("://") else {
            let (user, rest) = repo.split_once('@')?;
            let (host, path) = rest.split_once(':')?;
            return Self::checked(Transport::Ssh, Some(user), host, None, path.into());
        };
        let transport = Transport::ALL.iter().find(|(name, _)| *name == scheme)?.1;
        let (authority, _) = rest.split_once('/')?;
        let path = rest.get(authority.len()..)?;
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) if transport == Transport::Ssh => (Some(user), address),
            Some(_) => return None,
            None => (None, authority),
        };
        let (host, port) = match address.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (address, None),
        };
        let path = match transport {
            Transport::Http | Transport::Https => path.trim_end_matches('/').into(),
            // `/~user` is that user's home directory.
            _ => decoded(path.strip_prefix("/~").map_or(path, |_| &path[1..]))?,
        };
        Self::checked(transport, user, host, port, path)
    }

    fn checked(
        transport: Transport,
        user: Option<&str>,
        host: &str,
        port: Option<u16>,
        path: Vec<u8>,
    ) -> Option<Self> {
        let plain = |c: &u8| !c.is_ascii_control();
        let is_user = |user: &str| {
            let plain = |c: u8| c.is_ascii_alphanumeric() || b"._+-".contains(&c);
            !user.is_empty() && !user.starts_with('-') && user.bytes().all(plain)
        };
        let usable = path.iter().all(plain) && !path.is_empty() && user.is_none_or(is_user);
        usable.then_some(Self {
            transport,
            user: user.map(ToOwned::to_owned),
            host: Host::with_underscores(host)?,
            port: port.unwrap_or(transport.port()),
            path,
        })
    }

    /// Host and port for messages, without the default port.
    pub(super) fn at(&self) -> String {
        if self.port == self.transport.port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Scheme, host and port of an HTTP server.
    pub(super) fn origin(&self) -> String {
        let scheme = match self.transport {
            Transport::Https => "https",
            _ => "http",
        };
        format!("{scheme}://{}:{}", self.host.in_url(), self.port)
    }
}

/// Decodes the percent escapes in the path of a URL.
fn decoded(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn each_form_of_the_spec_names_a_place() {
        for (repo, transport, user, at, path) in [
            (
                "https://git.example.com/a/b.git/",
                Transport::Https,
                None,
                "git.example.com",
                "/a/b.git",
            ),
            (
                "http://10.0.0.1:3000/a%20b",
                Transport::Http,
                None,
                "10.0.0.1:3000",
                "/a%20b",
            ),
            (
                "ssh://git@h.example:2222/a%27b",
                Transport::Ssh,
                Some("git"),
                "h.example:2222",
                "/a'b",
            ),
            (
                "ssh://h.example/~bob/x",
                Transport::Ssh,
                None,
                "h.example",
                "~bob/x",
            ),
            ("git://h.example/x", Transport::Git, None, "h.example", "/x"),
            (
                "https://Git_Server.lan/x",
                Transport::Https,
                None,
                "git_server.lan",
                "/x",
            ),
            (
                "git@git_server:x",
                Transport::Ssh,
                Some("git"),
                "git_server",
                "x",
            ),
            (
                "git@h.example:a/b%20c",
                Transport::Ssh,
                Some("git"),
                "h.example",
                "a/b%20c",
            ),
        ] {
            let place = Place::parse(repo).unwrap();
            assert_eq!(place.transport, transport, "{repo}");
            assert_eq!(place.user.as_deref(), user, "{repo}");
            assert_eq!(place.at(), at, "{repo}");
            assert_eq!(place.path, path.as_bytes(), "{repo}");
        }
    }

    #[test]
    fn what_is_no_plain_place_is_none() {
        for repo in [
            "file:///etc",
            "https://user:secret@h.example/x",
            "https://h.example",
            "ssh://-oProxyCommand=x@h.example/x",
            "ssh://-h/x",
            "git@h.example:",
            "git://h.example/a%0ab",
            "git://h.example/a%zz",
            "https://h.example:99999/x",
        ] {
            assert_eq!(Place::parse(repo), None, "{repo}");
        }
    }
}
