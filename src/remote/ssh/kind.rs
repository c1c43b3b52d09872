//! The kinds of SSH failures, as label values for metrics. None of them contains text of the machine.

use super::SshError;
use super::error::{CONNECTION_REFUSED, NO_ANSWER};

impl SshError {
    /// All values that [`kind`](Self::kind) returns.
    pub const KINDS: [&str; 11] = [
        "address",
        "algorithms",
        "auth",
        "handshake",
        "host-key-changed",
        "host-key-unknown",
        "key",
        "read",
        "refused",
        "timeout",
        "unreachable",
    ];

    /// The kind of the failure.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Key { .. } => "key",
            Self::Address { .. } => "address",
            Self::Unreachable { why, .. } if *why == CONNECTION_REFUSED => "refused",
            Self::Unreachable { why, .. } | Self::Handshake { why, .. } if *why == NO_ANSWER => {
                "timeout"
            }
            Self::Unreachable { .. } => "unreachable",
            Self::Handshake { .. } => "handshake",
            Self::NoCommonAlgorithms { .. } => "algorithms",
            Self::HostKeyChanged { .. } | Self::HostKeyRevoked { .. } => "host-key-changed",
            Self::HostKeyUnknown { .. }
            | Self::HostKeyByAuthority { .. }
            | Self::HostKeyHashed { .. }
            | Self::KnownHostsTooLarge { .. } => "host-key-unknown",
            Self::AuthRefused { .. } => "auth",
            Self::Timeout { .. } => "timeout",
            Self::TooLarge { .. } | Self::CutOff { .. } | Self::NoCommands { .. } => "read",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::super::{error::handshake, unreachable};

    #[test]
    fn the_network_fails_in_three_kinds() {
        for (error, kind) in [
            (ErrorKind::ConnectionRefused, "refused"),
            (ErrorKind::TimedOut, "timeout"),
            (ErrorKind::HostUnreachable, "unreachable"),
        ] {
            assert_eq!(unreachable("a", &Error::from(error)).kind(), kind);
        }
        let handshake = |error| handshake("a".to_owned(), &error).kind();
        assert_eq!(handshake(russh::Error::InactivityTimeout), "timeout");
        assert_eq!(handshake(russh::Error::HUP), "handshake");
    }
}
