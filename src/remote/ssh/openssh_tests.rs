//! SSH against OpenSSH's own server, where it is installed.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use rig::machines::KeyPair;
use rig::openssh::OpenSsh;
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

use super::tests::{failed, known, outcome};
use super::{Deadlines, Login, Session, SshError, connect};
use crate::remote::known_hosts::{Policy, line_for};
use crate::remote::secret::SecretText;

async fn logged_in(
    server: &OpenSsh,
    host: &PrivateKey,
    key: &KeyPair,
) -> Result<Session, SshError> {
    let login = Login {
        machine: "cp-01",
        host: "127.0.0.1",
        looked_up: None,
        port: server.port(),
        user: server.user(),
    };
    let line = line_for("127.0.0.1", server.port(), host.public_key());
    let hosts = known(&line, Policy::PinnedOnly);
    let key = SecretText::new(key.private_pem());
    connect(&login, &key, &hosts, &Deadlines::DEFAULT, &mut None).await
}

fn host_key(algorithm: Algorithm) -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), algorithm).expect("a key")
}

#[tokio::test]
async fn files_are_read_from_servers_of_all_settings() {
    let key = KeyPair::generate();
    let p256 = Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    };
    let nist = "KexAlgorithms ecdh-sha2-nistp256,ecdh-sha2-nistp384\nCiphers aes128-gcm@openssh.com\nHostKeyAlgorithms ecdsa-sha2-nistp256\nMACs hmac-sha2-256";
    let hardened = "KexAlgorithms curve25519-sha256\nCiphers chacha20-poly1305@openssh.com\nMACs hmac-sha2-512-etm@openssh.com\nLoginGraceTime 20\nMaxAuthTries 2";
    for (settings, algorithm) in [
        ("", Algorithm::Ed25519),
        (hardened, Algorithm::Ed25519),
        (nist, p256),
    ] {
        let host = host_key(algorithm);
        let Some(server) = OpenSsh::start(&host, key.public(), settings).await else {
            return;
        };
        let path = |name: &str| server.root().join(name).display().to_string();
        std::fs::write(path("file"), "content").expect("a file");
        let session = logged_in(&server, &host, &key).await;
        let session = session.unwrap_or_else(|error| panic!("{error}\n{}", server.log()));
        let content = outcome(session.read_file(&path("file")).await);
        assert_eq!(content, Ok(Some(b"content".to_vec())), "{settings}");
        let missing = outcome(session.read_file(&path("none")).await);
        assert_eq!(missing, Ok(None), "{settings}");
    }
}

#[tokio::test]
async fn what_a_server_refuses_is_told() {
    let (key, other) = (KeyPair::generate(), KeyPair::generate());
    let host = host_key(Algorithm::Ed25519);
    let Some(server) = OpenSsh::start(&host, key.public(), "").await else {
        return;
    };
    let error = failed(logged_in(&server, &host, &other).await);
    assert!(matches!(error, SshError::AuthRefused { .. }), "{error}");
    let changed = host_key(Algorithm::Ed25519);
    let error = failed(logged_in(&server, &changed, &key).await);
    assert!(matches!(error, SshError::HostKeyChanged { .. }), "{error}");

    let settings = "KexAlgorithms diffie-hellman-group14-sha256";
    let server = OpenSsh::start(&host, key.public(), settings).await;
    let server = server.expect("it started before");
    let message = failed(logged_in(&server, &host, &key).await).to_string();
    let offered = "it offers diffie-hellman-group14-sha256";
    assert!(message.contains(offered), "{message}");
}
