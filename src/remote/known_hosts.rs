//! Pinned SSH host keys in OpenSSH's `known_hosts` format (sshd(8)): parsing, lookup and adding lines. No I/O.

mod held;

use std::collections::BTreeSet;

use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, HashAlg, PublicKey};

pub use self::held::HeldKeys;
use crate::api::host::canonical;

/// The port that `known_hosts` leaves out.
const DEFAULT_PORT: u16 = 22;

/// The ConfigMap key that holds the text.
pub const KNOWN_HOSTS_KEY: &str = "known_hosts";

/// Most bytes of text that are read. The output of `ssh-keyscan` for 99 machines has about 85 KiB.
pub const MAX_TEXT: usize = 128 * 1024;
/// Most bytes of patterns with `*` in one text. Matching may try each of them at every position of a host name.
pub const MAX_STARS: usize = 4 * 1024;
/// Most bytes of a pattern that can match. A host's name has at most 253, with brackets and a port 261.
const MAX_PATTERN: usize = 261;

/// Comment of the lines that NICO adds. NICO removes no others.
const ADDED_BY_NICO: &str = "nico";

/// How a host is treated that no line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Accept its key and pin it: the ConfigMap is NICO's.
    TrustOnFirstUse,
    /// Refuse it: the ConfigMap is the user's and is only read.
    PinnedOnly,
}

/// Result of looking up a host's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The host has this key.
    Known,
    /// The host is pinned, to other keys.
    Changed {
        /// Numbers of the lines that pin it, from 1.
        lines: Vec<usize>,
    },
    /// This key is marked `@revoked` for the host.
    Revoked {
        /// Number of that line, from 1.
        line: usize,
    },
    /// A line has a hashed name. It may pin this host: the hash does not show which host it stands for.
    Hashed {
        /// Number of the first such line, from 1.
        line: usize,
    },
    /// No line names the host.
    Unknown,
}

/// The content of a `known_hosts` ConfigMap.
#[derive(Clone, Debug)]
pub struct KnownHosts {
    config_map: String,
    policy: Policy,
    /// Bytes of the text.
    length: usize,
    /// `None`: the text is longer than NICO reads.
    lines: Option<Vec<Line>>,
}

/// A line that pins a key, or revokes one.
#[derive(Clone, Debug)]
struct Line {
    /// Counted from 1.
    number: usize,
    /// Patterns in lower case, between commas; `None`: the name is hashed.
    hosts: Option<String>,
    marker: Option<Marker>,
    key: KeyData,
}

/// The lines of a `known_hosts` ConfigMap that concern one host.
#[derive(Clone, Debug)]
pub struct HostPins {
    /// The name of the ConfigMap.
    pub config_map: String,
    /// How the host is treated if no line names it.
    pub policy: Policy,
    /// The first line with a hashed name.
    hashed: Option<usize>,
    /// The lines that name the host.
    lines: Vec<Line>,
}

impl KnownHosts {
    /// Parses `text`. Comments, blank lines and malformed lines are skipped, as in OpenSSH. `config_map` is the name for messages.
    #[must_use]
    pub fn parse(config_map: &str, text: &str, policy: Policy) -> Self {
        let lines = || text.lines().enumerate().filter_map(Line::parse).collect();
        let lines = (text.len() <= MAX_TEXT).then(lines);
        Self {
            config_map: config_map.to_owned(),
            policy,
            length: text.len(),
            lines: lines.filter(|lines: &Vec<Line>| {
                lines.iter().map(Line::bytes_with_stars).sum::<usize>() <= MAX_STARS
            }),
        }
    }

    /// The name of the ConfigMap.
    #[must_use]
    pub fn config_map(&self) -> &str {
        &self.config_map
    }

    /// Bytes of the text: a lookup in a long one belongs off the async threads.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// How a host is treated that no line names.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The lines that concern a host; `None` if the text is longer than NICO reads.
    #[must_use]
    pub fn pins(&self, host: &str, port: u16) -> Option<HostPins> {
        let lines = self.lines.as_ref()?;
        let name = host_field(host, port);
        let hashed = lines.iter().find(|line| line.hosts.is_none());
        Some(HostPins {
            config_map: self.config_map.clone(),
            policy: self.policy,
            hashed: hashed.map(|line| line.number),
            lines: lines
                .iter()
                .filter(|line| line.names(&name))
                .cloned()
                .collect(),
        })
    }

    /// Whether the host of `line` (in the form of [`line_for`]) is pinned, or may be pinned by a line with a hashed name. A second key is
    /// never trusted beside the first.
    #[must_use]
    pub fn pins_host_of(&self, line: &str) -> bool {
        let Some(host) = line.split_whitespace().next() else {
            return false;
        };
        let pins = |line: &Line| line.hosts.is_none() || line.marker.is_none() && line.names(host);
        self.lines
            .as_ref()
            .is_none_or(|lines| lines.iter().any(pins))
    }
}

impl HostPins {
    /// Looks up `key`. A host that is pinned only to keys of another type counts as changed: the key exchange asks for the pinned types
    /// first, so the host no longer has them.
    #[must_use]
    pub fn lookup(&self, key: &PublicKey) -> Lookup {
        if let Some(line) = self.hashed {
            return Lookup::Hashed { line };
        }
        let mut lines = Vec::new();
        let mut known = false;
        for line in &self.lines {
            let same = line.key == *key.key_data();
            let line_number = line.number;
            match line.marker {
                Some(Marker::Revoked) if same => return Lookup::Revoked { line: line_number },
                Some(Marker::Revoked | Marker::CertAuthority) => {}
                None => {
                    known |= same;
                    lines.push(line_number);
                }
            }
        }
        match (known, lines.is_empty()) {
            (true, _) => Lookup::Known,
            (false, true) => Lookup::Unknown,
            (false, false) => Lookup::Changed { lines },
        }
    }

    /// The keys that the lines hold for the host, wherever the lines are.
    #[must_use]
    pub fn keys(&self) -> HeldKeys {
        let keys = self.lines.iter();
        HeldKeys::of(keys.map(|line| (line.marker.is_some(), &line.key)))
    }

    /// Whether trust on first use is ruled out: a line pins the host, or may pin it.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        let pins = |line: &Line| line.marker != Some(Marker::Revoked);
        self.hashed.is_some() || self.lines.iter().any(pins)
    }

    /// Number of the first `@cert-authority` line for the host. NICO does not check host certificates.
    #[must_use]
    pub fn authority(&self) -> Option<usize> {
        let is_authority = |line: &&Line| line.marker == Some(Marker::CertAuthority);
        self.lines.iter().find(is_authority).map(|line| line.number)
    }

    /// The types of the pinned keys, in the order of the lines.
    #[must_use]
    pub fn types(&self) -> Vec<Algorithm> {
        let pinned = self.lines.iter().filter(|line| line.marker.is_none());
        pinned.map(|line| line.key.algorithm()).collect()
    }
}

impl Line {
    fn parse((index, line): (usize, &str)) -> Option<Self> {
        let fields = line.split([' ', '\t']).filter(|field| !field.is_empty());
        let line = fields.collect::<Vec<_>>().join(" ");
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let entry: Entry = line.parse().ok()?;
        let hosts = match entry.host_patterns() {
            HostPatterns::HashedName { .. } => None,
            HostPatterns::Patterns(patterns) => {
                let patterns: Vec<String> = patterns
                    .iter()
                    .map(|pattern| one_spelling(pattern))
                    .collect();
                Some(patterns.join(","))
            }
        };
        Some(Self {
            number: index + 1,
            hosts,
            marker: entry.marker().copied(),
            key: entry.public_key().key_data().clone(),
        })
    }

    /// Total bytes of its patterns with `*`. Patterns that are too long to match do not count.
    fn bytes_with_stars(&self) -> usize {
        let patterns = self.hosts.iter().flat_map(|hosts| hosts.split(','));
        patterns
            .filter(|pattern| pattern.contains('*') && pattern.len() <= MAX_PATTERN)
            .map(str::len)
            .sum()
    }

    /// Whether it names `host` (in the form of [`host_field`]).
    fn names(&self, host: &str) -> bool {
        let mut named = false;
        for pattern in self.hosts.iter().flat_map(|hosts| hosts.split(',')) {
            match pattern.strip_prefix('!') {
                Some(negated) if matches(negated.as_bytes(), host.as_bytes()) => return false,
                Some(_) => {}
                None => named |= matches(pattern.as_bytes(), host.as_bytes()),
            }
        }
        named
    }
}

/// A pattern in lower case, with an address spelled as [`canonical`] does.
fn one_spelling(pattern: &str) -> String {
    let (not, host) = match pattern.strip_prefix('!') {
        Some(host) => ("!", host),
        None => ("", pattern),
    };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match bracketed {
        Some((host, port)) => format!("{not}[{}]{port}", canonical(host)),
        None => format!("{not}{}", canonical(host)),
    }
}

/// Appends `line` to `text` unless it contains it already.
#[must_use]
pub fn with_added(text: &str, line: &str) -> String {
    if text.lines().any(|old| old.trim() == line.trim()) {
        return text.to_owned();
    }
    let newline = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{text}{newline}{}\n", line.trim())
}

/// A line of [`line_for`] with the comment that marks it as NICO's.
#[must_use]
pub fn own_line(line: &str) -> String {
    format!("{} {ADDED_BY_NICO}", line.trim())
}

/// Removes the lines that NICO added for hosts other than these.
#[must_use]
pub fn without_former(text: &str, hosts: &BTreeSet<String>, port: u16) -> String {
    let hosts: BTreeSet<String> = hosts.iter().map(|host| host_field(host, port)).collect();
    let is_former = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [host, _, _, ADDED_BY_NICO] => {
                !hosts.contains(host) && !host.starts_with(['#', '@', '|'])
            }
            _ => false,
        }
    };
    let kept = text.split_inclusive('\n').filter(|line| !is_former(line));
    kept.collect()
}

/// The line that pins `key` for a host, without a line break.
#[must_use]
pub fn line_for(host: &str, port: u16, key: &PublicKey) -> String {
    let bare = PublicKey::new(key.key_data().clone(), "");
    // Fails only for unknown algorithms, which are never negotiated.
    let key = bare.to_openssh().unwrap_or_default();
    format!("{} {}", host_field(host, port), key.trim())
}

/// The SHA-256 fingerprint of a key, as `ssh-keygen -l` shows it.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// A host as `known_hosts` writes it: `host`, or `[host]:port` for another port than 22.
fn host_field(host: &str, port: u16) -> String {
    let host = canonical(host);
    if port == DEFAULT_PORT {
        host
    } else {
        format!("[{host}]:{port}")
    }
}

/// Whether `text` matches `pattern`, in which `*` matches any characters and `?` one. Without a `*` it takes at most one step for each byte
/// of `text`, else at most that many for each byte of `pattern`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if pattern.len() > MAX_PATTERN {
        return false;
    }
    let (mut at, mut here) = (0, 0);
    // Where to resume when the last `*` has to match one character more.
    let mut star: Option<(usize, usize)> = None;
    while here < text.len() {
        #[cfg(test)]
        tests::STEPS.set(tests::STEPS.get() + 1);
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, here));
                at += 1;
            }
            Some(c) if *c == b'?' || text.get(here) == Some(c) => {
                at += 1;
                here += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    here = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern
        .get(at..)
        .is_some_and(|rest| rest.iter().all(|c| *c == b'*'))
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test")]
mod tests;
