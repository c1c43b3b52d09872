//! Errors of resolving a ref, as messages for users. They contain nothing that the server sent, and nothing of a credential.

use crate::api::text::shown;
use crate::remote::ssh::{KeyError, SshError};

/// Why a ref could not be resolved. Each message names the server and what the user can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// `spec.gitRepo` has a form that is not supported.
    #[error("spec.gitRepo does not name a plain host and a path: correct it")]
    Address,
    /// The address is one that only NICO's own pod or node can reach.
    #[error(
        "spec.gitRepo leads to {at}, which is a loopback or link-local address that NICO does not ask: name a server that NICO and NIO reach under the same address"
    )]
    NotAsked {
        /// The server.
        at: String,
    },
    /// No connection could be made.
    #[error("the git server at {at} does not answer ({why})")]
    Unreachable {
        /// The server.
        at: String,
        /// What went wrong, without any text of the server.
        why: &'static str,
    },
    /// It took too long.
    #[error("the git server at {at} did not answer in time")]
    Timeout {
        /// The server.
        at: String,
    },
    /// The server's certificate is not trusted.
    #[error(
        "no trusted TLS connection to the git server at {at}: its certificate must cover that host and be signed by an authority that NICO's image trusts"
    )]
    Tls {
        /// The server.
        at: String,
    },
    /// The credentials are refused, or there are none.
    #[error(
        "the git server at {at} refuses {what}: see the Secret of spec.credentialsRef, and that its owner may read the repository"
    )]
    Refused {
        /// The server.
        at: String,
        /// What the server refuses.
        what: &'static str,
    },
    /// The Secret lacks a key that SSH needs.
    #[error(
        "spec.gitRepo is asked over SSH: the Secret of spec.credentialsRef must hold {what}, or set spec.refPolicy to Follow"
    )]
    Lacks {
        /// The missing key.
        what: &'static str,
    },
    /// The private key cannot be used.
    #[error("key ssh-privatekey in the Secret of spec.credentialsRef cannot be used: {why}")]
    Key {
        /// Why.
        why: KeyError,
    },
    /// The Secret does not list the server's host key.
    #[error(
        "key known_hosts in the Secret of spec.credentialsRef {why}: NICO did not log in to {at}. If the host is the right one, put there what `ssh-keyscan` says of it"
    )]
    HostKey {
        /// The server.
        at: String,
        /// What is wrong with the key of the Secret.
        why: String,
    },
    /// The server redirects to another server, which NICO does not follow.
    #[error(
        "the git server at {at} redirects to {to}: NICO follows no redirect to another host, port or scheme; set spec.gitRepo to where it leads"
    )]
    Redirect {
        /// The server.
        at: String,
        /// The target host.
        to: String,
    },
    /// The repository does not exist, or these credentials may not see it.
    #[error(
        "the git server at {at} serves no repository at the path of spec.gitRepo, or not to these credentials"
    )]
    NoRepository {
        /// The server.
        at: String,
    },
    /// The server does not speak git's protocol as NICO expects it.
    #[error("what answers at {at} is not a git server that NICO can ask: {why}")]
    NotGit {
        /// The server.
        at: String,
        /// Why.
        why: &'static str,
    },
    /// The ref does not exist in the repository.
    #[error(
        "the repository at {at} has no {what}: name a branch, a tag, or a commit with all of its 40 digits"
    )]
    Missing {
        /// The server.
        at: String,
        /// The ref, for the message.
        what: String,
    },
}

impl GitError {
    pub(super) fn missing(at: String, git_ref: Option<&str>) -> Self {
        let what = match git_ref {
            Some(git_ref) => format!("branch or tag {}", shown(git_ref)),
            None => "default branch".to_owned(),
        };
        Self::Missing { at, what }
    }

    /// Translates an [`SshError`], which speaks of a machine.
    pub(super) fn of_ssh(at: String, error: SshError) -> Self {
        let host_key = |at: String, why: String| Self::HostKey { at, why };
        match error {
            SshError::Key { why, .. } => Self::Key { why },
            SshError::Address { .. } => Self::Address,
            SshError::Unreachable { why, .. } | SshError::Handshake { why, .. } => {
                Self::Unreachable { at, why }
            }
            SshError::Timeout { .. } => Self::Timeout { at },
            SshError::NoCommonAlgorithms { .. } => Self::Unreachable {
                at,
                why: "no common algorithms",
            },
            SshError::AuthRefused { .. } => Self::Refused {
                at,
                what: "the SSH key",
            },
            SshError::HostKeyChanged { fingerprint, .. } => host_key(
                at,
                format!("has another host key for it than it shows ({fingerprint})"),
            ),
            SshError::HostKeyUnknown { fingerprint, .. } => host_key(
                at,
                format!("has no host key for it (it shows {fingerprint})"),
            ),
            SshError::HostKeyRevoked { .. } => {
                host_key(at, "marks its host key as revoked".to_owned())
            }
            SshError::HostKeyByAuthority { .. } => host_key(
                at,
                "names an authority (`@cert-authority`), and NICO does not support host certificates".to_owned(),
            ),
            SshError::HostKeyHashed { .. } => host_key(at, "holds a hashed name, which NICO cannot read".to_owned()),
            SshError::KnownHostsTooLarge { .. } => {
                host_key(at, "is larger than NICO reads".to_owned())
            }
            SshError::TooLarge { .. } | SshError::CutOff { .. } | SshError::NoCommands { .. } => {
                Self::NotGit {
                    at,
                    why: "it runs no git-upload-pack",
                }
            }
        }
    }
}
