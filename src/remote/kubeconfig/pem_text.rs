//! PEM from a machine: only certificates and private keys, each checked for its form and written again, so that nothing around them survives.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::InconsistentKeys;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::cause;
use super::refusal::{Field, Unsafe};
use crate::remote::secret::{SecretBytes, SecretText};

/// Most blocks in one PEM text; bundles of authorities are shorter.
const MAX_BLOCKS: usize = 32;
/// A full line of base64 holds that many bytes.
const BYTES_PER_LINE: usize = 48;

/// Certificates, at least one.
#[derive(Clone)]
pub(super) struct Certificates {
    /// Each as DER.
    pub(super) der: Vec<Vec<u8>>,
}

impl Certificates {
    /// The certificates written again.
    pub(super) fn pem(&self) -> String {
        let blocks = self.der.iter().map(|der| block("CERTIFICATE", der));
        blocks.collect()
    }

    /// From when to when the first of them is valid.
    pub(super) fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        let (_, first) = X509Certificate::from_der(self.der.first()?).ok()?;
        let validity = first.validity();
        let (from, to) = (validity.not_before, validity.not_after);
        Some((cause::timestamp(from)?, cause::timestamp(to)?))
    }
}

/// A private key that belongs to a certificate.
#[derive(Clone)]
pub(super) struct PrivateKey {
    kind: SectionKind,
    der: SecretBytes,
}

impl PrivateKey {
    /// The key written again.
    pub(super) fn pem(&self) -> SecretText {
        let tag = match self.kind {
            SectionKind::RsaPrivateKey => "RSA PRIVATE KEY",
            SectionKind::EcPrivateKey => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        SecretText::new(block(tag, self.der.expose()))
    }
}

/// The base64 of a `…-data` field, decoded; line breaks in it are allowed.
pub(super) fn decode(field: Field, text: &str) -> Result<SecretBytes, Unsafe> {
    let compact: Zeroizing<String> =
        Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    let bytes = STANDARD
        .decode(compact.as_bytes())
        .map_err(|_| Unsafe::NotPem { field })?;
    Ok(SecretBytes::new(bytes))
}

/// Base64 of a text, for a `…-data` field.
pub(super) fn encode(text: &str) -> String {
    STANDARD.encode(text)
}

/// The certificates of an authority: nothing else may stand beside them.
pub(super) fn authority(bytes: &SecretBytes) -> Result<Certificates, Unsafe> {
    let field = Field::Authority;
    let blocks = blocks(field, bytes)?;
    if blocks
        .iter()
        .any(|(kind, _)| *kind != SectionKind::Certificate)
    {
        return Err(Unsafe::NotCertificate { field });
    }
    certificates(field, &blocks)
}

/// The certificate of a client and those that lead from it to its authority. Its key may stand in the same text, as the kubelet writes it.
pub(super) fn client_certificate(bytes: &SecretBytes) -> Result<Certificates, Unsafe> {
    let field = Field::ClientCertificate;
    let certificates = certificates(field, &blocks(field, bytes)?)?;
    if certificates
        .der
        .iter()
        .any(|der| cause::is_of_old_version(der))
    {
        return Err(Unsafe::CertificateVersion);
    }
    Ok(certificates)
}

/// The one private key of a client, which must belong to the first of `certificates`.
pub(super) fn client_key(
    bytes: &SecretBytes,
    certificates: &Certificates,
) -> Result<PrivateKey, Unsafe> {
    let field = Field::ClientKey;
    let blocks = blocks(field, bytes)?.into_iter();
    let mut keys = blocks.filter(|(kind, _)| *kind != SectionKind::Certificate);
    let (Some((kind, der)), None) = (keys.next(), keys.next()) else {
        return Err(Unsafe::NotKey);
    };
    // Borrowed: there is no copy of the key to overwrite.
    let borrowed = match kind {
        SectionKind::RsaPrivateKey => PrivateKeyDer::Pkcs1(der.expose().into()),
        SectionKind::EcPrivateKey => PrivateKeyDer::Sec1(der.expose().into()),
        _ => PrivateKeyDer::Pkcs8(der.expose().into()),
    };
    let first = certificates.der.first().ok_or(Unsafe::NotKey)?;
    if let Some(kind) = cause::unusable_kind(first) {
        return Err(Unsafe::KeyKind { kind });
    }
    let key = any_supported_type(&borrowed).map_err(|_| Unsafe::KeyMismatch)?;
    let chain = vec![CertificateDer::from(first.clone())];
    match CertifiedKey::new(chain, key).keys_match() {
        // Not every kind of key says what its public half is.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            Ok(PrivateKey { kind, der })
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(Unsafe::KeyMismatch),
        Err(_) => Err(Unsafe::CertificateUnusable),
    }
}

fn certificates(field: Field, blocks: &[Block]) -> Result<Certificates, Unsafe> {
    let certificates = blocks
        .iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate);
    let mut der = Vec::new();
    for (_, certificate) in certificates {
        match X509Certificate::from_der(certificate.expose()) {
            Ok(([], _)) => der.push(certificate.expose().to_vec()),
            _ => return Err(Unsafe::NotCertificate { field }),
        }
    }
    if der.is_empty() {
        Err(Unsafe::NotCertificate { field })
    } else {
        Ok(Certificates { der })
    }
}

type Block = (SectionKind, SecretBytes);

/// The blocks of a PEM text: certificates and private keys. Those of kinds that TLS does not know are passed over, as text is.
fn blocks(field: Field, bytes: &SecretBytes) -> Result<Vec<Block>, Unsafe> {
    let blocks = <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes.expose())
        .take(MAX_BLOCKS + 1)
        .map(|block| block.map(|(kind, der)| (kind, SecretBytes::new(der))))
        .collect::<Result<Vec<Block>, _>>()
        .map_err(|_| Unsafe::NotPem { field })?;
    let allowed = |(kind, _): &Block| {
        matches!(
            kind,
            SectionKind::Certificate
                | SectionKind::PrivateKey
                | SectionKind::RsaPrivateKey
                | SectionKind::EcPrivateKey
        )
    };
    if blocks.is_empty() || blocks.len() > MAX_BLOCKS || !blocks.iter().all(allowed) {
        return Err(Unsafe::NotPem { field });
    }
    Ok(blocks)
}

/// A block of PEM, in a text that never grows, so that no copy of a key is left behind.
fn block(tag: &str, der: &[u8]) -> String {
    let frame = "-----BEGIN -----\n-----END -----\n".len() + 2 * tag.len();
    let lines = der.len().div_ceil(BYTES_PER_LINE) * (BYTES_PER_LINE / 3 * 4 + 1);
    let mut text = String::with_capacity(frame + lines);
    for part in ["-----BEGIN ", tag, "-----\n"] {
        text.push_str(part);
    }
    for line in der.chunks(BYTES_PER_LINE) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    for part in ["-----END ", tag, "-----\n"] {
        text.push_str(part);
    }
    text
}
