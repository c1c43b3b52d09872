//! Fields whose text must have a valid form. An invalid text is not kept.

use serde::{Deserializer, Serialize};

use super::form::Form;
use super::read::lenient;

/// A field whose text should have a valid form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Parsed<T> {
    /// It has.
    Good(T),
    /// It has not.
    Malformed,
}

impl<T: Form> Parsed<T> {
    /// Parses a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        T::parse(text).map_or(Self::Malformed, Self::Good)
    }
}

impl<T> Parsed<T> {
    /// The text, if it is valid.
    pub fn good(&self) -> Option<&T> {
        match self {
            Self::Good(text) => Some(text),
            Self::Malformed => None,
        }
    }
}

/// Reads such a field. An empty text counts as absent.
pub(super) fn parsed<'de, D: Deserializer<'de>, T: Form>(
    deserializer: D,
) -> Result<Option<Parsed<T>>, D::Error> {
    let text: Option<String> = lenient(deserializer)?;
    Ok(text
        .filter(|text| !text.is_empty())
        .map(|text| Parsed::of(&text)))
}
