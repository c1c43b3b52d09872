//! The rules of a text: its length and patterns, as code and as CEL.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use regex::Regex;

use CheckKind::{AddressOrLacks, AddressOrMatches, Lacks, Matches};

/// The rules of a text: its length and checks, in the order in which they are reported.
#[derive(Debug)]
pub struct Text {
    /// Characters.
    pub length: RangeInclusive<usize>,
    /// All of them must pass.
    pub checks: Vec<Check>,
    /// Whether a message may repeat a refused value: not if it may contain a secret.
    pub quotable: bool,
}

impl Text {
    pub(super) fn new(length: RangeInclusive<usize>, checks: Vec<Check>) -> Self {
        Self {
            length,
            checks,
            quotable: true,
        }
    }

    /// Why `value` is refused, as the end of a sentence that begins with the field's name.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let length = value.chars().count();
        if length < *self.length.start() {
            return Err("must not be empty".to_owned());
        }
        if length > *self.length.end() {
            return Err(format!(
                "must have at most {} characters",
                self.length.end()
            ));
        }
        self.checks
            .iter()
            .find(|check| !check.holds(value))
            .map_or(Ok(()), |check| Err(check.message.to_owned()))
    }
}

/// One condition on a text, with its human-readable message.
#[derive(Debug)]
pub struct Check {
    /// How the pattern is meant.
    pub kind: CheckKind,
    /// A regular expression.
    pub pattern: &'static str,
    /// What must be, as the end of a sentence that begins with the field's name.
    pub message: &'static str,
    /// `None` if the pattern does not compile; a test checks that all do.
    pub(super) regex: Option<Regex>,
}

/// How the pattern of a [`Check`] is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// The text matches it.
    Matches,
    /// Nothing in the text matches it.
    Lacks,
    /// The text is an IP address or matches it.
    AddressOrMatches,
    /// The text is an IP address, or nothing in it matches.
    AddressOrLacks,
}

impl CheckKind {
    pub(super) fn check(self, pattern: &'static str, message: &'static str) -> Check {
        Check {
            kind: self,
            pattern,
            message,
            regex: Regex::new(pattern).ok(),
        }
    }
}

impl Check {
    /// The same condition in CEL.
    #[must_use]
    pub fn cel(&self, subject: &str) -> String {
        let matches = format!("{subject}.matches(r'{}')", self.pattern);
        match self.kind {
            Matches => matches,
            Lacks => format!("!{matches}"),
            AddressOrMatches => format!("isIP({subject}) || {matches}"),
            AddressOrLacks => format!("isIP({subject}) || !{matches}"),
        }
    }

    /// Whether the condition is met. A pattern that does not compile accepts nothing.
    #[must_use]
    pub fn holds(&self, value: &str) -> bool {
        self.regex.as_ref().is_some_and(|regex| match self.kind {
            Matches => regex.is_match(value),
            Lacks => !regex.is_match(value),
            AddressOrMatches => is_ip(value) || regex.is_match(value),
            AddressOrLacks => is_ip(value) || !regex.is_match(value),
        })
    }
}

/// As CEL's `isIP`: no zone, and no IPv4 address dressed as IPv6 (Kubernetes, "CEL IP address library").
fn is_ip(value: &str) -> bool {
    value.parse().is_ok_and(|address| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => address.to_ipv4_mapped().is_none(),
    })
}
