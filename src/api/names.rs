//! Names: newtypes parsed once at the edge, and every label, annotation, finalizer and object name that NICO writes.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::form::Form;

/// API group of `KubernetesCluster`, and prefix of every label, annotation and finalizer of NICO's.
pub const GROUP: &str = "nico.homystack.com";
/// Field manager of every write (Kubernetes: server-side apply, "Field management").
pub const FIELD_MANAGER: &str = "nico";

/// Finalizer of a `KubernetesCluster`.
pub const CLUSTER_FINALIZER: &str = "nico.homystack.com/cluster";
/// Finalizer of the children that NIO or NICO still needs.
pub const IN_USE_FINALIZER: &str = "nico.homystack.com/in-use";

/// The finalizer that classic NIO puts on configurations.
pub const CLASSIC_FINALIZER: &str = "kopf.zalando.org/KopfFinalizerMarker";
/// The finalizer that NIO v1 puts on configurations.
pub const V1_FINALIZER: &str = "nio.homystack.com/finalizer";
/// The finalizers of all generations of NIO.
pub const NIO_FINALIZERS: [&str; 2] = [CLASSIC_FINALIZER, V1_FINALIZER];
/// On what is deleted while its dependents stay (Kubernetes, "Garbage collection").
pub const ORPHAN_FINALIZER: &str = "orphan";

/// Label that every child carries, with the value [`FIELD_MANAGER`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Label of every child: the cluster's name.
pub const CLUSTER_LABEL: &str = "nico.homystack.com/cluster";
/// Label of every configuration: `control-plane` or `worker`.
pub const ROLE_LABEL: &str = "nico.homystack.com/role";

/// On a configuration: the marker that was seen applied.
pub const CONFIRMED_ANNOTATION: &str = "nico.homystack.com/confirmed";
/// Value of [`CONFIRMED_ANNOTATION`] once NIO's proof spoke of another attempt.
pub const WITHDRAWN: &str = "withdrawn";
/// On a configuration: when its marker was written, RFC 3339.
pub const WRITTEN_ANNOTATION: &str = "nico.homystack.com/written";
/// On a configuration: when it was rewritten though its last attempt was not confirmed, RFC 3339; that attempt may still run.
pub const REWRITTEN_ANNOTATION: &str = "nico.homystack.com/rewritten";
/// On a configuration: a value never used before, so that every older pending write fails.
pub const TOUCHED_ANNOTATION: &str = "nico.homystack.com/touched";
/// On a Node: since when NICO drains it, RFC 3339.
pub const DRAINING_ANNOTATION: &str = "nico.homystack.com/draining";
/// On a Node: `"true"` where NICO made it unschedulable, so that NICO may undo that.
pub const CORDONED_ANNOTATION: &str = "nico.homystack.com/cordoned";
/// On a cluster: the control plane machine that may leave a control plane of two.
pub const ACCEPT_QUORUM_LOSS_ANNOTATION: &str = "nico.homystack.com/accept-quorum-loss";
/// On a cluster: machines that are permanently off, as a person declares, separated by commas, at most 1,100; `all` while the cluster is being deleted.
pub const FORCE_RELEASE_ANNOTATION: &str = "nico.homystack.com/force-release";
/// On a Secret that is not NICO's: the cluster that may use it as its token.
pub const ADOPT_ANNOTATION: &str = "nico.homystack.com/adopt";
/// On the kubeconfig Secret: SHA-256 of what NICO wrote there, by which an edit by hand is recognized.
pub const DIGEST_ANNOTATION: &str = "nico.homystack.com/digest";
/// On the kubeconfig Secret: the endpoint of the spec that it was made for; empty where there was none.
pub const ENDPOINT_ANNOTATION: &str = "nico.homystack.com/endpoint";
/// On the kubeconfig Secret: the port of the members' API servers, as the machine's own kubeconfig names it; empty where it does not.
pub const PORT_ANNOTATION: &str = "nico.homystack.com/port";
/// On the kubeconfig Secret: when it was stored, RFC 3339. Its renewal goes by what remained of the client certificate's life then:
/// kubeadm dates certificates back to the birth of their authority.
pub const STORED_ANNOTATION: &str = "nico.homystack.com/stored";
/// On a Machine: `"true"` keeps a selector from taking it.
pub const RELEASE_ANNOTATION: &str = "nico.homystack.com/release";

/// Most characters of a DNS label (RFC 1123), the form of machine and cluster names.
pub const MAX_LABEL: usize = 63;

/// Most characters of a DNS subdomain (RFC 1123).
pub const MAX_SUBDOMAIN: usize = 253;

/// Whether `name` is a DNS label: at most 63 of `a-z0-9-`, alphanumeric at both ends (RFC 1123).
#[must_use]
pub fn is_dns_label(name: &str) -> bool {
    name.len() <= MAX_LABEL && is_label_of_any_length(name)
}

fn is_label_of_any_length(name: &str) -> bool {
    let edge = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let bytes = name.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-')
}

/// The text of a newtype.
macro_rules! text {
    ($($name:ident),*) => {
        $(impl $name {
            /// The same as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        })*
    };
}

text!(MachineName, ObjectName, ClusterId, Revision, Marker, Commit);

fn is_lower_hex(text: &str, length: usize) -> bool {
    let hex = |c: &u8| c.is_ascii_digit() || (b'a'..=b'f').contains(c);
    text.len() == length && text.as_bytes().iter().all(hex)
}

/// Name of a Machine, which is also the name of its configuration, of its flake output and of its host. A plan over a thousand machines
/// clones each name many times: all clones share the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineName(Arc<str>);

impl MachineName {
    /// The name, where it is a DNS label.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        is_dns_label(name).then(|| Self(name.into()))
    }
}

impl Serialize for MachineName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MachineName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a DNS label"))
    }
}

/// Name of a Secret, a namespace or another object that is named by a DNS subdomain (Kubernetes: "Object Names and IDs").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ObjectName(String);

impl Form for ObjectName {
    fn parse(name: &str) -> Option<Self> {
        let is_subdomain =
            name.len() <= MAX_SUBDOMAIN && name.split('.').all(is_label_of_any_length);
        is_subdomain.then(|| Self(name.to_owned()))
    }
}

/// A git commit: 40 lower-case hexadecimal characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Commit(String);

impl Commit {
    /// The commit that a ref names by itself, in digits of either case; `None` where a server has to be asked.
    #[must_use]
    pub fn named_by(git_ref: &str) -> Option<Self> {
        Self::parse(&git_ref.to_ascii_lowercase())
    }
}

impl Form for Commit {
    fn parse(text: &str) -> Option<Self> {
        is_lower_hex(text, 40).then(|| Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Commit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a commit"))
    }
}

/// Id of one founding of a cluster: 16 lower-case hexadecimal characters. Data of another id is not this cluster's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ClusterId(String);

impl ClusterId {
    /// The id, where it has its form.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        is_lower_hex(id, 16).then(|| Self(id.to_owned()))
    }

    /// The id made of 64 random bits.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(format!("{bits:016x}"))
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not 16 hexadecimal characters"))
    }
}

/// Digest of all that should make NIO apply again: 12 lower-case hexadecimal characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(String);

const REVISION_LEN: usize = 12;

impl Revision {
    /// The revision, where it has its form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_lower_hex(text, REVISION_LEN).then(|| Self(text.to_owned()))
    }

    /// The first characters of a hexadecimal digest.
    #[must_use]
    pub fn from_digest(hex: &str) -> Self {
        Self(hex.get(..REVISION_LEN).unwrap_or(hex).to_owned())
    }
}

/// Name of one attempt: `<revision>-<g>`, where no two attempts of a configuration share a `g`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marker(String);

/// Directory of the marker file, which is the last additional file.
pub const MARKER_DIR: &str = ".nico/";

impl Marker {
    /// The marker of a first configuration, by the Unix time of its creation in seconds.
    #[must_use]
    pub fn at_creation(revision: &Revision, unix_seconds: i64) -> Self {
        Self(format!("{revision}-t{unix_seconds}"))
    }

    /// The marker of a rewrite, by the configuration's `metadata.generation` as read for that write, or a later number.
    #[must_use]
    pub fn at_generation(revision: &Revision, generation: i64) -> Self {
        Self(format!("{revision}-{generation}"))
    }

    /// The marker that a file path holds, if it is one of ours.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        Self::text_in(path).map(|text| Self(text.to_owned()))
    }

    /// The same as text, which costs no allocation.
    #[must_use]
    pub fn text_in(path: &str) -> Option<&str> {
        let (_, text) = path.rsplit_once(MARKER_DIR)?;
        let (revision, attempt) = text.split_once('-')?;
        let digits = attempt.strip_prefix('t').unwrap_or(attempt);
        let valid = is_lower_hex(revision, REVISION_LEN)
            && !digits.is_empty()
            && digits.bytes().all(|c| c.is_ascii_digit());
        valid.then_some(text)
    }

    /// What tells it apart from others of its revision, where that is a number; at creation it is a time.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        let (_, attempt) = self.0.split_once('-')?;
        attempt.parse().ok()
    }

    /// The path of the marker file, relative to the flake.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{MARKER_DIR}{}", self.0)
    }

    /// The revision that this attempt is to apply.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision::from_digest(&self.0)
    }
}

/// Name of the ConfigMap that is the ledger.
#[must_use]
pub fn ledger_name(cluster: &str) -> String {
    format!("{cluster}-nico")
}

/// Name of the ConfigMap with the pinned SSH host keys.
#[must_use]
pub fn known_hosts_name(cluster: &str) -> String {
    format!("{cluster}-known-hosts")
}

/// Name of the Secret with the admin kubeconfig.
#[must_use]
pub fn kubeconfig_name(cluster: &str) -> String {
    format!("{cluster}-kubeconfig")
}

/// Name of the control plane's token Secret.
#[must_use]
pub fn join_token_name(cluster: &str) -> String {
    format!("{cluster}-join-token")
}

/// Name of the workers' token Secret.
#[must_use]
pub fn worker_token_name(cluster: &str) -> String {
    format!("{cluster}-worker-token")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_labels() {
        for good in ["a", "cp-01", "0", &"a".repeat(63)] {
            assert!(is_dns_label(good), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a_b",
            "é",
            "a\n",
            &"a".repeat(64),
        ] {
            assert!(!is_dns_label(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_marker_is_read_back_from_its_path() {
        let revision = Revision::from_digest("0123456789abcdef");
        for marker in [
            Marker::at_creation(&revision, 1_767_000_000),
            Marker::at_generation(&revision, 7),
        ] {
            assert_eq!(Marker::from_path(&marker.path()), Some(marker.clone()));
            assert_eq!(
                Marker::from_path(&format!("clusters/prod/{}", marker.path())),
                Some(marker.clone())
            );
            assert_eq!(marker.revision(), revision);
        }
        for bad in [
            "",
            ".nico/",
            ".nico/0123456789ab",
            ".nico/0123456789ab-",
            ".nico/0123456789ab-x",
            "0123456789ab-1",
        ] {
            assert_eq!(Marker::from_path(bad), None, "{bad}");
        }
    }
}
