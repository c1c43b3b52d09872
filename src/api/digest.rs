//! SHA-256 as the names and comparisons of this program use it: lower-case hexadecimal text.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Lower-case hexadecimal text of bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a `String` never fails.
            let _ = write!(text, "{byte:02x}");
            text
        })
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
    /// Takes a field in. Its length keeps one field's text from passing for another's.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0
            .update(format!("{name}={}:{value};", value.len()).as_bytes());
    }

    /// The digest of all of them.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}
