//! Keys that are expensive to compute with, and servers that demand too much work.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::cell::Cell;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rig::machines::{Answer, ServerChannel};
use russh::keys::ssh_key::EcdsaCurve;
use russh::keys::{Algorithm, PrivateKey};
use russh::{cipher, kex};

use super::tests::{PATH, Place, failed, known, outcome};
use super::{
    Deadlines, KeyError, MAX_FILE, Session, SshError, connect, fingerprint_of_public_half,
};
use crate::api::conditions::Reason;
use crate::remote::known_hosts::Policy;
use crate::remote::secret::SecretText;

/// A key with the longest modulus that is accepted.
const LARGEST: &str = include_str!("test_keys/rsa8192.openssh");
/// Long enough for a busy machine, and much shorter than arithmetic with a giant key.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

fn pem(label: &str, bytes: &[u8]) -> SecretText {
    let base64 = STANDARD.encode(bytes);
    SecretText::new(format!(
        "-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n"
    ))
}

/// A DER element with its length in the shortest form.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let bytes = content.len().to_be_bytes();
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    let length = match bytes {
        [] => vec![0],
        [length @ 0..=0x7f] => vec![*length],
        _ => [
            &[0x80 | u8::try_from(bytes.len()).expect("it is short")],
            bytes,
        ]
        .concat(),
    };
    [&[tag][..], &length, content].concat()
}

/// An odd positive number with this many bits.
fn number(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; bits.div_ceil(8)];
    bytes[0] = 0xff >> (bytes.len() * 8 - bits);
    if bytes[0] >= 0x80 {
        bytes.insert(0, 0);
    }
    bytes
}

/// RSA with a modulus of this many bits: as PKCS#1, as PKCS#8, and in OpenSSH's format. The numbers are made up, and all have this length.
fn rsa(bits: usize) -> [(&'static str, SecretText); 3] {
    let long = number(bits);
    let e = [1, 0, 1];
    let numbers = [
        &[0][..],
        &long,
        &e,
        &long,
        &long,
        &long,
        &long,
        &long,
        &long,
    ];
    let pkcs1 = numbers.map(|number| element(2, number)).concat();
    let pkcs1 = element(0x30, &pkcs1);
    let algorithm = element(
        0x30,
        b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00",
    );
    let pkcs8 = [element(2, &[0]), algorithm, element(4, &pkcs1)].concat();
    let pkcs8 = element(0x30, &pkcs8);
    let string = |text: &[u8]| {
        let length = u32::try_from(text.len()).expect("it is short");
        [&length.to_be_bytes()[..], text].concat()
    };
    let strings = |texts: &[&[u8]]| {
        texts
            .iter()
            .map(|text| string(text))
            .collect::<Vec<_>>()
            .concat()
    };
    let public = strings(&[b"ssh-rsa", &e, &long]);
    let private = [
        &[7; 8][..],
        &strings(&[
            b"ssh-rsa", &long, &e, &long, &long, &long, &long, b"comment",
        ]),
    ]
    .concat();
    let openssh = [
        b"openssh-key-v1\0",
        &strings(&[b"none", b"none", b""])[..],
        &[0, 0, 0, 1],
        &string(&public),
        &string(&private),
    ]
    .concat();
    [
        ("PKCS#1", pem("RSA PRIVATE KEY", &pkcs1)),
        ("PKCS#8", pem("PRIVATE KEY", &pkcs8)),
        ("OpenSSH", pem("OPENSSH PRIVATE KEY", &openssh)),
    ]
}

/// The result of the work, and the longest time for which it blocked another task of the same thread.
async fn delaying_others<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let longest = Cell::new(Duration::ZERO);
    let another = async {
        loop {
            let before = Instant::now();
            tokio::time::sleep(Duration::from_millis(5)).await;
            longest.set(longest.get().max(before.elapsed()));
        }
    };
    tokio::select! {
        result = work => (result, longest.get()),
        () = another => unreachable!("it goes on for ever"),
    }
}

#[test]
fn keys_that_cost_too_much_are_refused_before_anything_is_computed() {
    for bits in [8193, 8200, 12_000] {
        for (form, key) in rsa(bits) {
            let text = key.expose().len();
            assert_eq!(
                fingerprint_of_public_half(&key),
                Err(KeyError::TooLarge),
                "{form}, {bits} bits, {text} bytes"
            );
        }
    }
    // The made-up key may be unreadable, but it must not be refused for its length.
    for (form, key) in rsa(1024) {
        assert_ne!(
            fingerprint_of_public_half(&key).err(),
            Some(KeyError::TooLarge),
            "{form}"
        );
    }
    let largest = fingerprint_of_public_half(&SecretText::new(LARGEST.to_owned()));
    assert_eq!(
        largest.as_deref(),
        Ok("SHA256:mXOLP2apmH7LR0gZlxFuTdllHLj7CQ/RirYIU66PN5E")
    );
    let padded = format!("{LARGEST}{}", "\n".repeat(16 * 1024));
    assert_eq!(
        fingerprint_of_public_half(&SecretText::new(padded)),
        Err(KeyError::TooLarge)
    );
}

#[test]
fn a_key_with_damage_is_refused_without_a_panic() {
    for (form, key) in rsa(512) {
        let text = key.expose();
        for end in 0..text.len() {
            let cut = format!("{}\n-----END X-----", &text[..end]);
            assert!(
                fingerprint_of_public_half(&SecretText::new(cut)).is_err(),
                "{form} {end}"
            );
        }
    }
}

/// The test runs on one thread: the key must be refused, or processed on another thread.
#[tokio::test]
async fn no_key_holds_up_other_tasks() {
    let place = Place::new().await;
    place.host.put_file(PATH, "content");
    let hosts = known("", Policy::TrustOnFirstUse);
    // The text has 260 KB.
    for (form, key) in rsa(160_000) {
        let mut line = None;
        let login = place.login();
        let (outcome, delay) = delaying_others(connect(
            &login,
            &key,
            &hosts,
            &Deadlines::DEFAULT,
            &mut line,
        ))
        .await;
        let error = failed(outcome);
        assert!(
            matches!(
                error,
                SshError::Key {
                    why: KeyError::TooLarge,
                    ..
                }
            ),
            "{form}: {error}"
        );
        assert_eq!(error.reason(), Reason::SSHKeyUnusable);
        assert!(delay < LONGEST_DELAY, "{form}: {delay:?}");
    }
    assert_eq!(place.host.connections(), 0);

    let largest = PrivateKey::from_openssh(LARGEST).expect("it is a key");
    place
        .host
        .authorize("nixos", vec![largest.public_key().clone()]);
    let key = SecretText::new(LARGEST.to_owned());
    let mut line = None;
    let login = place.login();
    let log_in = connect(&login, &key, &hosts, &Deadlines::DEFAULT, &mut line);
    let (session, delay) = delaying_others(log_in).await;
    let session = session.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        outcome(session.read_file(PATH).await),
        Ok(Some(b"content".to_vec()))
    );
    println!("the largest key delays others for {delay:?}");
    assert!(delay < LONGEST_DELAY, "{delay:?}");
}

#[tokio::test]
async fn a_server_that_opens_a_channel_loses_the_connection() {
    use ServerChannel::{
        Agent, DirectStreamLocal, DirectTcpip, ForwardedStreamLocal, ForwardedTcpip, Session, X11,
    };
    let place = Place::new().await;
    for kind in [
        Agent,
        Session,
        DirectTcpip,
        DirectStreamLocal,
        ForwardedTcpip,
        ForwardedStreamLocal,
        X11,
    ] {
        place
            .host
            .answer(PATH, Answer::Opens(kind, b"content".to_vec()));
        let session = place.session().await;
        assert_eq!(
            outcome(session.read_file(PATH).await),
            Err("cut off"),
            "{kind:?}"
        );
    }
    assert_eq!(place.host.opened(), 0);
}

#[tokio::test]
async fn a_server_that_exchanges_keys_again_and_again_loses_the_connection() {
    let place = Place::new().await;
    place.host.put_file(PATH, vec![b'x'; MAX_FILE]);
    place.host.rekey_always(true);
    let hosts = known("", Policy::TrustOnFirstUse);
    let mut read = 0;
    if let Ok(session) = place.connect(&hosts).await.0 {
        while read < 20 && outcome(session.read_file(PATH).await).is_ok() {
            read += 1;
        }
    }
    assert!(read < 20);
}

/// Finite-field groups are not offered: their arithmetic is slow, and a server may repeat the exchange.
#[tokio::test]
async fn keys_are_exchanged_over_curves() {
    let place = Place::new().await;
    place.host.put_file(PATH, "content");
    let hosts = known("", Policy::TrustOnFirstUse);
    for exchange in [
        kex::MLKEM768X25519_SHA256,
        kex::CURVE25519,
        kex::ECDH_SHA2_NISTP256,
        kex::ECDH_SHA2_NISTP521,
    ] {
        place.host.offer_only(exchange);
        assert!(place.connect(&hosts).await.0.is_ok(), "{exchange:?}");
    }
    for exchange in [
        kex::DH_G14_SHA256,
        kex::DH_G16_SHA512,
        kex::DH_G18_SHA512,
        kex::DH_GEX_SHA256,
    ] {
        place.host.offer_only(exchange);
        let error = failed(place.connect(&hosts).await.0);
        assert!(
            error.to_string().contains("no common algorithms"),
            "{exchange:?}: {error}"
        );
    }
}

/// Hardened servers, or those that follow FIPS 140, are configured like this.
#[tokio::test]
async fn a_server_of_nist_algorithms_is_logged_in_to() {
    let place = Place::new().await;
    place.host.put_file(PATH, "content");
    let curves = [EcdsaCurve::NistP256, EcdsaCurve::NistP384];
    for (exchange, cipher, curve) in [
        (kex::ECDH_SHA2_NISTP256, cipher::AES_128_GCM, curves[0]),
        (kex::ECDH_SHA2_NISTP384, cipher::AES_256_GCM, curves[1]),
        (kex::ECDH_SHA2_NISTP521, cipher::AES_256_CTR, curves[0]),
        (kex::ECDH_SHA2_NISTP256, cipher::AES_128_CTR, curves[0]),
    ] {
        place.host.offer_only(exchange);
        place.host.offer_only_cipher(cipher);
        place.host.have_host_key(Algorithm::Ecdsa { curve });
        let hosts = known("", Policy::TrustOnFirstUse);
        let session = place.connect(&hosts).await.0;
        let session = session.unwrap_or_else(|error| panic!("{exchange:?} {cipher:?}: {error}"));
        assert_eq!(
            outcome(session.read_file(PATH).await),
            Ok(Some(b"content".to_vec()))
        );
    }
}

#[tokio::test]
async fn where_no_algorithm_is_common_both_sides_are_listed() {
    let place = Place::new().await;
    let hosts = known("", Policy::TrustOnFirstUse);
    place.host.offer_only(kex::DH_GEX_SHA256);
    let message = failed(place.connect(&hosts).await.0).to_string();
    for part in [
        "no common algorithms",
        "KexAlgorithms",
        "it offers diffie-hellman-group-exchange-sha256;",
        "ecdh-sha2-nistp256",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    place.host.offer_only(kex::CURVE25519);
    place.host.offer_only_cipher(cipher::AES_256_CBC);
    let message = failed(place.connect(&hosts).await.0).to_string();
    for part in ["Ciphers", "it offers aes256-cbc;", "aes128-gcm@openssh.com"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// All bytes of the connection count, whatever they are.
#[tokio::test]
async fn a_connection_carries_no_more_than_all_files_need() {
    let place = Place::new().await;
    place.host.put_file(PATH, vec![b'x'; MAX_FILE]);
    let session: Session = place.session().await;
    let mut read = 0;
    while outcome(session.read_file(PATH).await).is_ok() {
        read += 1;
        assert!(read < 100, "it goes on for ever");
    }
    assert!(read > 32, "{read}");
}
