//! Secret bytes and text: types that cannot be printed by mistake and that are overwritten when dropped.

use zeroize::{Zeroize as _, Zeroizing};

/// Secret bytes: neither `Debug` nor `Display`, and overwritten when dropped.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership of the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves: not for logs, events, status, metrics or errors.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Secret text: neither `Debug` nor `Display`, and overwritten when dropped.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes ownership of the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Takes ownership of bytes; `None` if they are not UTF-8. Then they are overwritten.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        String::from_utf8(bytes)
            .map(Self::new)
            .map_err(|error| error.into_bytes().zeroize())
            .ok()
    }

    /// The text itself: not for logs, events, status, metrics or errors.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}
