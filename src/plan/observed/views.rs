//! The planner's view of what was read: facts about the cluster, Secrets, keys and the kubeconfig, without any secret.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::api::conditions::Cause;
use crate::api::ledger::{Ledger, LedgerError};
use crate::api::names::{Commit, MachineName, ORPHAN_FINALIZER};
use crate::api::rules::DEFAULT_PORT;
use crate::api::spec::ValidSpec;
use crate::api::status::ClusterStatus;
use crate::plan::writes::{Precondition, Wanted};

/// A question to a git server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitQuestion {
    /// The repository.
    pub git_repo: String,
    /// Branch or tag; absent: the default branch.
    pub git_ref: Option<String>,
    /// Name of the credentials Secret.
    pub credentials: Option<String>,
    /// The commit in the ledger when this was asked.
    pub held: Option<Commit>,
}

/// The answer of a git server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitAnswer {
    /// The question.
    pub question: GitQuestion,
    /// The commit, or an error for users.
    pub answer: Result<Commit, String>,
}

impl GitQuestion {
    /// Whether the git server is asked the same: all but what the ledger says.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let held = other.held.clone();
        *other
            == Self {
                held,
                ..self.clone()
            }
    }
}

impl GitAnswer {
    /// The answer to this question. If the ledger has changed since it was asked, a commit counts only if the ledger has the same one by
    /// now.
    #[must_use]
    pub fn to(self, question: &GitQuestion) -> Option<Self> {
        let Self {
            question: asked,
            answer,
        } = self;
        let counts = match &answer {
            Ok(commit) => asked == *question || question.held.as_ref() == Some(commit),
            Err(_) => true,
        };
        (counts && asked.asks_the_same(question)).then(|| Self {
            question: question.clone(),
            answer,
        })
    }
}

/// The state of a Secret, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretView {
    /// It does not exist.
    Absent,
    /// It belongs to the cluster, and its content is valid.
    Ours,
    /// It does not belong to the cluster, but is annotated for its use; its content is valid.
    Adopted,
    /// It belongs to the cluster or is adopted, but lacks its key, or has others that NIO would use instead.
    Unusable,
    /// It is being deleted, and a finalizer keeps it.
    Terminating,
    /// It was left by a former cluster of this name and is being deleted. Only NICO's finalizer keeps it, and nothing refers to it.
    Leftover,
    /// It belongs to another party.
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
    /// It has a usable private key.
    Usable {
        /// Its Secret in the cluster's namespace.
        secret: String,
        /// Fingerprint of the public half.
        fingerprint: String,
    },
    /// The machine cannot get it: the reason, and what to do.
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

/// The kubeconfig: the stored one, and the fetch.
#[derive(Clone, Debug)]
pub struct KubeconfigView {
    /// The Secret.
    pub secret: SecretView,
    /// The content of the Secret, if it belongs to the cluster.
    pub stored: Option<Stored>,
    /// Whether the stored one worked when it was last tried.
    pub works: Works,
    /// How often in a row it failed.
    pub failures: u32,
    /// Whether the next try is due.
    pub try_again: bool,
    /// The background fetch.
    pub fetch: Fetch,
}

/// A stored kubeconfig, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Version of its Secret.
    pub version: Precondition,
    /// Host of its server; `None` if it was edited since NICO wrote it.
    pub host: Option<String>,
    /// The endpoint that it was made for, as [`Endpoint`](crate::api::spec::Endpoint) is written; empty if there was none.
    pub endpoint: String,
    /// Port of the members' API servers; `None` if it is unknown.
    pub port: Option<u16>,
    /// Validity of its client certificate; `None` if it has none.
    pub client_certificate: Option<(Timestamp, Timestamp)>,
    /// When it was stored; `None` if an older version of NICO stored it.
    pub stored: Option<Timestamp>,
}

impl Stored {
    /// Port of requests to the members; `None` for the port of the kubeconfig, unless that leads to the endpoint.
    #[must_use]
    pub fn member_port(&self, spec: &ValidSpec) -> Option<u16> {
        let has_endpoint = spec.endpoint.is_some();
        has_endpoint.then(|| self.port.unwrap_or(DEFAULT_PORT))
    }
}

/// Whether the stored kubeconfig works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Works {
    /// It has not been tried yet.
    Unknown,
    /// The last try succeeded.
    Yes,
    /// The last try failed with this error.
    No(NotWorking),
}

/// Why nodes could not be listed through a kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotWorking {
    /// Whether the API server could not be reached. Otherwise it answered, and the kubeconfig is at fault.
    pub unreachable: bool,
    /// Error for users.
    pub why: String,
}

/// The background fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetch {
    /// Whether it is running.
    pub running: bool,
    /// When it was last started.
    pub began: Option<Timestamp>,
    /// The error of its last round.
    pub failure: Option<Cause>,
    /// Whether new host keys have to be pinned, or those of machines that left removed.
    pub new_host_key: bool,
    /// The host keys of the control plane.
    pub hosts: HostKeys,
    /// A kubeconfig that it read.
    pub at_hand: Option<AtHand>,
}

/// State of the control plane's host keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostKeys {
    /// Whether the next key exchange with machines is due.
    pub meet: bool,
    /// Whether no exchange with them has ended yet, or what came of it was not written yet.
    pub pending: bool,
    /// The machines whose host keys the user has to decide on, and why.
    pub to_decide: BTreeMap<MachineName, Cause>,
}

/// The control plane machines whose host keys are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlPlaneHosts {
    /// The addresses of confirmed machines.
    pub confirmed: BTreeMap<MachineName, String>,
    /// The addresses of all machines that have not left yet; `None` if one is unknown.
    pub all: Option<BTreeSet<String>>,
}

/// A kubeconfig that was read and not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtHand {
    /// The result of listing nodes through it.
    pub verified: Result<(), NotWorking>,
    /// When its client certificate expires; `None` if it has none.
    pub ends: Option<Timestamp>,
}

impl AtHand {
    /// Whether nodes were listed through it.
    #[must_use]
    pub fn works(&self) -> bool {
        self.verified.is_ok()
    }

    /// Whether this kubeconfig is the wanted one.
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
    /// It does not exist.
    Absent,
    /// It belongs to the cluster.
    Ours,
    /// It belongs to the user: NICO only reads it.
    Foreign,
}

/// The state of the ledger.
#[derive(Clone, Debug)]
pub enum LedgerView {
    /// It does not exist.
    Absent,
    /// A ConfigMap with its name belongs to another party.
    Foreign,
    /// It is being deleted, and only NICO's finalizer keeps it: a former cluster of this name left it, or a user deleted it.
    Leftover,
    /// It belongs to the cluster and cannot be read.
    Unreadable(LedgerError),
    /// It belongs to the cluster.
    Ours(Precondition, Ledger),
}

impl LedgerView {
    /// The ledger, if it belongs to the cluster and can be read.
    #[must_use]
    pub fn ours(&self) -> Option<&Ledger> {
        match self {
            Self::Ours(_, ledger) => Some(ledger),
            Self::Absent | Self::Foreign | Self::Leftover | Self::Unreadable(_) => None,
        }
    }
}

/// The cluster object, without its spec.
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
    /// The stored status: the new one is compared with it.
    pub status: ClusterStatus,
}

/// Most names that are read of the annotation `force-release`: as many as a cluster can have machines.
const MOST_FORCED: usize = 1100;

/// The names in a value of the annotation `force-release`, which are separated by commas.
#[must_use]
pub fn force_release_names(value: &str) -> BTreeSet<String> {
    let names = value.split(',').take(MOST_FORCED);
    names.map(|name| name.trim().to_owned()).collect()
}

impl ClusterView {
    /// Whether a machine is force-released: the annotation names it, or says `all` while the cluster is being deleted.
    #[must_use]
    pub fn forces(&self, machine: &str) -> bool {
        let names = &self.force_release;
        names.contains(machine) || (self.deleting && names.contains("all"))
    }

    /// The machines that the annotation `force-release` names.
    pub fn forced(&self) -> impl Iterator<Item = MachineName> {
        let names = self.force_release.iter();
        names.filter_map(|name| MachineName::parse(name))
    }

    /// Whether the deletion orphans the dependents (Kubernetes, "Garbage collection").
    #[must_use]
    pub fn is_orphaning(&self) -> bool {
        self.deleting && self.finalizers.iter().any(|it| it == ORPHAN_FINALIZER)
    }

    /// The precondition of a write to the cluster object.
    #[must_use]
    pub fn precondition(&self) -> Precondition {
        Precondition {
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
        }
    }
}
