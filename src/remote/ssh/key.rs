//! Private SSH keys from Secrets, which are not trusted. The cost of arithmetic grows with the square and the cube of a number's length, so
//! lengths are checked before anything is computed. Every copy of a key is overwritten when dropped.

use std::sync::Arc;

use russh::AgentAuthError;
use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{
    HashAlg, PrivateKey, PublicKey, decode_openssh, pkcs8::decode_pkcs8, signature::Signer as _,
};

use super::key_error::{KeyError, MAX_BITS, MIN_BITS};
use super::key_text::{self, Encoding};
use crate::remote::known_hosts;
use crate::remote::offload::KEYS;
use crate::remote::secret::{SecretBytes, SecretText};

const RSA: &[u8] = b"ssh-rsa";
const OPENSSH_MAGIC: &[u8] = b"openssh-key-v1\0";
/// The key types that OpenSSH accepts, except those that need a hardware token.
const ALGORITHMS: [&[u8]; 5] = [
    b"ssh-ed25519",
    b"ecdsa-sha2-nistp256",
    b"ecdsa-sha2-nistp384",
    b"ecdsa-sha2-nistp521",
    RSA,
];
/// Numbers of an RSA key in OpenSSH's format: n, e, d, and three for the Chinese remainder theorem. A comment follows them.
const RSA_NUMBERS: usize = 6;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// Deepest nesting of DER that is read. The numbers of a PKCS#8 key are less deep.
const MAX_DEPTH: usize = 8;
/// PKCS#8's version 0, and the algorithm `rsaEncryption` without parameters (RFC 5208, RFC 8017).
const PKCS8_OF_RSA: &[u8] =
    b"\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// The SHA-256 fingerprint (`SHA256:…`) of the public half of a private key. Fails if NICO cannot log in with the key. Call it off the
/// async threads: it computes with the key's numbers.
pub fn fingerprint_of_public_half(private_key: &SecretText) -> Result<String, KeyError> {
    decode(private_key).map(|key| known_hosts::fingerprint(key.public_key()))
}

/// Reads a key. It must not be too large, and must not have a passphrase.
pub(super) async fn read(text: &SecretText) -> Result<PrivateKey, KeyError> {
    let text = text.clone();
    KEYS.offload(move || decode(&text)).await
}

fn decode(text: &SecretText) -> Result<PrivateKey, KeyError> {
    let (form, der) = key_text::read(text.expose())?;
    let key = match form {
        Encoding::OpenSsh => {
            check_openssh(der.expose())?;
            decode_openssh(der.expose(), None)
        }
        Encoding::Pkcs1 => {
            check_der(der.expose(), MAX_DEPTH)?;
            decode_pkcs8(pkcs8_of(&der).expose(), None)
        }
        Encoding::Der => {
            check_der(der.expose(), MAX_DEPTH)?;
            decode_pkcs8(der.expose(), None)
        }
        Encoding::Dsa => return Err(KeyError::Algorithm),
    };
    let key = key.map_err(|_| KeyError::Unreadable)?;
    key_text::check_lines(text.expose(), form)?;
    let rsa = key.public_key().key_data().rsa();
    if rsa.is_some_and(|rsa| rsa.key_size() < MIN_BITS) {
        return Err(KeyError::ShortRsa);
    }
    Ok(key)
}

/// A PKCS#1 key as PKCS#8. The buffer never grows, so no copy is left behind.
fn pkcs8_of(pkcs1: &SecretBytes) -> SecretBytes {
    let pkcs1 = pkcs1.expose();
    let mut der = Vec::with_capacity(pkcs1.len() + PKCS8_OF_RSA.len() + 16);
    let header = |der: &mut Vec<u8>, tag: u8, length: usize| {
        // Two bytes are enough for the length: it is at most 16 KiB.
        let [.., high, low] = length.to_be_bytes();
        match (high, low) {
            (0, 0..=0x7f) => der.extend([tag, low]),
            (0, _) => der.extend([tag, 0x81, low]),
            _ => der.extend([tag, 0x82, high, low]),
        }
    };
    let size_of_length = match pkcs1.len() {
        0..=0x7f => 1,
        0x80..=0xff => 2,
        _ => 3,
    };
    let inner = PKCS8_OF_RSA.len() + 1 + size_of_length + pkcs1.len();
    header(&mut der, SEQUENCE, inner);
    der.extend_from_slice(PKCS8_OF_RSA);
    header(&mut der, OCTET_STRING, pkcs1.len());
    der.extend_from_slice(pkcs1);
    SecretBytes::new(der)
}

/// Refuses a number that is too long.
fn check_number(number: &[u8]) -> Result<(), KeyError> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    if number.len() - zeros > MAX_BITS / 8 {
        Err(KeyError::TooLarge)
    } else {
        Ok(())
    }
}

/// Refuses DER with a number that is too long. It also looks into octet strings, which hold the key in PKCS#8.
fn check_der(mut der: &[u8], depth: usize) -> Result<(), KeyError> {
    let deeper = depth.checked_sub(1).ok_or(KeyError::Unreadable)?;
    while !der.is_empty() {
        let (tag, content, rest) = element(der).ok_or(KeyError::Unreadable)?;
        match tag {
            INTEGER => check_number(content)?,
            SEQUENCE => check_der(content, deeper)?,
            // An octet string that is not DER belongs to another kind of key.
            OCTET_STRING if check_der(content, deeper) == Err(KeyError::TooLarge) => {
                return Err(KeyError::TooLarge);
            }
            _ => {}
        }
        der = rest;
    }
    Ok(())
}

/// The tag and content of the first DER element, and the bytes after it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // A length of more bytes would exceed the text.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// Refuses a key in OpenSSH's format (PROTOCOL.key) that has a passphrase, or an RSA key with a number that is too long.
fn check_openssh(key: &[u8]) -> Result<(), KeyError> {
    let sections = || {
        let mut rest = key.strip_prefix(OPENSSH_MAGIC)?;
        let cipher = string(&mut rest)?;
        string(&mut rest)?; // the key derivation function
        string(&mut rest)?; // its options
        rest = rest.get(4..)?; // the number of keys
        let public = string(&mut rest)?;
        let private = string(&mut rest)?;
        Some((cipher, public, private))
    };
    let (cipher, public, private) = sections().ok_or(KeyError::Unreadable)?;
    if cipher != b"none" {
        return Err(KeyError::Encrypted);
    }
    let mut fields = public;
    let kind = string(&mut fields).ok_or(KeyError::Unreadable)?;
    if kind.starts_with(b"sk-") {
        return Err(KeyError::Hardware);
    }
    if !ALGORITHMS.contains(&kind) {
        return Err(KeyError::Algorithm);
    }
    // The private part begins with two check numbers.
    for mut section in [public, private.get(8..).ok_or(KeyError::Unreadable)?] {
        if string(&mut section) == Some(RSA) {
            let numbers = std::iter::from_fn(|| string(&mut section));
            numbers.take(RSA_NUMBERS).try_for_each(check_number)?;
        }
    }
    Ok(())
}

/// Splits off a string of SSH's wire format (RFC 4251, section 5): a length of four bytes, then the bytes.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (string, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(string)
}

/// Signs authentication requests with a key, off the async threads.
pub(super) struct Signer(Arc<PrivateKey>);

impl Signer {
    pub(super) fn new(key: PrivateKey) -> Self {
        Self(Arc::new(key))
    }

    pub(super) fn public_key(&self) -> &PublicKey {
        self.0.public_key()
    }
}

impl russh::Signer for Signer {
    type Error = AgentAuthError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, AgentAuthError> {
        let key = Arc::clone(&self.0);
        let sign = move || {
            let signature: Signature = match key.key_data() {
                KeypairData::Rsa(key) => (key, hash).try_sign(&to_sign).ok()?,
                key => key.try_sign(&to_sign).ok()?,
            };
            // The signature follows the signed data, as one string of the wire format.
            signature.encode_prefixed(&mut to_sign).ok()?;
            Some(to_sign)
        };
        let signed = KEYS.offload(sign).await;
        signed.ok_or(AgentAuthError::Key(russh::keys::Error::CouldNotReadKey))
    }
}
