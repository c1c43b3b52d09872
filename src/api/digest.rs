//! SHA-256 as the names and comparisons of this program use it: lower-case hexadecimal text.

use std::io::Write as _;

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
    let mut text = String::with_capacity(2 * bytes.len());
    text.extend(digits.map(digit));
    text
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
        // Long enough for any number, so that writing to it never fails.
        let mut buffer = [0; 24];
        let mut rest = &mut buffer[..];
        let _ = write!(rest, "={}:", value.len());
        let unused = rest.len();
        let length = &buffer[..buffer.len() - unused];
        for part in [name.as_bytes(), length, value.as_bytes(), b";"] {
            self.0.update(part);
        }
    }

    /// The digest of all of them.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}
