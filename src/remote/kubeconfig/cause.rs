//! Why a certificate cannot be used, as a message for users. It quotes only names of algorithms and times.

use jiff::Timestamp;
use x509_parser::der_parser::asn1_rs::Any;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate, X509Version};
use x509_parser::public_key::PublicKey;

use super::pem_text::Certificates;

/// Kinds of public keys by the object identifier of their algorithm or curve.
const KINDS: [(&str, &str); 11] = [
    ("1.2.840.10045.3.1.7", "ECDSA P-256"),
    ("1.3.132.0.34", "ECDSA P-384"),
    ("1.3.132.0.35", "ECDSA P-521"),
    ("1.3.132.0.10", "ECDSA secp256k1"),
    ("1.3.132.0.33", "ECDSA P-224"),
    ("1.2.840.10045.3.1.1", "ECDSA P-192"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.113549.1.1.10", "RSA-PSS"),
    ("1.2.840.10045.2.1", "ECDSA with a curve of its own"),
];
/// Supported kinds; RSA depends on its length.
const USABLE: [&str; 3] = ["ECDSA P-256", "ECDSA P-384", "Ed25519"];
/// Supported bits of an RSA key.
const USABLE_RSA: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The kind of a certificate's key if NICO cannot use it for TLS.
pub(super) fn unusable_kind(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let key = certificate.public_key();
    if let Ok(PublicKey::RSA(rsa)) = key.parsed() {
        let bits = rsa.key_size();
        return (!USABLE_RSA.contains(&bits)).then(|| format!("RSA with {bits} bits"));
    }
    let algorithm = key.algorithm.algorithm.to_id_string();
    let curve = key.algorithm.parameters.as_ref();
    let curve = curve.and_then(|parameters: &Any<'_>| parameters.as_oid().ok());
    let curve = curve.map(|curve| curve.to_id_string());
    let named = |id: &String| KINDS.iter().find(|(known, _)| known == id);
    let kind = curve.as_ref().and_then(named).or_else(|| named(&algorithm));
    match kind {
        Some((_, kind)) => (!USABLE.contains(kind)).then(|| (*kind).to_owned()),
        None => Some(format!("unknown ({algorithm:.64})")),
    }
}

/// Whether its X.509 version is not 3, which TLS requires.
pub(super) fn is_of_old_version(der: &[u8]) -> bool {
    let parsed = X509Certificate::from_der(der);
    parsed.is_ok_and(|(_, certificate)| certificate.version() != X509Version::V3)
}

/// Why the first of these certificates is not valid now; `None` if it is.
pub(super) fn not_valid(certificates: &Certificates, now: Timestamp) -> Option<String> {
    let (from, to) = certificates.validity()?;
    if now < from {
        Some(format!(
            "it is not valid before {from}, and NICO's clock says {now:.0}"
        ))
    } else if now > to {
        Some(format!(
            "it expired on {to}, and NICO's clock says {now:.0}"
        ))
    } else {
        None
    }
}

/// Whether none of these certificates may sign others.
pub(super) fn is_no_authority(certificates: &Certificates) -> bool {
    certificates.der.iter().all(|der| {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return true;
        };
        // Older versions have no such extension.
        let is_v3 = certificate.version() == X509Version::V3;
        is_v3 && !certificate.is_ca()
    })
}

/// Converts a time of a certificate.
pub(super) fn timestamp(time: ASN1Time) -> Option<Timestamp> {
    Timestamp::from_second(time.timestamp()).ok()
}
