//! Fields that must hold a text of a form. What has another form is not kept.

use serde::{Deserializer, Serialize};

use super::form::Form;
use super::read::lenient;

/// A field that should hold a text of a form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Parsed<T> {
    /// It does.
    Good(T),
    /// It holds something else.
    Malformed,
}

impl<T: Form> Parsed<T> {
    /// What a text is.
    #[must_use]
    pub fn of(text: &str) -> Self {
        T::parse(text).map_or(Self::Malformed, Self::Good)
    }
}

impl<T> Parsed<T> {
    /// The text, where it has its form.
    pub fn good(&self) -> Option<&T> {
        match self {
            Self::Good(text) => Some(text),
            Self::Malformed => None,
        }
    }
}

/// Reads such a field; an empty text is as good as an absent one.
pub(super) fn parsed<'de, D: Deserializer<'de>, T: Form>(
    deserializer: D,
) -> Result<Option<Parsed<T>>, D::Error> {
    let text: Option<String> = lenient(deserializer)?;
    Ok(text
        .filter(|text| !text.is_empty())
        .map(|text| Parsed::of(&text)))
}
