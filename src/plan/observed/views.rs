//! What was read, as the planner sees it: facts about the cluster, Secrets, keys and the kubeconfig, and no secret byte.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::api::conditions::Cause;
use crate::api::ledger::{Ledger, LedgerError};
use crate::api::names::{Commit, MachineName, ORPHAN_FINALIZER};
use crate::api::rules::DEFAULT_PORT;
use crate::api::spec::ValidSpec;
use crate::api::status::ClusterStatus;
use crate::plan::writes::{Precondition, Wanted};

/// What a git server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitQuestion {
    /// The repository.
    pub git_repo: String,
    /// Branch or tag; absent: the default branch.
    pub git_ref: Option<String>,
    /// Name of the credentials Secret.
    pub credentials: Option<String>,
    /// What the ledger said when this was asked.
    pub held: Option<Commit>,
}

/// What a git server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitAnswer {
    /// The question.
    pub question: GitQuestion,
    /// The commit, or why there is none.
    pub answer: Result<Commit, String>,
}

/// A Secret as found: never its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretView {
    /// There is none.
    Absent,
    /// Ours, with what it should hold.
    Ours,
    /// Not ours, and its owner lets this cluster use it; it holds what it should.
    Adopted,
    /// Ours, or adopted, and it lacks its key, or holds others that NIO would take first.
    Unusable,
    /// Being deleted, held by a finalizer.
    Terminating,
    /// Left by a former cluster of this name, being deleted, and held by NICO's finalizer alone though nothing refers to it.
    Leftover,
    /// Not ours.
    Foreign,
}

impl SecretView {
    /// Whether a configuration may refer to it.
    #[must_use]
    pub fn usable(self) -> bool {
        match self {
            Self::Ours | Self::Adopted => true,
            Self::Absent | Self::Unusable | Self::Terminating | Self::Leftover | Self::Foreign => {
                false
            }
        }
    }
}

/// The SSH key of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshKeyView {
    /// A private key that may be used.
    Usable {
        /// The Secret of the cluster's namespace that holds it.
        secret: String,
        /// Fingerprint of the public half.
        fingerprint: String,
    },
    /// It cannot be given to the machine: why, and the mend.
    Unusable(Cause),
}

/// Another cluster of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its name.
    pub name: String,
    /// Its `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
}

/// The kubeconfig, stored and on its way.
#[derive(Clone, Debug)]
pub struct KubeconfigView {
    /// The Secret.
    pub secret: SecretView,
    /// What is in the Secret, where it is ours.
    pub stored: Option<Stored>,
    /// Whether the stored one works, as far as it was tried.
    pub works: Works,
    /// How often in a row it did not.
    pub failures: u32,
    /// Whether it is time to try it again.
    pub try_again: bool,
    /// The background fetch.
    pub fetch: Fetch,
}

/// A stored kubeconfig, but for what is secret in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Version of its Secret.
    pub version: Precondition,
    /// Host that it leads to; `None` where it is not as NICO wrote it: somebody edited it.
    pub host: Option<String>,
    /// The endpoint that it was made for, as [`Endpoint`](crate::api::spec::Endpoint) is written; empty where there was none.
    pub endpoint: String,
    /// Port of the members' API servers; `None` where that is not known.
    pub port: Option<u16>,
    /// From when to when its client certificate is valid; `None` where it has none.
    pub client_certificate: Option<(Timestamp, Timestamp)>,
    /// When it was stored; `None` where an older version did that.
    pub stored: Option<Timestamp>,
}

impl Stored {
    /// Port at which the members are asked; `None`: that of the kubeconfig, unless it leads to the endpoint.
    #[must_use]
    pub fn member_port(&self, spec: &ValidSpec) -> Option<u16> {
        let has_endpoint = spec.endpoint.is_some();
        has_endpoint.then(|| self.port.unwrap_or(DEFAULT_PORT))
    }
}

/// Whether the stored kubeconfig works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Works {
    /// It was not tried yet.
    Unknown,
    /// It did when last tried.
    Yes,
    /// It did not when last tried: why.
    No(NotWorking),
}

/// Why nodes could not be listed through a kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotWorking {
    /// Whether the API server could not be reached at all; else it was, and the kubeconfig is at fault.
    pub unreachable: bool,
    /// Why, for a person.
    pub why: String,
}

/// The background fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetch {
    /// Whether it runs now.
    pub running: bool,
    /// When it was last started.
    pub began: Option<Timestamp>,
    /// Why its last round failed.
    pub failure: Option<Cause>,
    /// Whether host keys are to be pinned, or those of machines that left removed.
    pub new_host_key: bool,
    /// The host keys of the control plane.
    pub hosts: HostKeys,
    /// A kubeconfig that it read.
    pub at_hand: Option<AtHand>,
}

/// The host keys of the control plane, as far as they were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostKeys {
    /// Whether it is time to exchange keys with machines.
    pub meet: bool,
    /// The machines about which a person has to decide, and why.
    pub to_decide: BTreeMap<MachineName, Cause>,
}

/// The control plane, as it is asked for its host keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlPlaneHosts {
    /// The addresses of those that are confirmed.
    pub confirmed: BTreeMap<MachineName, String>,
    /// The addresses of all that have not left yet; `None` where one is not known.
    pub all: Option<BTreeSet<String>>,
}

/// A kubeconfig that was read and not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtHand {
    /// Whether nodes were listed through it; else why not.
    pub verified: Result<(), NotWorking>,
    /// When its client certificate ends; `None` where it has none.
    pub ends: Option<Timestamp>,
}

impl AtHand {
    /// Whether nodes were listed through it.
    #[must_use]
    pub fn works(&self) -> bool {
        self.verified.is_ok()
    }

    /// Whether it is one that is wanted.
    #[must_use]
    pub fn suits(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::First | Wanted::Any => true,
            Wanted::Working => self.works(),
            Wanted::Later(than) => self.works() && self.ends.is_none_or(|ends| ends > than),
        }
    }
}

/// The ConfigMap with pinned host keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownHostsView {
    /// There is none.
    Absent,
    /// Ours.
    Ours,
    /// The user's own: only read.
    Foreign,
}

/// The ledger as found.
#[derive(Clone, Debug)]
pub enum LedgerView {
    /// There is none.
    Absent,
    /// A ConfigMap of that name is not ours.
    Foreign,
    /// Being deleted, and held by NICO's finalizer alone: left by a former cluster of this name, or deleted by a person.
    Leftover,
    /// It is ours and cannot be read.
    Unreadable(LedgerError),
    /// It is ours.
    Ours(Precondition, Ledger),
}

impl LedgerView {
    /// The ledger, where it is ours and readable.
    #[must_use]
    pub fn ours(&self) -> Option<&Ledger> {
        match self {
            Self::Ours(_, ledger) => Some(ledger),
            Self::Absent | Self::Foreign | Self::Leftover | Self::Unreadable(_) => None,
        }
    }
}

/// The cluster object, but for its spec.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// Value of the annotation `accept-quorum-loss`.
    pub accept_quorum_loss: Option<String>,
    /// Names in the annotation `force-release`; without any, it is not set.
    pub force_release: BTreeSet<String>,
    /// Status as stored, for what changed and when.
    pub status: ClusterStatus,
}

/// Names of the annotation `force-release` that count: as many as a cluster can have machines. Those beyond are not looked up.
const MOST_FORCED: usize = 1100;

/// The names in a value of the annotation `force-release`, which are separated by commas.
#[must_use]
pub fn force_release_names(value: &str) -> BTreeSet<String> {
    let names = value.split(',').take(MOST_FORCED);
    names.map(|name| name.trim().to_owned()).collect()
}

impl ClusterView {
    /// Whether a person vouches that a machine is off: it is named, or `all` are while the cluster is being deleted.
    #[must_use]
    pub fn forces(&self, machine: &str) -> bool {
        let names = &self.force_release;
        names.contains(machine) || (self.deleting && names.contains("all"))
    }

    /// The machines that a person names as being off.
    pub fn forced(&self) -> impl Iterator<Item = MachineName> {
        let names = self.force_release.iter();
        names.filter_map(|name| MachineName::parse(name))
    }

    /// Whether the deletion leaves everything behind (Kubernetes, "Garbage collection": orphaned dependents).
    #[must_use]
    pub fn is_orphaning(&self) -> bool {
        self.deleting && self.finalizers.iter().any(|it| it == ORPHAN_FINALIZER)
    }

    /// The version that a write to the cluster object insists on.
    #[must_use]
    pub fn precondition(&self) -> Precondition {
        Precondition {
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
        }
    }
}
