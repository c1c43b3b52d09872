//! SSH against the rig's machines.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rig::machines::{Answer, HostOptions, KeyPair, MachineHost, MachinePool};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

use super::{
    Deadlines, FileRead, KeyError, Login, Session, SshError, connect, fingerprint_of_public_half,
};
use crate::api::conditions::Reason;
use crate::remote::known_hosts::{KnownHosts, Policy, line_for};
use crate::remote::secret::SecretText;

pub(super) const PATH: &str = "/etc/rancher/k3s/k3s.yaml";
/// Keys made by `ssh-keygen`, and the fingerprints that `ssh-keygen -l` prints.
const KEYS: &[(&str, &str, Result<&str, KeyError>)] = &[
    (
        "ed25519.openssh",
        include_str!("test_keys/ed25519.openssh"),
        Ok("SHA256:wIksy2+1Ja53rCCwklwAidgYvnEZPSCb3qjAbxc7uXk"),
    ),
    (
        "ecdsa.pkcs8",
        include_str!("test_keys/ecdsa.pkcs8"),
        Ok("SHA256:KBgpKcsPB01NPp4Ecw3lUFOVrDAFQ5+2J1NsDU7A6B0"),
    ),
    (
        "ecdsa.sec1",
        include_str!("test_keys/ecdsa.sec1"),
        Ok("SHA256:EgvFw0IkrZZSfJtfNf4TbeZvOW84uZnNTY/GYsgU4kc"),
    ),
    (
        "rsa.pkcs1",
        include_str!("test_keys/rsa.pkcs1"),
        Ok("SHA256:XKRR1WENptyaP0uL2dd9IxPL1j8CNOmQU7HQAGiCT5M"),
    ),
    (
        "rsa.pkcs8",
        include_str!("test_keys/rsa.pkcs8"),
        Ok("SHA256:7mUNVNvmNYIdNWlQOFEZ8uWhhbJoZ/OFweu1tF3Xruk"),
    ),
    (
        "ed25519-passphrase.openssh",
        include_str!("test_keys/ed25519-passphrase.openssh"),
        Err(KeyError::Encrypted),
    ),
    (
        "rsa-passphrase.pkcs1",
        include_str!("test_keys/rsa-passphrase.pkcs1"),
        Err(KeyError::Encrypted),
    ),
    (
        "rsa-passphrase.pkcs8",
        include_str!("test_keys/rsa-passphrase.pkcs8"),
        Err(KeyError::Encrypted),
    ),
];

const SHORT: Duration = Duration::from_millis(300);

pub(super) struct Place {
    pub(super) host: MachineHost,
    key: KeyPair,
    ip: String,
}

impl Place {
    pub(super) async fn new() -> Self {
        let pool = MachinePool::start(SocketAddr::from(([127, 0, 0, 1], 9))).await;
        Self::on(&pool, KeyPair::generate()).await
    }

    async fn on(pool: &Arc<MachinePool>, key: KeyPair) -> Self {
        let host = pool.host(HostOptions::new(&key)).await;
        let ip = host.ip().to_string();
        Self { host, key, ip }
    }

    pub(super) fn login(&self) -> Login<'_> {
        Login {
            machine: "cp-01",
            host: &self.ip,
            looked_up: None,
            port: self.host.ssh_port(),
            user: "nixos",
        }
    }

    pub(super) fn line(&self) -> String {
        line_for(&self.ip, self.host.ssh_port(), &self.host.host_key())
    }

    /// Whether every login attempt used a public key.
    pub(super) fn saw_only_public_keys(&self) -> bool {
        let attempts = self.host.auths();
        attempts.iter().all(|attempt| attempt.method == "publickey")
    }

    pub(super) async fn connect(
        &self,
        hosts: &Arc<KnownHosts>,
    ) -> (Result<Session, SshError>, Option<String>) {
        let key = SecretText::new(self.key.private_pem());
        let mut line = None;
        let outcome = connect(&self.login(), &key, hosts, &Deadlines::DEFAULT, &mut line).await;
        (outcome, line)
    }

    pub(super) async fn session(&self) -> Session {
        let hosts = known("", Policy::TrustOnFirstUse);
        self.connect(&hosts)
            .await
            .0
            .expect("the machine lets us in")
    }

    async fn failure(&self, hosts: &Arc<KnownHosts>) -> SshError {
        failed(self.connect(hosts).await.0)
    }
}

pub(super) fn known(text: &str, policy: Policy) -> Arc<KnownHosts> {
    Arc::new(KnownHosts::parse("prod-known-hosts", text, policy))
}

pub(super) fn failed(outcome: Result<Session, SshError>) -> SshError {
    outcome.err().expect("the connection fails")
}

/// The content of a file (`None` if it is missing), or a word for the error.
pub(super) fn outcome(read: Result<FileRead, SshError>) -> Result<Option<Vec<u8>>, &'static str> {
    match read {
        Ok(FileRead::Content(content)) => Ok(Some(content.expose().to_vec())),
        Ok(FileRead::Missing) => Ok(None),
        Ok(FileRead::Denied) => Err("denied"),
        Err(SshError::TooLarge { .. }) => Err("too large"),
        Err(SshError::CutOff { .. }) => Err("cut off"),
        Err(SshError::Timeout { .. }) => Err("timeout"),
        Err(_) => Err("other"),
    }
}

#[tokio::test]
async fn what_hangs_ends_at_its_deadline() {
    let place = Place::new().await;
    place.host.answer(PATH, Answer::Hang);
    let hosts = known("", Policy::TrustOnFirstUse);
    let key = SecretText::new(place.key.private_pem());
    let deadlines = Deadlines {
        command: SHORT,
        ..Deadlines::DEFAULT
    };
    let session = connect(&place.login(), &key, &hosts, &deadlines, &mut None)
        .await
        .expect("the machine lets us in");
    let start = Instant::now();
    assert_eq!(outcome(session.read_file(PATH).await), Err("timeout"));
    assert!(start.elapsed() < Deadlines::DEFAULT.command);

    place.host.hang(true);
    let deadlines = Deadlines {
        connect: SHORT,
        ..Deadlines::DEFAULT
    };
    let error = failed(connect(&place.login(), &key, &hosts, &deadlines, &mut None).await);
    assert!(matches!(error, SshError::Timeout { .. }), "{error}");
    assert_eq!(error.reason(), Reason::KubeconfigUnreadable);
}

#[tokio::test]
async fn a_closed_port_is_told() {
    let place = Place::new().await;
    let login = Login {
        port: 1,
        ..place.login()
    };
    let key = SecretText::new(place.key.private_pem());
    let hosts = known("", Policy::TrustOnFirstUse);
    let error = failed(connect(&login, &key, &hosts, &Deadlines::DEFAULT, &mut None).await);
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert!(error.to_string().contains("cp-01"), "{error}");
}

#[tokio::test]
async fn a_pinned_key_is_enough() {
    let place = Place::new().await;
    let hosts = known(&place.line(), Policy::PinnedOnly);
    let (session, line) = place.connect(&hosts).await;
    assert!(session.is_ok());
    assert_eq!(line, None);
}

#[tokio::test]
async fn a_changed_key_gets_no_log_in() {
    let place = Place::new().await;
    let text = format!("# mine\n{}\n", place.line());
    drop(place.host.change_host_key());
    for policy in [Policy::TrustOnFirstUse, Policy::PinnedOnly] {
        let error = place.failure(&known(&text, policy)).await;
        assert_eq!(error.reason(), Reason::HostKeyChanged);
        let message = error.to_string();
        assert!(
            message.contains("line 2 of key `known_hosts` in ConfigMap prod-known-hosts"),
            "{message}"
        );
    }
    assert_eq!(place.host.auths(), []);
    assert_eq!(place.host.connections(), 2);
}

#[tokio::test]
async fn an_unknown_host_of_the_users_own_list_gets_no_log_in() {
    let place = Place::new().await;
    let error = place.failure(&known("", Policy::PinnedOnly)).await;
    assert_eq!(error.reason(), Reason::HostKeyUnknown);
    assert_eq!(place.host.auths(), []);
}

/// Host certificates are not checked. The message names the `@cert-authority` line.
#[tokio::test]
async fn a_host_for_which_an_authority_vouches_gets_no_log_in() {
    let place = Place::new().await;
    let (host, key) = place.line().split_once(' ').map_or_else(
        || panic!("a line has a host"),
        |(host, key)| (host.to_owned(), key.to_owned()),
    );
    for hosts in [host.as_str(), "*"] {
        let text = format!("# mine\n@cert-authority {hosts} {key}\n");
        for policy in [Policy::TrustOnFirstUse, Policy::PinnedOnly] {
            let (outcome, line) = place.connect(&known(&text, policy)).await;
            let error = failed(outcome);
            assert_eq!(error.reason(), Reason::HostKeyUnknown);
            assert_eq!(line, None);
            let message = error.to_string();
            for part in ["line 2 of", "@cert-authority", "cp-01", "does not support"] {
                assert!(message.contains(part), "{part}: {message}");
            }
        }
    }
    assert_eq!(place.host.auths(), []);
    // A key that is pinned as well is accepted.
    let text = format!("@cert-authority * {key}\n{}\n", place.line());
    let (session, _) = place.connect(&known(&text, Policy::PinnedOnly)).await;
    assert!(session.is_ok());
}

#[tokio::test]
async fn a_revoked_key_gets_no_log_in() {
    let place = Place::new().await;
    let text = format!("{}\n@revoked {}\n", place.line(), place.line());
    let error = place.failure(&known(&text, Policy::TrustOnFirstUse)).await;
    assert!(
        matches!(error, SshError::HostKeyRevoked { line: 2, .. }),
        "{error}"
    );
    assert_eq!(place.host.auths(), []);
}

#[tokio::test]
async fn a_refused_key_leaves_the_pin() {
    let place = Place::new().await;
    place.host.authorize("somebody", vec![]);
    let (outcome, line) = place.connect(&known("", Policy::TrustOnFirstUse)).await;
    let failure = failed(outcome);
    assert!(matches!(failure, SshError::AuthRefused { .. }), "{failure}");
    assert_eq!(line, Some(place.line()));
    assert!(place.saw_only_public_keys());
}

#[tokio::test]
async fn rsa_keys_log_in() {
    let place = Place::new().await;
    let rsa = PrivateKey::random(&mut rand::rng(), Algorithm::Rsa { hash: None })
        .expect("an RSA key can be made");
    place
        .host
        .authorize("nixos", vec![rsa.public_key().clone()]);
    place.host.put_file(PATH, "content");
    let pem = rsa
        .to_openssh(LineEnding::LF)
        .expect("a key can be written")
        .to_string();
    let hosts = known("", Policy::TrustOnFirstUse);
    let session = connect(
        &place.login(),
        &SecretText::new(pem),
        &hosts,
        &Deadlines::DEFAULT,
        &mut None,
    )
    .await;
    let session = session.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        outcome(session.read_file(PATH).await),
        Ok(Some(b"content".to_vec()))
    );
}

#[tokio::test]
async fn bad_keys_and_addresses_connect_nowhere() {
    let place = Place::new().await;
    let hosts = known("", Policy::TrustOnFirstUse);
    let garbage = SecretText::new("not a key CANARY".to_owned());
    let error = failed(
        connect(
            &place.login(),
            &garbage,
            &hosts,
            &Deadlines::DEFAULT,
            &mut None,
        )
        .await,
    );
    assert_eq!(error.reason(), Reason::SSHKeyUnusable);
    assert!(!format!("{error} {error:?}").contains("CANARY"));
    let key = SecretText::new(place.key.private_pem());
    for host in [
        "",
        "a b",
        "-oProxyCommand=id",
        "10.0.0.1\n10.0.0.2",
        "[::1]",
    ] {
        let login = Login {
            host,
            ..place.login()
        };
        let error = failed(connect(&login, &key, &hosts, &Deadlines::DEFAULT, &mut None).await);
        assert!(matches!(error, SshError::Address { .. }), "{host}: {error}");
    }
    assert_eq!(place.host.connections(), 0);
}

#[test]
fn keys_in_their_forms() {
    for (name, text, fingerprint) in KEYS {
        let found = |text: String| fingerprint_of_public_half(&SecretText::new(text));
        let expected = fingerprint.map(str::to_owned);
        assert_eq!(found((*text).to_owned()), expected, "{name}");
        // OpenSSH accepts these line endings in the older formats only.
        let windows = found(text.replace('\n', "\r\n"));
        let refused = expected.is_ok() && name.ends_with(".openssh");
        let expected = if refused {
            Err(KeyError::LineEnds)
        } else {
            expected
        };
        assert_eq!(windows, expected, "{name} with CR LF");
    }
    for text in [
        "",
        "garbage",
        "-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----\n",
    ] {
        assert_eq!(
            fingerprint_of_public_half(&SecretText::new(text.to_owned())),
            Err(KeyError::Unreadable)
        );
    }
}
