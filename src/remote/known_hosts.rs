//! Pinned SSH host keys in OpenSSH's `known_hosts` format (sshd(8)): read, asked, added to. No I/O.

use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, HashAlg, PublicKey};

/// The port that `known_hosts` leaves out.
const DEFAULT_PORT: u16 = 22;

/// The ConfigMap key that holds the text.
pub const KNOWN_HOSTS_KEY: &str = "known_hosts";

/// What is done with a host that no line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Its key is accepted and is to be pinned: the ConfigMap is NICO's.
    TrustOnFirstUse,
    /// It is refused: the ConfigMap is the user's own and is only read.
    PinnedOnly,
}

/// What is known of a host's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The host has this key.
    Known,
    /// The host is pinned, to other keys.
    Changed {
        /// The lines that pin it, counted from 1.
        lines: Vec<usize>,
    },
    /// This key is marked `@revoked` for the host.
    Revoked {
        /// The line that says so, counted from 1.
        line: usize,
    },
    /// A line has a hashed name, so nobody can say which host it pins.
    Hashed {
        /// The first such line, counted from 1.
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
    entries: Vec<(usize, Entry)>,
}

impl KnownHosts {
    /// Reads `text`; comments, blank lines and lines that are not of the format are passed over, as OpenSSH does. `config_map` is the name for messages.
    #[must_use]
    pub fn parse(config_map: &str, text: &str, policy: Policy) -> Self {
        let entry = |(index, line): (usize, &str)| {
            let line = line.replace('\t', " ");
            let line = line.trim();
            let fields = line.split(' ').filter(|field| !field.is_empty());
            let line = fields.collect::<Vec<_>>().join(" ");
            if line.is_empty() || line.starts_with('#') {
                return None;
            }
            line.parse().ok().map(|entry: Entry| (index + 1, entry))
        };
        Self {
            config_map: config_map.to_owned(),
            policy,
            entries: text.lines().enumerate().filter_map(entry).collect(),
        }
    }

    /// The name of the ConfigMap.
    #[must_use]
    pub fn config_map(&self) -> &str {
        &self.config_map
    }

    /// What is done with a host that no line names.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// What is known of `key` at `host` and `port`. A host that is pinned only to keys of another type counts as changed: it is asked for
    /// the pinned types first, so that it no longer has them.
    #[must_use]
    pub fn lookup(&self, host: &str, port: u16, key: &PublicKey) -> Lookup {
        if let Some(line) = self.hashed() {
            return Lookup::Hashed { line };
        }
        let mut lines = Vec::new();
        let mut known = false;
        for (line, entry) in self.of(host, port) {
            let same = entry.public_key().key_data() == key.key_data();
            match entry.marker() {
                Some(Marker::Revoked) if same => return Lookup::Revoked { line },
                Some(Marker::Revoked | Marker::CertAuthority) => {}
                None => {
                    known |= same;
                    lines.push(line);
                }
            }
        }
        match (known, lines.is_empty()) {
            (true, _) => Lookup::Known,
            (false, true) => Lookup::Unknown,
            (false, false) => Lookup::Changed { lines },
        }
    }

    /// The types of the keys that are pinned for a host, in the order of the lines.
    #[must_use]
    pub fn pinned_types(&self, host: &str, port: u16) -> Vec<Algorithm> {
        let pinned = self
            .of(host, port)
            .filter(|(_, entry)| entry.marker().is_none());
        pinned
            .map(|(_, entry)| entry.public_key().algorithm())
            .collect()
    }

    /// Whether the host that `line` (as [`line_for`] writes it) names is pinned already, or may be: a second key is never trusted beside
    /// the first.
    #[must_use]
    pub fn pins_host_of(&self, line: &str) -> bool {
        let Some(host) = line.split_whitespace().next() else {
            return false;
        };
        self.hashed().is_some()
            || self
                .entries
                .iter()
                .any(|(_, entry)| entry.marker().is_none() && names(entry.host_patterns(), host))
    }

    /// The first line with a hashed name.
    fn hashed(&self) -> Option<usize> {
        self.entries.iter().find_map(|(line, entry)| {
            matches!(entry.host_patterns(), HostPatterns::HashedName { .. }).then_some(*line)
        })
    }

    fn of(&self, host: &str, port: u16) -> impl Iterator<Item = (usize, &Entry)> {
        let name = host_field(host, port);
        self.entries
            .iter()
            .filter(move |(_, entry)| names(entry.host_patterns(), &name))
            .map(|(line, entry)| (*line, entry))
    }
}

/// `text` with `line` at its end, unless it is there already.
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

/// The line that pins `key` for a host, without a line break.
#[must_use]
pub fn line_for(host: &str, port: u16, key: &PublicKey) -> String {
    let bare = PublicKey::new(key.key_data().clone(), "");
    // Only keys of unknown algorithms cannot be written, and those are never negotiated.
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
    let host = host.to_ascii_lowercase();
    if port == DEFAULT_PORT {
        host
    } else {
        format!("[{host}]:{port}")
    }
}

/// Whether the hosts field of a line names `host` (in the form of [`host_field`]).
fn names(patterns: &HostPatterns, host: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { .. } => false,
        HostPatterns::Patterns(patterns) => {
            let mut named = false;
            for pattern in patterns {
                let pattern = pattern.to_ascii_lowercase();
                match pattern.strip_prefix('!') {
                    Some(negated) if matches(negated.as_bytes(), host.as_bytes()) => return false,
                    Some(_) => {}
                    None => named |= matches(pattern.as_bytes(), host.as_bytes()),
                }
            }
            named
        }
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any characters and `?` for one.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    // Where to go on when the last `*` takes one character more.
    let mut star: Option<(usize, usize)> = None;
    while here < text.len() {
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
mod tests {
    #![allow(clippy::expect_used, reason = "a test")]

    use super::*;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMPVPDA40Ivsb6Rw+cwwO9TW0tLFVmtbIvRnCW2vEkHj";
    const TWO: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBj6K8fVVPVY0/W8YhH1SUUc02jqc1eR5nLzpCxMIYM8";

    fn key(text: &str) -> PublicKey {
        text.parse().expect("the key is well-formed")
    }

    fn lookup(text: &str, host: &str, port: u16) -> Lookup {
        KnownHosts::parse("prod-known-hosts", text, Policy::PinnedOnly).lookup(
            host,
            port,
            &key(ONE),
        )
    }

    #[test]
    fn hosts_ports_and_other_lines() {
        let text = format!(
            "# a comment\n\n10.0.0.11 {ONE} root@cp-01\n[10.0.0.11]:2222 {TWO}\ngarbage\ncp-02,10.0.0.12\t{TWO}\n"
        );
        assert_eq!(lookup(&text, "10.0.0.11", 22), Lookup::Known);
        assert_eq!(
            lookup(&text, "10.0.0.11", 2222),
            Lookup::Changed { lines: vec![4] }
        );
        assert_eq!(
            lookup(&text, "10.0.0.12", 22),
            Lookup::Changed { lines: vec![6] }
        );
        assert_eq!(
            lookup(&text, "CP-02", 22),
            Lookup::Changed { lines: vec![6] }
        );
        assert_eq!(lookup(&text, "10.0.0.1", 22), Lookup::Unknown);
        assert_eq!(lookup(&text, "10.0.0.11", 23), Lookup::Unknown);
        assert_eq!(lookup("", "10.0.0.11", 22), Lookup::Unknown);
    }

    #[test]
    fn a_host_is_pinned_by_any_line_that_names_it() {
        let pins = |text: &str, host: &str| {
            let line = line_for(host, 22, &key(TWO));
            KnownHosts::parse("c", text, Policy::TrustOnFirstUse).pins_host_of(&line)
        };
        for text in ["10.0.0.11", "cp-01,10.0.0.11", "10.0.0.*"] {
            assert!(
                pins(&format!("# of NICO's\n{text} {ONE}\n"), "10.0.0.11"),
                "{text}"
            );
        }
        for text in ["10.0.0.1", "[10.0.0.11]:2222", "@cert-authority *"] {
            assert!(!pins(&format!("{text} {ONE}\n"), "10.0.0.11"), "{text}");
        }
    }

    #[test]
    fn several_keys_of_a_host() {
        let text = format!("cp {TWO}\ncp {ONE}\n");
        assert_eq!(lookup(&text, "cp", 22), Lookup::Known);
        let known = KnownHosts::parse("c", &text, Policy::TrustOnFirstUse);
        assert_eq!(
            known.pinned_types("cp", 22),
            [Algorithm::Ed25519, Algorithm::Ed25519]
        );
    }

    #[test]
    fn revoked_keys_and_authorities() {
        let revoked = format!("cp {ONE}\n@revoked * {ONE}\n");
        assert_eq!(lookup(&revoked, "cp", 22), Lookup::Revoked { line: 2 });
        let authority = format!("@cert-authority * {ONE}\n");
        assert_eq!(lookup(&authority, "cp", 22), Lookup::Unknown);
        assert_eq!(
            lookup(&format!("@revoked * {TWO}\n"), "cp", 22),
            Lookup::Unknown
        );
    }

    #[test]
    fn patterns() {
        assert_eq!(
            lookup(&format!("10.0.0.* {ONE}"), "10.0.0.11", 22),
            Lookup::Known
        );
        assert_eq!(lookup(&format!("cp-0? {ONE}"), "cp-01", 22), Lookup::Known);
        assert_eq!(
            lookup(&format!("cp-*,!cp-01 {ONE}"), "cp-01", 22),
            Lookup::Unknown
        );
        assert_eq!(
            lookup(&format!("!cp-01,cp-* {ONE}"), "cp-02", 22),
            Lookup::Known
        );
        assert_eq!(lookup(&format!("*a*b {ONE}"), "xaxxb", 22), Lookup::Known);
        assert_eq!(
            lookup(&format!("*a*b {ONE}"), "xaxxbc", 22),
            Lookup::Unknown
        );
    }

    #[test]
    fn a_hashed_name_hides_whom_it_pins() {
        // As OpenSSH's `ssh-keygen -H` made it of a line for cp-01.
        let hashed = format!("|1|08oFISMPwTogL009WBp6CDk1M8s=|KYGH803fcOYtyGg0IQfQGWxbjFI= {ONE}");
        let hidden = |line| Lookup::Hashed { line };
        for host in ["cp-01", "cp-02"] {
            assert_eq!(lookup(&hashed, host, 22), hidden(1));
            let beside = format!("{host} {ONE}\n{hashed}\n");
            assert_eq!(lookup(&beside, host, 22), hidden(2));
            let revoked = format!("{host} {ONE}\n\n@revoked {hashed}\n");
            assert_eq!(lookup(&revoked, host, 22), hidden(3));
            let line = line_for(host, 22, &key(TWO));
            assert!(KnownHosts::parse("c", &hashed, Policy::TrustOnFirstUse).pins_host_of(&line));
        }
    }

    #[test]
    fn a_line_is_added_once() {
        let line = line_for("fd00::1", 2222, &key(&format!("{ONE} a comment")));
        assert_eq!(line, format!("[fd00::1]:2222 {ONE}"));
        let text = with_added("cp x", &line);
        assert_eq!(text, format!("cp x\n{line}\n"));
        assert_eq!(with_added(&text, &line), text);
        assert_eq!(lookup(&text, "fd00::1", 2222), Lookup::Known);
        assert_eq!(line_for("CP", 22, &key(ONE)), format!("cp {ONE}"));
    }
}
