//! PEM from a machine. Only certificates and private keys are accepted. Each is checked and encoded again, so that no other text is kept.

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

/// Most blocks in one PEM text. Bundles of authorities have fewer.
const MAX_BLOCKS: usize = 32;
/// Bytes in a full line of base64.
const BYTES_PER_LINE: usize = 48;

/// Certificates, at least one.
#[derive(Clone)]
pub(super) struct Certificates {
    /// Each as DER.
    pub(super) der: Vec<Vec<u8>>,
}

impl Certificates {
    /// Encodes the certificates.
    pub(super) fn pem(&self) -> String {
        let blocks = self.der.iter().map(|der| block("CERTIFICATE", der));
        blocks.collect()
    }

    /// The validity period of the first one.
    pub(super) fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        let (_, first) = X509Certificate::from_der(self.der.first()?).ok()?;
        let validity = first.validity();
        let (from, to) = (validity.not_before, validity.not_after);
        Some((cause::timestamp(from)?, cause::timestamp(to)?))
    }
}

/// A private key that matches a certificate.
#[derive(Clone)]
pub(super) struct PrivateKey {
    kind: SectionKind,
    der: SecretBytes,
}

impl PrivateKey {
    /// Encodes the key.
    pub(super) fn pem(&self) -> SecretText {
        let tag = match self.kind {
            SectionKind::RsaPrivateKey => "RSA PRIVATE KEY",
            SectionKind::EcPrivateKey => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        SecretText::new(block(tag, self.der.expose()))
    }
}

/// Decodes the base64 of a `…-data` field. Line breaks are allowed.
pub(super) fn decode(field: Field, text: &str) -> Result<SecretBytes, Unsafe> {
    let compact: Zeroizing<String> =
        Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    let bytes = STANDARD
        .decode(compact.as_bytes())
        .map_err(|_| Unsafe::NotPem { field })?;
    Ok(SecretBytes::new(bytes))
}

/// Encodes a text for a `…-data` field.
pub(super) fn encode(text: &str) -> String {
    STANDARD.encode(text)
}

/// Decodes the certificates of an authority. Other blocks are not allowed.
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

/// Decodes the certificate of a client and its chain. The text may contain the key as well, as the kubelet writes it.
pub(super) fn client_certificate(bytes: &SecretBytes) -> Result<Certificates, Unsafe> {
    let field = Field::ClientCertificate;
    let certificates = certificates(field, &blocks(field, bytes)?)?;
    // TLS needs version 3 of the client's own. Of the authorities after it, the API server decides.
    if certificates
        .der
        .first()
        .is_some_and(|der| cause::is_of_old_version(der))
    {
        return Err(Unsafe::CertificateVersion);
    }
    Ok(certificates)
}

/// Decodes the private key of a client. It must be the only one, and match the first of `certificates`.
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
    // Borrows the key, so that there is no copy to overwrite.
    let borrowed = match kind {
        SectionKind::RsaPrivateKey => PrivateKeyDer::Pkcs1(der.expose().into()),
        SectionKind::EcPrivateKey => PrivateKeyDer::Sec1(der.expose().into()),
        _ => PrivateKeyDer::Pkcs8(der.expose().into()),
    };
    let first = certificates.der.first().ok_or(Unsafe::NotKey)?;
    if let Some(kind) = cause::unusable_kind(first) {
        return Err(Unsafe::KeyKind { kind });
    }
    let key = any_supported_type(&borrowed).map_err(|_| Unsafe::KeyUnusable)?;
    let chain = vec![CertificateDer::from(first.clone())];
    match CertifiedKey::new(chain, key).keys_match() {
        // The public half cannot be derived from every kind of key.
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

/// The certificates and private keys in a PEM text. Blocks of other kinds and text are skipped.
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

/// Encodes a PEM block. The buffer never grows, so no copy of a key is left behind.
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
