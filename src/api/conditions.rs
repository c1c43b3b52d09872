//! Condition types and reasons, each defined once for code, tests, documents and alerts.

use std::fmt;

/// Type of a condition of a `KubernetesCluster`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The cluster is as the spec asks (kstatus).
    Ready,
    /// NICO or NIO is still at work (kstatus).
    Reconciling,
    /// The user has to act before anything continues (kstatus).
    Stalled,
    /// Every control plane machine is confirmed.
    ControlPlaneReady,
    /// Every worker is confirmed.
    DataPlaneReady,
    /// Every machine that the spec asks for is a member.
    MachinesAvailable,
    /// The kubeconfig Secret exists and works.
    KubeconfigReady,
    /// A living cluster is being changed, or waits to be.
    RollingOut,
    /// `spec.paused` holds everything.
    Paused,
}

impl ConditionType {
    /// All types, in the order in which status shows them.
    pub const ALL: [Self; 9] = [
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
        Self::ControlPlaneReady,
        Self::DataPlaneReady,
        Self::MachinesAvailable,
        Self::KubeconfigReady,
        Self::RollingOut,
        Self::Paused,
    ];
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An enum that lists its variants, so that none is forgotten where all are needed.
macro_rules! listed {
    ($(#[$of:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident,)* }) => {
        $(#[$of])*
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
        }
    };
}

listed! {
/// Machine-readable reason of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// All is as it should be.
    AsExpected,
    /// The spec breaks a rule of the resource.
    InvalidSpec,
    /// Neither the spec nor the operator names a repository.
    GitRepoMissing,
    /// The ref of the repository could not be resolved to a commit.
    RefUnresolved,
    /// `refPolicy: Pin` with an NIO that cannot.
    PinNotSupported,
    /// `fullInstall: true` with an NIO that would wipe again.
    FullInstallUnsafe,
    /// NIO's resources are not served.
    NIOMissing,
    /// A Job of NIO's has not ended for too long.
    BlockedByJob,
    /// A configuration carries the finalizer of another generation of NIO.
    OldFinalizer,
    /// NIO cannot make names of its own from the machine's.
    MachineNameTooLong,
    /// The token Secret is gone while configurations refer to it.
    JoinTokenLost,
    /// A Secret or ConfigMap of that name is not ours.
    SecretConflict,
    /// A Secret that a configuration would refer to is missing or lacks its key.
    SecretMissing,
    /// A machine's SSH key is missing or is not a private key.
    SSHKeyMissing,
    /// A machine's SSH key is where NICO or NIO cannot use it.
    SSHKeyUnusable,
    /// NICO did not write the content of the ledger.
    LedgerUnreadable,
    /// A machine is used by another cluster or another user's configuration.
    MachineInUse,
    /// A listed Machine does not exist.
    MachineMissing,
    /// The name of a Machine that a selector matches is no DNS label, or a Machine is named `minimal`.
    MachineNameUnusable,
    /// The address of a Machine is invalid.
    MachineAddressMalformed,
    /// A machine is not discoverable.
    MachineUndiscoverable,
    /// A selector matches fewer free machines than asked for.
    TooFewMachines,
    /// A claim is released for an older cluster, or to start again.
    GivingBack,
    /// A machine is not confirmed yet.
    WaitingForMachines,
    /// NIO reports a problem with a machine.
    NIOComplains,
    /// A machine is out of date.
    OutOfDate,
    /// A member no longer matches its selector.
    SelectorMismatch,
    /// The control plane's machines are not all confirmed yet.
    WaitingForControlPlane,
    /// The kubeconfig is being fetched.
    Fetching,
    /// No kubeconfig could be read from a machine.
    KubeconfigUnreadable,
    /// A machine sent an unsafe kubeconfig.
    KubeconfigUnsafe,
    /// A machine's host key changed.
    HostKeyChanged,
    /// A machine's host key is not in the user's known hosts.
    HostKeyUnknown,
    /// The kubeconfig is stored though NICO cannot reach the API server.
    Unverified,
    /// The stored kubeconfig does not work.
    KubeconfigBroken,
    /// A machine was not confirmed within `progressDeadlineSeconds`.
    ProgressDeadlineExceeded,
    /// Fewer than a quorum of the control plane machines are healthy.
    QuorumLost,
    /// A change of the control plane would leave fewer than a quorum healthy.
    QuorumAtRisk,
    /// A control plane of two would lose a machine, and with it its quorum.
    WouldLoseQuorum,
    /// The cluster's own API cannot be reached.
    ClusterUnreachable,
    /// A machine's node is not Ready, or none matches it.
    NodeNotReady,
    /// A control plane machine without a Node does not say that it is ready.
    ApiServerNotReady,
    /// A machine has more than one Node.
    DuplicateNode,
    /// A worker's kubelet is newer than the API server.
    VersionSkew,
    /// A machine is being changed.
    InFlight,
    /// A machine that leaves waits for its pods.
    Draining,
    /// A left-over Node must be deleted before its machine joins.
    NodeLeftOver,
    /// A machine left, and its Node cannot be deleted because the cluster's own API cannot be reached.
    MemberNotRemoved,
    /// The ledger was created again: NICO waits until requests based on the lost one can no longer take effect.
    Fencing,
    /// The cluster was founded, and no kubeconfig could ever be read.
    NeverReachable,
    /// The control plane of a founded cluster no longer exists.
    ControlPlaneLost,
    /// `spec.paused` is true.
    PausedBySpec,
    /// `spec.paused` is false.
    NotPaused,
    /// The cluster is being deleted.
    Deleting,
    /// The API server refused a write.
    ApiRefused,
    /// Work goes on.
    Progressing,
    /// The spec asks for none.
    NoneRequested,
    /// Not determined yet.
    Unknown,
}
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Whether a reason requires user action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// It is part of normal operation.
    No,
    /// It may end by itself, and requires user action once it has lasted.
    IfItLasts,
    /// It does not end by itself.
    Yes,
}

impl Attention {
    /// Whether the reason of a condition requires user action. A text that is no [`Reason`] does not.
    #[must_use]
    pub fn of(reason: &str) -> Self {
        let mut all = Reason::ALL.iter();
        let known = all.find(|it| it.to_string() == reason);
        known.map_or(Self::No, |it| it.attention())
    }
}

impl Reason {
    /// Whether it requires user action.
    #[must_use]
    pub fn attention(self) -> Attention {
        match self {
            Self::InvalidSpec
            | Self::GitRepoMissing
            | Self::PinNotSupported
            | Self::FullInstallUnsafe
            | Self::NIOMissing
            | Self::BlockedByJob
            | Self::OldFinalizer
            | Self::MachineNameTooLong
            | Self::JoinTokenLost
            | Self::SecretConflict
            | Self::SecretMissing
            | Self::SSHKeyMissing
            | Self::SSHKeyUnusable
            | Self::LedgerUnreadable
            | Self::MachineInUse
            | Self::MachineMissing
            | Self::MachineNameUnusable
            | Self::MachineAddressMalformed
            | Self::TooFewMachines
            | Self::KubeconfigUnsafe
            | Self::HostKeyChanged
            | Self::HostKeyUnknown
            | Self::ProgressDeadlineExceeded
            | Self::WouldLoseQuorum
            | Self::VersionSkew
            | Self::NeverReachable
            | Self::ControlPlaneLost => Attention::Yes,
            Self::RefUnresolved
            | Self::MachineUndiscoverable
            | Self::GivingBack
            | Self::NIOComplains
            | Self::KubeconfigUnreadable
            | Self::Unverified
            | Self::KubeconfigBroken
            | Self::QuorumLost
            | Self::QuorumAtRisk
            | Self::ClusterUnreachable
            | Self::NodeNotReady
            | Self::ApiServerNotReady
            | Self::DuplicateNode
            | Self::NodeLeftOver
            | Self::MemberNotRemoved
            | Self::ApiRefused => Attention::IfItLasts,
            Self::AsExpected
            | Self::WaitingForMachines
            | Self::OutOfDate
            | Self::SelectorMismatch
            | Self::WaitingForControlPlane
            | Self::Fetching
            | Self::InFlight
            | Self::Draining
            | Self::Fencing
            | Self::PausedBySpec
            | Self::NotPaused
            | Self::Deleting
            | Self::Progressing
            | Self::NoneRequested
            | Self::Unknown => Attention::No,
        }
    }
}

/// A machine-readable reason, and a human-readable message that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// Machine-readable reason.
    pub reason: Reason,
    /// Human-readable message.
    pub message: String,
}

impl Cause {
    /// A cause.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}
