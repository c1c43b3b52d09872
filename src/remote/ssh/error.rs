//! Errors of SSH, as messages for users. Of what the machine sends they contain only names of algorithms, never its banner, stderr or
//! version; and they never contain a key.

use std::fmt;

use russh::AlgorithmKind;

use super::key_error::KeyError;
use crate::api::conditions::Reason;
use crate::remote::known_hosts::{self, KNOWN_HOSTS_KEY};

/// Why SSH failed. Each message names the machine and what the user can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SshError {
    /// The private key cannot be used.
    #[error("the SSH key of machine {machine} cannot be used: {why}")]
    Key {
        /// The machine.
        machine: String,
        /// Why.
        why: KeyError,
    },
    /// The machine's address is not a host.
    #[error(
        "the address of machine {machine} is not a plain host name or IP address: correct its Machine object"
    )]
    Address {
        /// The machine.
        machine: String,
    },
    /// No connection was made.
    #[error(
        "machine {at} does not answer over SSH ({why}): see that it is up, that its SSH server listens there and that no firewall is between"
    )]
    Unreachable {
        /// The machine and its address.
        at: String,
        /// What went wrong, without any text of the machine.
        why: &'static str,
    },
    /// The machine answers, but no session could be opened.
    #[error(
        "machine {at} answers, but SSH fails before the log-in ({why}): see that it is an SSH server, and that it does not refuse NICO's \
         address for a while (`MaxStartups`, `PerSourcePenalties`)"
    )]
    Handshake {
        /// The machine and its address.
        at: String,
        /// What went wrong, without any text of the machine.
        why: &'static str,
    },
    /// The machine's SSH server and NICO have no algorithm in common.
    #[error(
        "machine {at} and NICO have no common algorithms for SSH. For the {kind}, it offers {offered}; NICO offers {own}. Allow one of these in its `sshd_config`"
    )]
    NoCommonAlgorithms {
        /// The machine and its address.
        at: String,
        /// The kind of algorithm.
        kind: &'static str,
        /// What the machine offers.
        offered: String,
        /// What NICO offers.
        own: String,
    },
    /// The host's key is not the one that is pinned.
    #[error(
        "the SSH host key of machine {at} changed (it is now {fingerprint}): NICO did not log in. If the machine was installed again, {mend}; \
         if not, somebody may answer in its place"
    )]
    HostKeyChanged {
        /// The machine and its address.
        at: String,
        /// SHA-256 of the key that the host presented.
        fingerprint: String,
        /// How the user accepts the new key.
        mend: String,
    },
    /// The host's key is marked as revoked.
    #[error(
        "machine {at} shows an SSH host key ({fingerprint}) that line {line} of key `{KNOWN_HOSTS_KEY}` in ConfigMap {config_map} marks as revoked: NICO did not log in; give the machine a new host key"
    )]
    HostKeyRevoked {
        /// The machine and its address.
        at: String,
        /// SHA-256 of the key that the host presented.
        fingerprint: String,
        /// The line, counted from 1.
        line: usize,
        /// The ConfigMap.
        config_map: String,
    },
    /// The host is not in the user's own known hosts.
    #[error(
        "ConfigMap {config_map} is not NICO's and pins no SSH host key for machine {at}: NICO did not log in. If {fingerprint} is the machine's key, \
         add to its key `{KNOWN_HOSTS_KEY}` what `ssh-keyscan` says of the machine"
    )]
    HostKeyUnknown {
        /// The machine and its address.
        at: String,
        /// SHA-256 of the key that the host presented.
        fingerprint: String,
        /// The ConfigMap.
        config_map: String,
    },
    /// A `@cert-authority` line names the host, and host certificates are not supported.
    #[error(
        "line {line} of key `{KNOWN_HOSTS_KEY}` in ConfigMap {config_map} names an authority (`@cert-authority`) for machine {at}, and NICO does not support host \
         certificates: NICO did not log in. If {fingerprint} is the machine's key, add what `ssh-keyscan` says of the machine"
    )]
    HostKeyByAuthority {
        /// The machine and its address.
        at: String,
        /// SHA-256 of the key that the host presented.
        fingerprint: String,
        /// The line, counted from 1.
        line: usize,
        /// The ConfigMap.
        config_map: String,
    },
    /// A line of the known hosts has a hashed name, so it may pin any host.
    #[error(
        "line {line} of key `{KNOWN_HOSTS_KEY}` in ConfigMap {config_map} holds a hashed name, which NICO cannot read: NICO did not log in to machine {at}. \
         Write the plain name or address of the line's host in its place"
    )]
    HostKeyHashed {
        /// The machine and its address.
        at: String,
        /// The line, counted from 1.
        line: usize,
        /// The ConfigMap.
        config_map: String,
    },
    /// The known hosts are longer than NICO reads.
    #[error(
        "key `{KNOWN_HOSTS_KEY}` in ConfigMap {config_map} has more than {} KiB, or more than {} KiB of patterns with `*`: NICO logs in to no machine. \
         Remove the lines of hosts that are no control plane machines of this cluster, and write names or addresses in the place of patterns",
        known_hosts::MAX_TEXT / 1024,
        known_hosts::MAX_STARS / 1024
    )]
    KnownHostsTooLarge {
        /// The ConfigMap.
        config_map: String,
    },
    /// The machine refuses the key.
    #[error(
        "machine {at} refuses the SSH key of its Secret for user {user}: add the public half to that user's authorized keys, or correct the Machine object"
    )]
    AuthRefused {
        /// The machine and its address.
        at: String,
        /// The user.
        user: String,
    },
    /// A step took too long.
    #[error(
        "machine {at} took too long {during}: see whether it is overloaded, and the network between it and NICO"
    )]
    Timeout {
        /// The machine and its address.
        at: String,
        /// The step that took too long.
        during: Step,
    },
    /// A file is larger than NICO reads.
    #[error("file {path} of machine {at} is larger than 64 KiB: NICO read no further")]
    TooLarge {
        /// The machine and its address.
        at: String,
        /// The file.
        path: String,
    },
    /// The connection ended before the command did.
    #[error(
        "the connection to machine {at} ended while NICO read file {path}: see the log of its SSH server"
    )]
    CutOff {
        /// The machine and its address.
        at: String,
        /// The file.
        path: String,
    },
    /// The machine runs no commands for this user.
    #[error("machine {at} runs no commands over SSH for user {user}: give that user a shell")]
    NoCommands {
        /// The machine and its address.
        at: String,
        /// The user.
        user: String,
    },
}

impl SshError {
    /// The reason of the condition `KubeconfigReady`.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Key { .. } => Reason::SSHKeyUnusable,
            Self::HostKeyChanged { .. } | Self::HostKeyRevoked { .. } => Reason::HostKeyChanged,
            Self::HostKeyUnknown { .. }
            | Self::HostKeyByAuthority { .. }
            | Self::HostKeyHashed { .. }
            | Self::KnownHostsTooLarge { .. } => Reason::HostKeyUnknown,
            Self::TooLarge { .. } => Reason::KubeconfigUnsafe,
            Self::Address { .. }
            | Self::Unreachable { .. }
            | Self::Handshake { .. }
            | Self::NoCommonAlgorithms { .. }
            | Self::AuthRefused { .. }
            | Self::Timeout { .. }
            | Self::CutOff { .. }
            | Self::NoCommands { .. } => Reason::KubeconfigUnreadable,
        }
    }
}

/// A step that can time out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The TCP connection.
    Connect,
    /// The key exchange.
    Exchange,
    /// Authentication.
    LogIn,
    /// One file.
    File,
    /// All files together.
    Kubeconfig,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "to connect",
            Self::Exchange => "to exchange keys",
            Self::LogIn => "to log in",
            Self::File => "to send a file",
            Self::Kubeconfig => "to send its kubeconfig",
        })
    }
}

/// How far the connection got before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// No connection was made.
    Nothing,
    /// The server was reached, but no session was opened. The server counts that against NICO's address.
    Server,
    /// The user was logged in.
    Session,
}

impl SshError {
    /// How far the connection got.
    #[must_use]
    pub fn reached(&self) -> Reached {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout {
                during: Step::Connect,
                ..
            } => Reached::Nothing,
            // The first of these were found before any connection. NICO notices when they are fixed.
            Self::Key { .. }
            | Self::Address { .. }
            | Self::KnownHostsTooLarge { .. }
            | Self::Handshake { .. }
            | Self::NoCommonAlgorithms { .. }
            | Self::HostKeyChanged { .. }
            | Self::HostKeyRevoked { .. }
            | Self::HostKeyUnknown { .. }
            | Self::HostKeyByAuthority { .. }
            | Self::HostKeyHashed { .. }
            | Self::AuthRefused { .. }
            | Self::Timeout {
                during: Step::Exchange | Step::LogIn,
                ..
            } => Reached::Server,
            Self::Timeout {
                during: Step::File | Step::Kubeconfig,
                ..
            }
            | Self::TooLarge { .. }
            | Self::CutOff { .. }
            | Self::NoCommands { .. } => Reached::Session,
        }
    }
}

/// Nothing listens at that port.
pub(super) const CONNECTION_REFUSED: &str = "connection refused";
/// It took too long.
pub(super) const NO_ANSWER: &str = "no answer in time";

pub(in crate::remote) fn unreachable(at: &str, error: &std::io::Error) -> SshError {
    SshError::Unreachable {
        at: at.to_owned(),
        why: io_text(error),
    }
}

fn io_text(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => CONNECTION_REFUSED,
        Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::UnexpectedEof => "connection cut",
        Kind::TimedOut => NO_ANSWER,
        Kind::HostUnreachable | Kind::NetworkUnreachable => "no route",
        _ => "no connection",
    }
}

/// Most algorithms of one kind in a message, and most bytes of each. A server has one or two dozen.
const SHOWN_ALGORITHMS: usize = 24;
const LONGEST_ALGORITHM: usize = 64;

/// The names among these that are valid names of algorithms (RFC 4251, section 6), without markers of extensions.
fn algorithms(names: &[String]) -> String {
    let is_name = |name: &&str| {
        let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
        let is_marker = name.starts_with("ext-info-") || name.starts_with("kex-strict-");
        (1..=LONGEST_ALGORITHM).contains(&name.len()) && name.chars().all(is_good) && !is_marker
    };
    let names = names.iter().map(String::as_str).filter(is_name);
    let shown: Vec<&str> = names.take(SHOWN_ALGORITHMS).collect();
    if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join(", ")
    }
}

/// The error for a failed key exchange.
pub(super) fn handshake(at: String, error: &russh::Error) -> SshError {
    let russh::Error::NoCommonAlgo { kind, ours, theirs } = error else {
        let why = protocol_text(error);
        return SshError::Handshake { at, why };
    };
    SshError::NoCommonAlgorithms {
        at,
        kind: match kind {
            AlgorithmKind::Kex => "key exchange (`KexAlgorithms`)",
            AlgorithmKind::Key => "host key (`HostKeyAlgorithms`)",
            AlgorithmKind::Cipher => "cipher (`Ciphers`)",
            AlgorithmKind::Mac => "MAC (`MACs`)",
            AlgorithmKind::Compression => "compression (`Compression`)",
        },
        offered: algorithms(theirs),
        own: algorithms(ours),
    }
}

/// A fixed text for a protocol error, whose own text may quote the machine.
pub(super) fn protocol_text(error: &russh::Error) -> &'static str {
    match error {
        russh::Error::IO(error) => io_text(error),
        russh::Error::Disconnect | russh::Error::HUP => "connection cut",
        russh::Error::ConnectionTimeout | russh::Error::InactivityTimeout => NO_ANSWER,
        _ => "it does not speak SSH as it should",
    }
}
