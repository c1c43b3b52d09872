//! What is wrong with a spec, collected field by field.
//!
//! Nothing of a value that may hold a secret is repeated in a message.

use std::fmt;
use std::ops::RangeInclusive;

use super::rules::Text;

/// Most errors that are reported at once: they become one condition's message.
pub(super) const MAX_ERRORS: usize = 16;
/// Most characters of a refused value that are repeated.
const MAX_QUOTED: usize = 64;

/// One rule that a spec breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// Path of the field, like `spec.controlPlane.machines[2]`.
    pub field: String,
    /// What must be, for a person, and what is instead where that can be shown.
    pub message: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for SpecError {}

/// The checks of one spec, with the errors that they found so far.
#[derive(Default)]
pub(super) struct Validator {
    pub(super) errors: Vec<SpecError>,
}

impl Validator {
    pub(super) fn refuse(&mut self, field: &str, message: impl Into<String>) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(SpecError {
                field: field.to_owned(),
                message: message.into(),
            });
        }
    }

    /// Whether the text keeps the rule.
    pub(super) fn text(&mut self, field: &str, value: &str, rule: &Text) -> bool {
        let checked = rule.check(value);
        match &checked {
            Err(message) if rule.quotable => {
                self.refuse(field, format!("{message}; it is {}", quoted(value)));
            }
            Err(message) => self.refuse(field, message),
            Ok(()) => {}
        }
        checked.is_ok()
    }

    /// The text, where there is one and it keeps the rule.
    pub(super) fn optional(
        &mut self,
        field: &str,
        value: Option<String>,
        rule: &Text,
    ) -> Option<String> {
        value.filter(|value| self.text(field, value, rule))
    }

    /// The number, where there is one; the nearest that is allowed instead of one that is not.
    pub(super) fn number<N: TryFrom<i64>>(
        &mut self,
        field: &str,
        value: Option<i64>,
        limits: &RangeInclusive<i64>,
    ) -> Option<N> {
        let value = value?;
        if !limits.contains(&value) {
            let message = format!(
                "must be a whole number from {} to {}",
                limits.start(),
                limits.end()
            );
            self.refuse(field, message);
        }
        N::try_from(value.clamp(*limits.start(), *limits.end())).ok()
    }

    /// Whether a list or map is no longer than it may be.
    pub(super) fn at_most(&mut self, field: &str, entries: usize, max: usize) -> bool {
        if entries > max {
            self.refuse(field, format!("must have at most {max} entries"));
        }
        entries <= max
    }
}

/// A refused value for a message: short, in printable ASCII, and not at all where it looks like a URL or an address with credentials.
pub(super) fn quoted(value: &str) -> String {
    if value.contains("://") || value.contains('@') {
        return "not shown, since it may hold a password".to_owned();
    }
    let short: String = value.chars().take(MAX_QUOTED).collect();
    let more = if short.len() < value.len() { "…" } else { "" };
    format!("\"{}{more}\"", short.escape_default())
}
