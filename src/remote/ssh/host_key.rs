//! Verifies the host key, before NICO sends anything, and for the whole connection.

use std::sync::{Arc, Mutex};

use russh::client::{self, ChannelOpenHandle, Session};
use russh::keys::{Algorithm, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, Names, Preferred, cipher, kex};

use super::error::SshError;
use crate::remote::known_hosts::{self, HostPins, KNOWN_HOSTS_KEY, Lookup, Policy};
use crate::remote::lock::lock;

/// Most key exchanges on one connection. NICO starts one; a server may start more when it reaches its own limits.
const MAX_EXCHANGES: u8 = 4;

/// Key exchange algorithms that are offered: those over elliptic curves, which are quick. A server can repeat the exchange, so a slow one
/// would cost much.
const EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

/// Ciphers that are offered. A hardened server may have only one of those with GCM.
const CIPHERS: &[cipher::Name] = &[
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// Ends the connection if the server opens a channel of that type: NICO expects none.
macro_rules! no_channel {
    ($name:ident($($argument:ty),*)) => {
        async fn $name(
            &mut self,
            _: Channel<client::Msg>,
            $(_: $argument,)*
            _: ChannelOpenHandle,
            _: &mut Session,
        ) -> Result<(), Self::Error> {
            Err(russh::Error::Disconnect)
        }
    };
}

/// The host key and the result of its lookup.
struct Judged {
    key: PublicKey,
    lookup: Lookup,
}

/// Verifies the host key, before NICO sends anything.
pub(super) struct HostKeyCheck {
    pins: HostPins,
    verdict: Arc<Mutex<Option<Judged>>>,
    /// Number of key exchanges so far.
    exchanges: u8,
}

impl HostKeyCheck {
    /// The check for one connection, and the handle to read its decision.
    pub(super) fn new(host: &str, port: u16, pins: HostPins) -> (Self, Decision) {
        let verdict = Arc::new(Mutex::new(None));
        let decision = Decision {
            host: host.to_owned(),
            port,
            policy: pins.policy,
            authority: pins.authority(),
            config_map: pins.config_map.clone(),
            verdict: Arc::clone(&verdict),
        };
        (
            Self {
                pins,
                verdict,
                exchanges: 0,
            },
            decision,
        )
    }
}

impl client::Handler for HostKeyCheck {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        // Certificates are not offered. One that is sent anyway is refused.
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Ok(false);
        };
        let mut verdict = lock(&self.verdict);
        // A later exchange on the same connection must present the same key.
        if let Some(first) = &*verdict {
            return Ok(first.key.key_data() == key.key_data());
        }
        let lookup = self.pins.lookup(key);
        let accepted = match lookup {
            Lookup::Known => true,
            // A user who names an authority does not want trust on first use.
            Lookup::Unknown => {
                self.pins.policy == Policy::TrustOnFirstUse && self.pins.authority().is_none()
            }
            Lookup::Changed { .. } | Lookup::Revoked { .. } | Lookup::Hashed { .. } => false,
        };
        *verdict = Some(Judged {
            key: key.clone(),
            lookup,
        });
        Ok(accepted)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        _: &Names,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.exchanges += 1;
        if self.exchanges > MAX_EXCHANGES {
            return Err(russh::Error::Disconnect);
        }
        Ok(())
    }

    // Accepting leads to the error of [`no_channel`]. A refusal would only reject the channel, and the connection would go on.
    async fn should_accept_unknown_server_channel(&mut self, _: ChannelId, _: &str) -> bool {
        true
    }
    no_channel!(server_channel_open_unknown());
    no_channel!(server_channel_open_session());
    no_channel!(server_channel_open_agent_forward());
    no_channel!(server_channel_open_forwarded_streamlocal(&str));
    no_channel!(server_channel_open_direct_streamlocal(&str));
    no_channel!(server_channel_open_x11(&str, u32));
    no_channel!(server_channel_open_forwarded_tcpip(&str, u32, &str, u32));
    no_channel!(server_channel_open_direct_tcpip(&str, u32, &str, u32));
}

/// The decision of the check, to be read once the connection is made or has failed.
pub(super) struct Decision {
    host: String,
    port: u16,
    policy: Policy,
    authority: Option<usize>,
    config_map: String,
    verdict: Arc<Mutex<Option<Judged>>>,
}

impl Decision {
    /// The line to pin if the host was unknown and its key was accepted.
    pub(super) fn new_line(&self) -> Option<String> {
        match &*lock(&self.verdict) {
            Some(Judged {
                key,
                lookup: Lookup::Unknown,
            }) if self.policy == Policy::TrustOnFirstUse && self.authority.is_none() => {
                Some(known_hosts::line_for(&self.host, self.port, key))
            }
            _ => None,
        }
    }

    /// The error for a host key that was not accepted, if that is why the connection ended.
    pub(super) fn refusal(&self, at: &str) -> Option<SshError> {
        let verdict = lock(&self.verdict);
        let Judged { key, lookup } = verdict.as_ref()?;
        let (at, config_map) = (at.to_owned(), self.config_map.clone());
        let fingerprint = known_hosts::fingerprint(key);
        match lookup {
            Lookup::Known => None,
            Lookup::Revoked { line } => Some(SshError::HostKeyRevoked {
                at,
                fingerprint,
                line: *line,
                config_map,
            }),
            Lookup::Hashed { line } => Some(SshError::HostKeyHashed {
                at,
                line: *line,
                config_map,
            }),
            Lookup::Unknown => match (self.authority, self.policy) {
                (Some(line), _) => Some(SshError::HostKeyByAuthority {
                    at,
                    fingerprint,
                    line,
                    config_map,
                }),
                (None, Policy::TrustOnFirstUse) => None,
                (None, Policy::PinnedOnly) => Some(SshError::HostKeyUnknown {
                    at,
                    fingerprint,
                    config_map,
                }),
            },
            Lookup::Changed { lines } => {
                let mend = self.mend(lines);
                Some(SshError::HostKeyChanged {
                    at,
                    fingerprint,
                    mend,
                })
            }
        }
    }

    /// How the user accepts a changed key.
    fn mend(&self, lines: &[usize]) -> String {
        let word = if lines.len() == 1 { "line" } else { "lines" };
        let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
        let place = format!(
            "{word} {} of key `{KNOWN_HOSTS_KEY}` in ConfigMap {}",
            lines.join(", "),
            self.config_map
        );
        match self.policy {
            Policy::TrustOnFirstUse => format!("remove {place}, and the new key is pinned"),
            Policy::PinnedOnly => format!("put the new key in the place of {place}"),
        }
    }
}

/// The algorithms to offer. Pinned key types come first, so that a host with several keys presents a known one. SHA-1 is never offered.
pub(super) fn preferred(pinned: &[Algorithm]) -> Preferred {
    let is_pinned = |algorithm: &Algorithm| {
        let is_rsa = |algorithm: &Algorithm| matches!(algorithm, Algorithm::Rsa { .. });
        pinned
            .iter()
            .any(|pinned| pinned == algorithm || (is_rsa(pinned) && is_rsa(algorithm)))
    };
    let sha1 = Algorithm::Rsa { hash: None };
    let (mut keys, others): (Vec<_>, Vec<_>) = Preferred::DEFAULT
        .key
        .iter()
        .filter(|algorithm| **algorithm != sha1)
        .cloned()
        .partition(is_pinned);
    keys.extend(others);
    Preferred {
        kex: EXCHANGES.into(),
        key: keys.into(),
        cipher: CIPHERS.into(),
        ..Preferred::DEFAULT
    }
}
