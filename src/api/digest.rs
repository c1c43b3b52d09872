//! SHA-256 as the names and comparisons of this program use it: lower-case hexadecimal text.

use sha2::{Digest, Sha256};

/// Lower-case hexadecimal text of bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| {
        char::from(if nibble < 10 {
            b'0' + nibble
        } else {
            b'a' - 10 + nibble
        })
    };
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

/// SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of named fields, one after the other.
#[derive(Clone, Debug, Default)]
pub struct FieldDigest(Sha256);

impl FieldDigest {
    /// Adds a field. The length is included, so that no two lists of fields give the same input.
    pub fn add(&mut self, name: &str, value: &str) {
        let length = value.len().to_string();
        for part in [name, "=", &length, ":", value, ";"] {
            self.0.update(part.as_bytes());
        }
    }

    /// The digest of all of them.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}
