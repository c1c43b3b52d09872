//! The rules of a spec, each defined once: the resource's schema and CEL rules and the check in code are derived from them.
//!
//! A pattern is read by RE2 (API server) and by the `regex` crate alike: no look-around, `^` and `$` at both ends.

mod text;

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use super::names::{MAX_LABEL, MAX_SUBDOMAIN};
use CheckKind::{AddressOrLacks, AddressOrMatches, Lacks, Matches};
pub use text::{Check, CheckKind, Text};

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
// `~` is allowed: some forges name repositories `/~user/repo`, and no shell expands it inside a word. `%` must precede two hexadecimal
// digits that mean no control character.
macro_rules! path {
    () => {
        "([A-Za-z0-9._~@+=,/-]|%([2-6][0-9A-Fa-f]|7[0-9A-Ea-e]|[89A-Fa-f][0-9A-Fa-f]))"
    };
}

/// `spec.gitRepo`. Never quoted: a URL may hold a password.
pub static GIT_REPO: LazyLock<Text> = LazyLock::new(|| {
    let text = Text::new(1..=2048, vec![
        Lacks.check(
            "^(https?|git)://[^/]*@|^[a-z+]*(://)?[^/@:]*:[^/]*@",
            "must hold no password, token or user name (a user alone is fine with ssh): put credentials into a Secret and name it in spec.credentialsRef",
        ),
        Matches.check(
            "^[A-Za-z0-9._~@:/+=,%-]+$",
            "must be plain ASCII without white space, control characters or anything that a shell or Nix may interpret: only letters, digits and . _ ~ @ : / + = , % - are allowed",
        ),
        Matches.check(
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
    ]);
    Text {
        quotable: false,
        ..text
    }
});

/// `spec.ref`: the names that git accepts (git-check-ref-format(1)), without characters that a shell may interpret.
pub static GIT_REF: LazyLock<Text> = LazyLock::new(|| {
    Text::new(1..=255, vec![
        Matches.check(
            "^[A-Za-z0-9][A-Za-z0-9._/-]*$",
            "must be a branch, tag or commit: letters, digits and . _ / -, beginning with a letter or digit",
        ),
        Lacks.check(
            r"\.\.|//|/\.|[/.]$|\.lock(/|$)",
            "must be a name that git takes: without .., // or /., without / or . at the end, and no part of it ends in .lock",
        ),
    ])
});

const NO_DOTS: &str = "must not contain ..";

/// `spec.configurationSubdir`.
pub static SUBDIR: LazyLock<Text> = LazyLock::new(|| {
    Text::new(1..=1024, vec![
        Matches.check(
            "^[A-Za-z0-9._][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*$",
            "must be a relative path like clusters/prod: segments of letters, digits and . _ -, with single slashes between them",
        ),
        Lacks.check(r"\.\.", NO_DOTS),
    ])
});

/// `spec.kubeconfig.path`.
pub static KUBECONFIG_PATH: LazyLock<Text> = LazyLock::new(|| {
    Text::new(1..=1024, vec![
        Matches.check(
            "^/[A-Za-z0-9._/-]+$",
            "must be an absolute path like /etc/kubernetes/admin.conf of letters, digits and . _ / -",
        ),
        Lacks.check(r"\.\.", NO_DOTS),
    ])
});

/// A machine's name, and the cluster's own: a DNS label, since it becomes a host name and a label value.
pub static DNS_LABEL: LazyLock<Text> = LazyLock::new(|| {
    Text::new(1..=MAX_LABEL, vec![Matches.check(
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "must be a DNS label: at most 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit",
    )])
});

/// Name of a Secret (Kubernetes: "DNS Subdomain Names").
pub static SECRET_NAME: LazyLock<Text> = LazyLock::new(|| {
    Text::new(1..=MAX_SUBDOMAIN, vec![Matches.check(
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "must be the name of a Secret: lower-case letters, digits, hyphens and dots, beginning and ending with a letter or digit",
    )])
});

/// `spec.controlPlaneEndpoint.host`. Some programs read a name whose last label is a number as an IPv4 address, others do not.
pub static HOST: LazyLock<Text> = LazyLock::new(|| {
    Text::new(
        1..=253,
        vec![
            AddressOrMatches.check(
                r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
                "must be a lower-case DNS name or an IP address, without scheme, port or brackets",
            ),
            AddressOrLacks.check(
                r"(^|\.)([0-9]+|0x[0-9a-f]*)$",
                "must be an IP address as it is usually written, or a DNS name whose last part is no number",
            ),
        ],
    )
});

/// Key of a label (Kubernetes: "Labels and Selectors, Syntax and character set").
pub static LABEL_KEY: LazyLock<Text> = LazyLock::new(|| {
    Text::new(1..=253 + 1 + 63, vec![
        Matches.check(
            r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
            "must be a label key like role or example.com/role: a name of at most 63 letters, digits and - _ . after an optional DNS name of at most 253 and a slash",
        ),
        Lacks.check(
            "^[^/]{254}",
            "must have at most 253 characters before the slash",
        ),
    ])
});

/// Value of a label (Kubernetes: "Labels and Selectors, Syntax and character set").
pub static LABEL_VALUE: LazyLock<Text> = LazyLock::new(|| {
    Text::new(0..=63, vec![Matches.check(
        "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        "must be a label value: at most 63 letters, digits and - _ ., beginning and ending with a letter or digit, or empty",
    )])
});

/// Per cent in `spec.rollout.maxUnavailable`.
pub static PERCENT: LazyLock<Check> =
    LazyLock::new(|| Matches.check("^([1-9][0-9]?|100)%$", MAX_UNAVAILABLE_MESSAGE));

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

/// What a role may ask for.
#[derive(Debug)]
pub struct PoolRule {
    /// `count`, and how many machines may be listed.
    pub count: RangeInclusive<i64>,
    /// Which fields must be set together, in CEL.
    pub cel: &'static str,
    /// The same as a human-readable message.
    pub message: &'static str,
}

macro_rules! listed {
    () => {
        "(has(self.machines) && size(self.machines) > 0)"
    };
}

/// `spec.controlPlane`: at least one machine.
pub static CONTROL_PLANE: PoolRule = PoolRule {
    count: 1..=99,
    cel: concat!(
        listed!(),
        " || (has(self.machineSelector) && has(self.count))"
    ),
    message: "must ask for at least one machine: list names in machines, or give both machineSelector and count",
};
/// `spec.dataPlane`: neither a selector nor a count alone, but for a count of none.
pub static DATA_PLANE: PoolRule = PoolRule {
    count: 0..=1000,
    cel: concat!(
        listed!(),
        " || has(self.machineSelector) == has(self.count) || (has(self.count) && self.count == 0)"
    ),
    message: "machineSelector and count go together: give both, or list names in machines",
};
/// A machine is asked for in both roles.
pub const BOTH_ROLES_MESSAGE: &str =
    "a machine can have one role only: remove it from controlPlane.machines or dataPlane.machines";

/// `spec.controlPlaneEndpoint.port`.
pub const PORT: RangeInclusive<i64> = 1..=65535;
/// Port of an API server if none is set.
pub const DEFAULT_PORT: u16 = 6443;
/// `spec.rollout.progressDeadlineSeconds`, up to a week.
pub const PROGRESS_DEADLINE: RangeInclusive<i64> = 1..=604_800;
/// NIO's own timeout for an apply is 3600 seconds.
pub const DEFAULT_PROGRESS_DEADLINE: u32 = 4200;
/// `spec.rollout.drainTimeoutSeconds`, up to a day.
pub const DRAIN_TIMEOUT: RangeInclusive<i64> = 0..=86_400;
/// Time to evict a leaving machine's pods if none is set.
pub const DEFAULT_DRAIN_TIMEOUT: u32 = 300;

/// Most entries of `matchLabels`, and of `matchExpressions`: bounds the cost of the CEL rules.
pub const MAX_REQUIREMENTS: usize = 16;
/// Most values of one of `matchExpressions`.
pub const MAX_VALUES: usize = 64;

/// How one of `matchExpressions` relates a label to values (Kubernetes API reference, `LabelSelectorRequirement`).
pub const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];
/// `In` and `NotIn` without values, the others with some.
pub const VALUES_MESSAGE: &str =
    "operators In and NotIn need values, Exists and DoesNotExist take none";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::form::Form as _;
    use crate::api::host::Host;
    use crate::api::names::{ObjectName, is_dns_label};

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

    #[test]
    fn a_ref_is_a_name_that_git_takes() {
        for good in [
            "main",
            "v1.2.3",
            "release/1.2",
            "a/b/c",
            "a.b/c.d",
            "lock",
            "a.lock2",
            "a.locks/b",
            "HEAD",
            "1-x_",
            "a/-b",
            "0123456789abcdef0123456789abcdef01234567",
        ] {
            assert_eq!(GIT_REF.check(good), Ok(()), "{good}");
        }
        for bad in [
            "a..b",
            "a...b",
            "x//y",
            "main.lock",
            "a.lock/b",
            "a/.lock",
            "a/.b",
            "a/..",
            "end/",
            "end.",
            "a/b.",
            "a/.",
            "a//",
        ] {
            assert!(GIT_REF.check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_may_end_in_a_label_that_begins_with_a_digit_but_in_no_number() {
        for good in [
            "52-54-00-12-34-56",
            "rack1.2u-04",
            "cp.1a",
            "3rd",
            "10-0-0-1.nip.io",
            "0xg",
            "1.2.3.0x1-2",
            "0.0.0.0x7z",
            "vip",
            "10.0.0.10",
            "fd00::10",
        ] {
            assert_eq!(HOST.check(good), Ok(()), "{good}");
        }
        for bad in [
            "1.2.3.256",
            "0x7f.1",
            "127.1",
            "a.0x7f",
            "a.0x",
            "0x",
            "7",
            "a.7",
            "010.0.0.1",
            "::ffff:10.0.0.1",
            "a.-1",
            "a.1-",
            &format!("{}.x", "a".repeat(64)),
        ] {
            assert!(HOST.check(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_pattern_of_a_dns_label_says_what_the_type_says(name in "[a-zA-Z0-9.-]{0,66}") {
            prop_assert_eq!(DNS_LABEL.check(&name).is_ok(), is_dns_label(&name));
        }

        #[test]
        fn the_patterns_of_a_host_say_what_the_type_says(name in "[0-9a-gx.-]{0,9}|[a-z]{62,65}\\.x|([0-9]{1,3}\\.){1,4}(0x)?[0-9a-g-]{0,3}") {
            let parsed = Host::parse(&name).filter(|host| host.to_string() == name);
            prop_assert_eq!(HOST.check(&name).is_ok(), parsed.is_some());
        }

        #[test]
        fn the_pattern_of_a_secrets_name_says_what_the_type_says(name in "[a-zA-Z0-9. /-]{0,8}|[a-z]{240,260}") {
            prop_assert_eq!(SECRET_NAME.check(&name).is_ok(), ObjectName::parse(&name).is_some());
        }
    }
}
