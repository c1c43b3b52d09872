//! The rules of SPEC 1.1, each written once: the resource's schema and CEL rules, and the check in code, are made of them.
//!
//! A pattern is read by RE2 (API server) and by the `regex` crate alike: no look-around, `^` and `$` at both ends.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use regex::Regex;

use super::names::MAX_LABEL;

/// What a text has to be: its length and checks, in the order in which they are reported.
#[derive(Debug)]
pub struct Text {
    /// Fewest characters.
    pub min: usize,
    /// Most characters.
    pub max: usize,
    /// All of them must hold.
    pub checks: Vec<Check>,
    /// Whether a refused value may be repeated in a message: not where it may hold a secret.
    pub quotable: bool,
}

impl Text {
    /// Why `value` is refused, as the end of a sentence that begins with the field's name.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let length = value.chars().count();
        if length < self.min {
            return Err("must not be empty".to_owned());
        }
        if length > self.max {
            return Err(format!("must have at most {} characters", self.max));
        }
        self.checks
            .iter()
            .find(|check| !check.holds(value))
            .map_or(Ok(()), |check| Err(check.message.to_owned()))
    }
}

/// One condition on a text, with the message for a person.
#[derive(Debug)]
pub struct Check {
    /// How the pattern is meant.
    pub kind: CheckKind,
    /// A regular expression.
    pub pattern: &'static str,
    /// What must be, as the end of a sentence that begins with the field's name.
    pub message: &'static str,
    /// Absent where the pattern is none; a test holds that this never is.
    regex: Option<Regex>,
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
}

impl Check {
    fn new(kind: CheckKind, pattern: &'static str, message: &'static str) -> Self {
        Self {
            kind,
            pattern,
            message,
            regex: Regex::new(pattern).ok(),
        }
    }

    /// The same condition in the API server's language.
    #[must_use]
    pub fn cel(&self, subject: &str) -> String {
        let matches = format!("{subject}.matches(r'{}')", self.pattern);
        match self.kind {
            CheckKind::Matches => matches,
            CheckKind::Lacks => format!("!{matches}"),
            CheckKind::AddressOrMatches => format!("isIP({subject}) || {matches}"),
        }
    }

    /// Whether the condition holds. A pattern that does not compile lets nothing through.
    #[must_use]
    pub fn holds(&self, value: &str) -> bool {
        self.regex.as_ref().is_some_and(|regex| match self.kind {
            CheckKind::Matches => regex.is_match(value),
            CheckKind::Lacks => !regex.is_match(value),
            CheckKind::AddressOrMatches => is_ip(value) || regex.is_match(value),
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

macro_rules! host {
    () => {
        "[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
    };
}
macro_rules! user {
    () => {
        "[A-Za-z0-9_][A-Za-z0-9._+-]*@"
    };
}
// `~` is in: `/~user/repo` is how whole forges name repositories, and inside a word no shell expands it. `%` stands
// before two hexadecimal digits that mean no control character.
macro_rules! path {
    () => {
        "([A-Za-z0-9._~@+=,/-]|%([2-6][0-9A-Fa-f]|7[0-9A-Ea-e]|[89A-Fa-f][0-9A-Fa-f]))"
    };
}

/// `spec.gitRepo`. Never quoted: a URL may hold a password.
pub static GIT_REPO: LazyLock<Text> = LazyLock::new(|| Text {
    min: 1,
    max: 2048,
    quotable: false,
    checks: vec![
        Check::new(
            CheckKind::Lacks,
            "^(https?|git)://[^/]*@|^[a-z+]*(://)?[^/@:]*:[^/]*@",
            "must hold no password, token or user name (a user alone is fine with ssh): put credentials into a Secret and name it in spec.credentialsRef",
        ),
        Check::new(
            CheckKind::Matches,
            "^[A-Za-z0-9._~@:/+=,%-]+$",
            "must be plain ASCII without white space, control characters or anything that a shell or Nix may interpret: only letters, digits and . _ ~ @ : / + = , % - are allowed",
        ),
        Check::new(
            CheckKind::Matches,
            concat!(
                "^((https?|git)://",
                host!(),
                "(:[0-9]{1,5})?/",
                path!(),
                "+|ssh://(",
                user!(),
                ")?",
                host!(),
                "(:[0-9]{1,5})?/",
                path!(),
                "+|",
                user!(),
                host!(),
                ":[A-Za-z0-9._~/]",
                path!(),
                "*)$"
            ),
            "must be https://host/path, http://host/path, ssh://host/path, git://host/path or user@host:path",
        ),
    ],
});

/// `spec.ref`.
pub static GIT_REF: LazyLock<Text> = LazyLock::new(|| Text {
    min: 1,
    max: 255,
    quotable: true,
    checks: vec![Check::new(
        CheckKind::Matches,
        "^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        "must be a branch, tag or commit: letters, digits and . _ / -, beginning with a letter or digit",
    )],
});

const NO_DOTS: &str = "must not contain ..";

/// `spec.configurationSubdir`.
pub static SUBDIR: LazyLock<Text> = LazyLock::new(|| Text {
    min: 1,
    max: 1024,
    quotable: true,
    checks: vec![
        Check::new(
            CheckKind::Matches,
            "^[A-Za-z0-9._][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*$",
            "must be a relative path like clusters/prod: segments of letters, digits and . _ -, with single slashes between them",
        ),
        Check::new(CheckKind::Lacks, r"\.\.", NO_DOTS),
    ],
});

/// `spec.kubeconfig.path`.
pub static KUBECONFIG_PATH: LazyLock<Text> = LazyLock::new(|| Text {
    min: 1,
    max: 1024,
    quotable: true,
    checks: vec![
        Check::new(
            CheckKind::Matches,
            "^/[A-Za-z0-9._/-]+$",
            "must be an absolute path like /etc/kubernetes/admin.conf of letters, digits and . _ / -",
        ),
        Check::new(CheckKind::Lacks, r"\.\.", NO_DOTS),
    ],
});

/// A machine's name, and the cluster's own: a DNS label, since it becomes a host name and a label value.
pub static DNS_LABEL: LazyLock<Text> = LazyLock::new(|| Text {
    min: 1,
    max: MAX_LABEL,
    quotable: true,
    checks: vec![Check::new(
        CheckKind::Matches,
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "must be a DNS label: at most 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit",
    )],
});

/// Name of a Secret (Kubernetes: "DNS Subdomain Names").
pub static SECRET_NAME: LazyLock<Text> = LazyLock::new(|| Text {
    min: 1,
    max: 253,
    quotable: true,
    checks: vec![Check::new(
        CheckKind::Matches,
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "must be the name of a Secret: lower-case letters, digits, hyphens and dots, beginning and ending with a letter or digit",
    )],
});

/// `spec.controlPlaneEndpoint.host`. A last label of digits would be taken for an IPv4 address by some and not by others.
pub static HOST: LazyLock<Text> = LazyLock::new(|| Text {
    min: 1,
    max: 253,
    quotable: true,
    checks: vec![Check::new(
        CheckKind::AddressOrMatches,
        r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z]([-a-z0-9]*[a-z0-9])?$",
        "must be a lower-case DNS name or an IP address, without scheme, port or brackets",
    )],
});

/// Most characters of a label's key: prefix, slash, name.
pub const MAX_LABEL_KEY: usize = 253 + 1 + 63;

/// Key of a label (Kubernetes: "Labels and Selectors, Syntax and character set").
pub static LABEL_KEY: LazyLock<Text> = LazyLock::new(|| Text {
    min: 1,
    max: MAX_LABEL_KEY,
    quotable: true,
    checks: vec![
        Check::new(
            CheckKind::Matches,
            r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
            "must be a label key like role or example.com/role: a name of at most 63 letters, digits and - _ . after an optional DNS name of at most 253 and a slash",
        ),
        Check::new(
            CheckKind::Lacks,
            "^[^/]{254}",
            "must have at most 253 characters before the slash",
        ),
    ],
});

/// Value of a label (Kubernetes: "Labels and Selectors, Syntax and character set").
pub static LABEL_VALUE: LazyLock<Text> = LazyLock::new(|| Text {
    min: 0,
    max: 63,
    quotable: true,
    checks: vec![Check::new(
        CheckKind::Matches,
        "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        "must be a label value: at most 63 letters, digits and - _ ., beginning and ending with a letter or digit, or empty",
    )],
});

/// Per cent in `spec.rollout.maxUnavailable`.
pub static PERCENT: LazyLock<Check> = LazyLock::new(|| {
    Check::new(
        CheckKind::Matches,
        "^([1-9][0-9]?|100)%$",
        MAX_UNAVAILABLE_MESSAGE,
    )
});

/// The number in a percentage of `spec.rollout.maxUnavailable`.
#[must_use]
pub fn percent(text: &str) -> Option<u32> {
    PERCENT
        .holds(text)
        .then(|| text.trim_end_matches('%').parse().ok())?
}

/// What `spec.rollout.maxUnavailable` must be.
pub const MAX_UNAVAILABLE_MESSAGE: &str =
    "must be a number from 1 to 1000, or a percentage from 1% to 100%";
/// Numbers allowed in `spec.rollout.maxUnavailable`.
pub const MAX_UNAVAILABLE: RangeInclusive<i64> = 1..=1000;

/// `spec.controlPlane.count`, and how many machines may be listed there.
pub const CONTROL_PLANE_COUNT: RangeInclusive<i64> = 1..=99;
/// `spec.dataPlane.count`, and how many machines may be listed there.
pub const DATA_PLANE_COUNT: RangeInclusive<i64> = 0..=1000;
/// `spec.controlPlaneEndpoint.port`.
pub const PORT: RangeInclusive<i64> = 1..=65535;
/// Port of an API server where none is said.
pub const DEFAULT_PORT: u16 = 6443;
/// `spec.rollout.progressDeadlineSeconds`, up to a week.
pub const PROGRESS_DEADLINE: RangeInclusive<i64> = 1..=604_800;
/// NIO's own timeout for an apply is 3600 seconds (SPEC 1.1).
pub const DEFAULT_PROGRESS_DEADLINE: u32 = 4200;
/// `spec.rollout.drainTimeoutSeconds`, up to a day.
pub const DRAIN_TIMEOUT: RangeInclusive<i64> = 0..=86_400;
/// How long a leaving machine's pods are given where nothing is said.
pub const DEFAULT_DRAIN_TIMEOUT: u32 = 300;

/// Most entries of `matchLabels`, and of `matchExpressions`: bounds the cost of the CEL rules.
pub const MAX_REQUIREMENTS: usize = 16;
/// Most values of one of `matchExpressions`.
pub const MAX_VALUES: usize = 64;

/// `controlPlane` asks for nothing.
pub const CONTROL_PLANE_MESSAGE: &str = "must ask for at least one machine: list names in machines, or give both machineSelector and count";
/// `dataPlane` has a selector or a count alone.
pub const DATA_PLANE_MESSAGE: &str =
    "machineSelector and count go together: give both, or list names in machines";
/// A machine is asked for in both roles.
pub const BOTH_ROLES_MESSAGE: &str =
    "a machine can have one role only: take it out of controlPlane.machines or dataPlane.machines";
/// `In` and `NotIn` without values, the others with some.
pub const VALUES_MESSAGE: &str =
    "operators In and NotIn need values, Exists and DoesNotExist take none";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::names::is_dns_label;

    #[test]
    fn every_pattern_compiles() {
        for text in [
            &GIT_REPO,
            &GIT_REF,
            &SUBDIR,
            &KUBECONFIG_PATH,
            &DNS_LABEL,
            &SECRET_NAME,
            &HOST,
            &LABEL_KEY,
            &LABEL_VALUE,
        ] {
            for check in &text.checks {
                assert!(check.regex.is_some(), "{}", check.pattern);
                assert!(!check.pattern.contains('\''), "ends a CEL text");
            }
        }
        assert!(PERCENT.regex.is_some());
    }

    proptest! {
        #[test]
        fn the_pattern_of_a_dns_label_says_what_the_type_says(name in "[a-zA-Z0-9.-]{0,66}") {
            prop_assert_eq!(DNS_LABEL.check(&name).is_ok(), is_dns_label(&name));
        }
    }
}
