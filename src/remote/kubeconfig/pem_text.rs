//! PEM from a machine: only certificates and private keys, each checked for its form and written anew, so that nothing around them survives.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::refusal::{Field, Unsafe};
use crate::remote::secret::{SecretBytes, SecretText};

/// Most blocks in one PEM text; bundles of authorities are shorter.
const MAX_BLOCKS: usize = 32;
const CERTIFICATE: &str = "CERTIFICATE";
const PKCS8: &str = "PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";
const SEC1: &str = "EC PRIVATE KEY";
/// What `openssl ecparam` writes before a key; it holds nothing that the key does not say.
const EC_PARAMETERS: &str = "EC PARAMETERS";

/// Certificates, at least one.
#[derive(Clone)]
pub(super) struct Certificates {
    /// Each as DER.
    pub(super) der: Vec<Vec<u8>>,
}

impl Certificates {
    /// The certificates written anew.
    pub(super) fn pem(&self) -> String {
        let blocks: Vec<_> = self
            .der
            .iter()
            .map(|der| Pem::new(CERTIFICATE, der.clone()))
            .collect();
        pem::encode_many_config(&blocks, encoding())
    }

    /// From when to when the first of them is valid.
    pub(super) fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        let (_, first) = X509Certificate::from_der(self.der.first()?).ok()?;
        let validity = first.validity();
        let at = |time: ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        Some((at(validity.not_before)?, at(validity.not_after)?))
    }
}

/// A private key that belongs to a certificate.
#[derive(Clone)]
pub(super) struct PrivateKey {
    tag: &'static str,
    der: SecretBytes,
}

impl PrivateKey {
    /// The key written anew.
    pub(super) fn pem(&self) -> SecretText {
        let block = Pem::new(self.tag, self.der.expose());
        let text = pem::encode_config(&block, encoding());
        drop(Zeroizing::new(block.into_contents()));
        SecretText::new(text)
    }

    fn to_rustls(&self) -> PrivateKeyDer<'static> {
        let der = self.der.expose().to_vec();
        match self.tag {
            PKCS1 => PrivatePkcs1KeyDer::from(der).into(),
            SEC1 => PrivateSec1KeyDer::from(der).into(),
            _ => PrivatePkcs8KeyDer::from(der).into(),
        }
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
    if blocks.iter().any(|block| block.tag() != CERTIFICATE) {
        return Err(Unsafe::NotCertificate { field });
    }
    certificates(field, &blocks)
}

/// The certificate of a client and those that lead from it to its authority. Its key may stand in the same text, as the kubelet writes it.
pub(super) fn client_certificate(bytes: &SecretBytes) -> Result<Certificates, Unsafe> {
    let field = Field::ClientCertificate;
    certificates(field, &blocks(field, bytes)?)
}

/// The one private key of a client, which must belong to the first of `certificates`.
pub(super) fn client_key(
    bytes: &SecretBytes,
    certificates: &Certificates,
) -> Result<PrivateKey, Unsafe> {
    let field = Field::ClientKey;
    let mut found = None;
    for block in blocks(field, bytes)? {
        let tag = match block.tag() {
            PKCS8 => PKCS8,
            PKCS1 => PKCS1,
            SEC1 => SEC1,
            _ => continue,
        };
        // An encrypted key in the old form says so in its headers.
        if found.is_some() || block.headers().iter().next().is_some() {
            return Err(Unsafe::NotKey);
        }
        found = Some(PrivateKey {
            tag,
            der: SecretBytes::new(block.into_contents()),
        });
    }
    let key = found.ok_or(Unsafe::NotKey)?;
    let chain = certificates
        .der
        .iter()
        .map(|der| CertificateDer::from(der.clone()))
        .collect();
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key.to_rustls(), &provider).map_err(|_| Unsafe::KeyMismatch)?;
    Ok(key)
}

fn certificates(field: Field, blocks: &[Pem]) -> Result<Certificates, Unsafe> {
    let mut der = Vec::new();
    for block in blocks.iter().filter(|block| block.tag() == CERTIFICATE) {
        match X509Certificate::from_der(block.contents()) {
            Ok(([], _)) => der.push(block.contents().to_vec()),
            _ => return Err(Unsafe::NotCertificate { field }),
        }
    }
    if der.is_empty() {
        Err(Unsafe::NotCertificate { field })
    } else {
        Ok(Certificates { der })
    }
}

/// The blocks of a PEM text, all of them of kinds that may stand in a kubeconfig.
fn blocks(field: Field, bytes: &SecretBytes) -> Result<Vec<Pem>, Unsafe> {
    let blocks = pem::parse_many(bytes.expose()).map_err(|_| Unsafe::NotPem { field })?;
    let allowed = |block: &Pem| {
        matches!(
            block.tag(),
            CERTIFICATE | PKCS8 | PKCS1 | SEC1 | EC_PARAMETERS
        )
    };
    if blocks.is_empty() || blocks.len() > MAX_BLOCKS || !blocks.iter().all(allowed) {
        return Err(Unsafe::NotPem { field });
    }
    Ok(blocks)
}

fn encoding() -> EncodeConfig {
    EncodeConfig::new().set_line_ending(LineEnding::LF)
}
