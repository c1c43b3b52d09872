//! The differences between an existing configuration and the desired one, each with a name for users.

use std::fmt;

/// One difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Difference {
    /// `spec.gitRepo`.
    GitRepo,
    /// `spec.ref`.
    Ref,
    /// `spec.ref`, which is a pinned commit: the branch or tag has another commit since the machine was written.
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
    /// NICO did not write cluster.nix.
    ClusterNix,
    /// The last file is not a marker.
    MarkerFile,
    /// The list of files, except for the texts, which are compared separately.
    AdditionalFiles,
    /// The machine's SSH key.
    SshKey,
    /// The marker has another revision, and nothing else explains it.
    Revision,
    /// The machine is not confirmed, and its `join` is null or names a machine that is not a member.
    Join,
    /// NIO shows the machine as unconfigured though it is confirmed.
    Reapply,
}

impl Difference {
    /// Whether it only reflects which machines are in the cluster: such changes are collected.
    #[must_use]
    pub fn is_of_the_lists(self) -> bool {
        matches!(self, Self::ControlPlaneMembers | Self::Workers)
    }

    /// Whether it has another cause than a change of the spec: a machine that is being applied is not written again for it.
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
            Self::ControlPlaneMembers => "list of control plane machines",
            Self::Workers => "list of workers",
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

/// The differences as part of a sentence.
#[must_use]
pub fn listed(differences: &[Difference]) -> String {
    let words: Vec<String> = differences.iter().map(ToString::to_string).collect();
    words.join(", ")
}
