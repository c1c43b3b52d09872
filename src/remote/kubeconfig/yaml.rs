//! Parses untrusted bytes as one limited YAML document, and reads values from it. Errors contain neither the text nor the parser's message.

use serde_yaml::Value;

use super::refusal::Unsafe;

/// Most bytes of a kubeconfig.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// Most opening brackets. Each one that stays open makes the parser slower for all that follows. A kubeconfig as JSON has a dozen.
const MAX_BRACKETS: usize = 500;

/// Most indicators that begin or separate something in YAML. The parser needs a kilobyte for each. A kubeconfig has about a hundred.
const MAX_MARKS: usize = 10_000;

/// Parses the document, which must be the only one. Anchors and aliases are refused before parsing: no tool writes them into a kubeconfig,
/// and with them a small file can expand to a huge one.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Unsafe> {
    if bytes.len() > MAX_BYTES {
        return Err(Unsafe::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Unsafe::NotText)?;
    // Accepts a byte order mark, as kubectl does: some editors write one.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.chars().any(is_odd) {
        return Err(Unsafe::NotText);
    }
    if text.trim().is_empty() {
        return Err(Unsafe::Empty);
    }
    if text.split(['\n', '\r']).any(may_hold_anchor) {
        return Err(Unsafe::Anchors);
    }
    if text.matches(['[', '{']).count() > MAX_BRACKETS {
        return Err(Unsafe::Nested);
    }
    if marks(text) > MAX_MARKS {
        return Err(Unsafe::NotYaml);
    }
    let value: Value = serde_yaml::from_str(text).map_err(|_| Unsafe::NotYaml)?;
    if value.is_mapping() {
        Ok(value)
    } else {
        Err(Unsafe::NotKubeconfig)
    }
}

/// Control characters except line breaks and tabs, and what YAML 1.1 reads as a line break or a byte order mark.
fn is_odd(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// An upper limit on the entries of a text.
fn marks(text: &str) -> usize {
    let ends = text.bytes().skip(1).chain([b'\n']);
    let mark = |(mark, next): &(u8, u8)| match mark {
        b',' => true,
        b'-' | b'?' | b':' => next.is_ascii_whitespace(),
        _ => false,
    };
    text.bytes().zip(ends).filter(mark).count()
}

/// Whether `&` or `*` is where it could begin an anchor or an alias. A line that begins with `#` is a comment or part of a block scalar.
fn may_hold_anchor(line: &str) -> bool {
    let mut before = ' ';
    !line.trim_start().starts_with('#')
        && line.chars().any(|c| {
            let begins = matches!(before, ' ' | '\t' | '[' | '{' | ',' | ':' | '-' | '?');
            before = c;
            begins && matches!(c, '&' | '*')
        })
}

/// The value of `key`; null counts as absent.
pub(super) fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get(key).filter(|value| !value.is_null())
}

/// The text of `key`. Absent and empty are the same. Other types are refused.
pub(super) fn text<'a>(value: &'a Value, key: &'static str) -> Result<Option<&'a str>, Unsafe> {
    match get(value, key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(Unsafe::WrongType { field: key }),
    }
}

/// The list of `key`. Absent is the same as empty.
pub(super) fn list<'a>(value: &'a Value, key: &'static str) -> Result<&'a [Value], Unsafe> {
    match get(value, key) {
        None => Ok(&[]),
        Some(Value::Sequence(items)) => Ok(items),
        Some(_) => Err(Unsafe::WrongType { field: key }),
    }
}

/// Whether `key` has a value that is not equivalent to absent.
pub(super) fn is_set(value: &Value, key: &str) -> bool {
    match value.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Sequence(items)) => !items.is_empty(),
        Some(Value::Mapping(map)) => key_holds_even_empty(key) || !map.is_empty(),
        Some(Value::Bool(true) | Value::Number(_) | Value::Tagged(_)) => true,
    }
}

/// Clients call the plugin even for `exec: {}` and `auth-provider: {}`.
fn key_holds_even_empty(key: &str) -> bool {
    matches!(key, "exec" | "auth-provider")
}
