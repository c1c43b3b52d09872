//! In what a held configuration differs from what it should be, one word each, for the planner and for people.

use std::fmt;

/// One thing in which a configuration differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Difference {
    /// `spec.gitRepo`.
    GitRepo,
    /// `spec.ref`.
    Ref,
    /// `spec.ref`, which is a pinned commit: the branch or tag names another since the machine was written.
    Commit,
    /// `spec.configurationSubdir`.
    ConfigurationSubdir,
    /// `spec.credentialsRef`.
    CredentialsRef,
    /// `spec.flake`.
    Flake,
    /// `spec.onRemoveFlake`.
    OnRemoveFlake,
    /// `spec.machineRef`.
    MachineRef,
    /// `spec.fullInstall`.
    FullInstall,
    /// `name` in cluster.nix.
    ClusterName,
    /// `id` in cluster.nix.
    ClusterId,
    /// `endpoint` in cluster.nix.
    Endpoint,
    /// `controlPlane` in cluster.nix.
    ControlPlaneMembers,
    /// `workers` in cluster.nix.
    Workers,
    /// cluster.nix is not one of NICO's.
    ClusterNix,
    /// The last file is no marker.
    MarkerFile,
    /// The list of files, but for the texts that are compared by themselves.
    AdditionalFiles,
    /// The machine's SSH key.
    SshKey,
    /// The marker names another revision, and nothing else tells why.
    Revision,
    /// The machine is not confirmed, and was told to join nobody, or one that is no member.
    Join,
    /// NIO shows the machine as unconfigured though it is confirmed.
    Reapply,
}

impl Difference {
    /// Whether it comes of who is in the cluster alone: such changes are gathered.
    #[must_use]
    pub fn is_of_the_lists(self) -> bool {
        matches!(self, Self::ControlPlaneMembers | Self::Workers)
    }

    /// Whether it comes by itself, and not of a change of the spec: a machine that is being applied is not written again for it.
    #[must_use]
    pub fn comes_by_itself(self) -> bool {
        self.is_of_the_lists() || self == Self::Commit
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GitRepo => "gitRepo",
            Self::Ref => "ref",
            Self::Commit => "commit",
            Self::ConfigurationSubdir => "configurationSubdir",
            Self::CredentialsRef => "credentialsRef",
            Self::Flake => "flake",
            Self::OnRemoveFlake => "onRemoveFlake",
            Self::MachineRef => "machineRef",
            Self::FullInstall => "fullInstall",
            Self::ClusterName => "cluster name",
            Self::ClusterId => "cluster id",
            Self::Endpoint => "controlPlaneEndpoint",
            Self::ControlPlaneMembers => "control plane members",
            Self::Workers => "workers",
            Self::ClusterNix => "cluster.nix",
            Self::MarkerFile => "marker file",
            Self::AdditionalFiles => "additionalFiles",
            Self::SshKey => "SSH key",
            Self::Revision => "revision",
            Self::Join => "join",
            Self::Reapply => "Reapply",
        })
    }
}

/// All of them in one sentence's part.
#[must_use]
pub fn listed(differences: &[Difference]) -> String {
    let words: Vec<String> = differences.iter().map(ToString::to_string).collect();
    words.join(", ")
}
