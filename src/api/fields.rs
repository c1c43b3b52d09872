//! Reading the fields of a spec, whatever the JSON is, and collecting what is wrong with them, each with its path.
//!
//! Nothing of a value that may hold a secret is repeated in a message.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::names::MachineName;
use super::rules::{self, Text};

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

/// What was found wrong so far.
#[derive(Default)]
pub(super) struct Errors(RefCell<Vec<SpecError>>);

impl Errors {
    pub(super) fn into_vec(self) -> Vec<SpecError> {
        self.0.into_inner()
    }

    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    pub(super) fn add(&self, field: &str, message: &str) {
        let mut errors = self.0.borrow_mut();
        if errors.len() < MAX_ERRORS {
            errors.push(SpecError {
                field: field.to_owned(),
                message: message.to_owned(),
            });
        }
    }

    pub(super) fn check(&self, field: &str, value: &str, rule: &Text) -> bool {
        let checked = rule.check(value);
        if let Err(message) = &checked {
            if rule.quotable {
                self.add(field, &format!("{message}; it is {}", quoted(value)));
            } else {
                self.add(field, message);
            }
        }
        checked.is_ok()
    }

    pub(super) fn string<'v>(&self, field: &str, value: &'v Value) -> Option<&'v str> {
        let text = value.as_str();
        if text.is_none() {
            self.add(field, "must be a string");
        }
        text
    }
}

/// An object of the spec, with the path that leads to it.
pub(super) struct Fields<'a> {
    pub(super) path: String,
    pub(super) map: &'a Map<String, Value>,
    pub(super) errors: &'a Errors,
}

impl<'a> Fields<'a> {
    pub(super) fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The field, which must be there.
    pub(super) fn required(&self, key: &str) -> Option<&'a Value> {
        let value = self.get(key);
        if value.is_none() {
            self.errors.add(&self.path_of(key), "must be given");
        }
        value
    }

    pub(super) fn text(&self, key: &str, rule: &Text) -> Option<String> {
        self.as_text(key, self.get(key)?, rule)
    }

    pub(super) fn required_text(&self, key: &str, rule: &Text) -> Option<String> {
        self.as_text(key, self.required(key)?, rule)
    }

    fn as_text(&self, key: &str, value: &Value, rule: &Text) -> Option<String> {
        let path = self.path_of(key);
        let text = self.errors.string(&path, value)?;
        self.errors
            .check(&path, text, rule)
            .then(|| text.to_owned())
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        match self.get(key) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.errors.add(&self.path_of(key), "must be true or false");
                default
            }
        }
    }

    pub(super) fn number(&self, key: &str, limits: &RangeInclusive<i64>) -> Option<i64> {
        let value = self.get(key)?;
        let number = integer(value).filter(|number| limits.contains(number));
        if number.is_none() {
            let message = format!(
                "must be a whole number from {} to {}",
                limits.start(),
                limits.end()
            );
            self.errors.add(&self.path_of(key), &message);
        }
        number
    }

    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        self.as_choice(key, self.get(key)?, choices)
    }

    pub(super) fn required_choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        self.as_choice(key, self.required(key)?, choices)
    }

    fn as_choice<T: Copy>(&self, key: &str, value: &Value, choices: &[(&str, T)]) -> Option<T> {
        let text = value.as_str();
        let choice = choices
            .iter()
            .find(|(word, _)| text == Some(word))
            .map(|(_, choice)| *choice);
        if choice.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let message = format!("must be one of {}", words.join(", "));
            self.errors.add(&self.path_of(key), &message);
        }
        choice
    }

    pub(super) fn object(&self, key: &str) -> Option<Fields<'a>> {
        self.as_object(key, self.get(key)?)
    }

    pub(super) fn required_object(&self, key: &str) -> Option<Fields<'a>> {
        self.as_object(key, self.required(key)?)
    }

    fn as_object(&self, key: &str, value: &'a Value) -> Option<Fields<'a>> {
        let path = self.path_of(key);
        let Value::Object(map) = value else {
            self.errors.add(&path, "must be an object");
            return None;
        };
        Some(Fields {
            path,
            map,
            errors: self.errors,
        })
    }

    /// The list, if it is one and not too long; else nothing.
    pub(super) fn list(&self, key: &str, max: usize) -> &'a [Value] {
        match self.get(key) {
            None => &[],
            Some(Value::Array(items)) if items.len() <= max => items,
            Some(Value::Array(_)) => {
                let message = format!("must have at most {max} items");
                self.errors.add(&self.path_of(key), &message);
                &[]
            }
            Some(_) => {
                self.errors.add(&self.path_of(key), "must be a list");
                &[]
            }
        }
    }

    pub(super) fn names(&self, key: &str, max: i64) -> BTreeSet<MachineName> {
        let path = self.path_of(key);
        let mut names = BTreeSet::new();
        let items = self.list(key, usize::try_from(max).unwrap_or_default());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(text) = self.errors.string(&path, item) else {
                continue;
            };
            if !self.errors.check(&path, text, &rules::DNS_LABEL) {
                continue;
            }
            let new = MachineName::parse(text).is_some_and(|name| names.insert(name));
            if !new {
                let message = format!("{} is listed twice", quoted(text));
                self.errors.add(&path, &message);
            }
        }
        names
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

/// A whole number, also where it is spelt `6443.0`: the API server takes that where no CEL rule looks at the field.
fn integer(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| {
        // Up to 2^53 every whole number has a floating-point twin of its own; no limit here is near that.
        let float = number.as_f64()?;
        let whole = float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0;
        #[allow(
            clippy::cast_possible_truncation,
            reason = "whole, and within the bounds just asked for"
        )]
        whole.then_some(float as i64)
    })
}
