//! The hash by which classic NIO names the `additionalFiles` that it applied. It is the
//! SHA-256 of what Python's `json.dumps(list, sort_keys=True)` writes, so each byte of that text matters here.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::digest::hex;
use super::files::{File, INLINE, Text};

/// The hash of a list of additional files as stored: lower-case hexadecimal, or the empty string for the empty list.
///
/// Take the list from the object that was read back: the API server prunes and defaults what was sent.
#[must_use]
pub fn additional_files_hash(files: &[File]) -> String {
    let Some((first, others)) = files.split_first() else {
        return String::new();
    };
    let mut text = String::new();
    // NICO's lists begin with cluster.nix: the long text that many of them share is hashed once.
    let mut hash = match first.inline() {
        Some(shared) if is_inline(first) => {
            dump_fields(fields(first), true, &mut text);
            shared.hash_begun.get_or_init(|| begin(shared)).clone()
        }
        _ => {
            text.push('[');
            dump_file(first, &mut text);
            Sha256::new()
        }
    };
    for file in others {
        text.push_str(", ");
        dump_file(file, &mut text);
    }
    text.push(']');
    hash.update(text.as_bytes());
    hex(&hash.finalize())
}

/// The state of the hash after the text of the first file. The text comes first, because names are sorted.
fn begin(shared: &Text) -> Sha256 {
    let mut text = format!("[{{\"{INLINE}\": ");
    dump_text(shared.as_str(), &mut text);
    let mut hash = Sha256::new();
    hash.update(text.as_bytes());
    hash
}

fn is_inline(file: &File) -> bool {
    file.get("valueType").and_then(Value::as_str) == Some("Inline")
}

/// One file as classic sees it: its path, its type, and the one value that goes with the type.
fn dump_file(file: &File, out: &mut String) {
    out.push('{');
    let mut follows = false;
    if is_inline(file) {
        let _ = write!(out, "\"{INLINE}\": ");
        match (file.inline(), file.get(INLINE)) {
            (Some(text), _) => dump_text(text.as_str(), out),
            (None, Some(odd)) => dump(odd, out),
            (None, None) => dump_text("", out),
        }
        follows = true;
    }
    dump_fields(fields(file), follows, out);
}

/// The fields of a file that count, but for its text.
fn fields(file: &File) -> Vec<(&str, &Value)> {
    let field = |name: &'static str| (name, file.get(name).unwrap_or(&Value::Null));
    let mut fields = vec![field("path"), field("valueType")];
    match file.get("valueType").and_then(Value::as_str) {
        Some("SecretRef") => fields.push(field("secretRef")),
        Some("NixosFacter") => fields.push(field("nixosFacter")),
        _ => {}
    }
    fields
}

/// `json.dumps(value, sort_keys=True)` of Python 3.
fn dump(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        // The fields that count hold no fractions, which Python would print in its own way.
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Value::String(text) => dump_text(text, out),
        Value::Array(items) => dump_list(items, out),
        Value::Object(fields) => dump_object(
            fields
                .iter()
                .map(|(name, value)| (name.as_str(), value))
                .collect(),
            out,
        ),
    }
}

fn dump_list(items: &[Value], out: &mut String) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        dump(item, out);
    }
    out.push(']');
}

fn dump_object(fields: Vec<(&str, &Value)>, out: &mut String) {
    out.push('{');
    dump_fields(fields, false, out);
}

/// The fields of an object and its end; other fields may precede them. Python sorts names by code point; so does `str`, whose UTF-8 bytes
/// sort alike.
fn dump_fields(mut fields: Vec<(&str, &Value)>, mut follows: bool, out: &mut String) {
    fields.sort_by_key(|(name, _)| *name);
    for (name, value) in fields {
        if follows {
            out.push_str(", ");
        }
        follows = true;
        dump_text(name, out);
        out.push_str(": ");
        dump(value, out);
    }
    out.push('}');
}

/// A string in ASCII alone, 0x7f escaped too; above the BMP as surrogate pairs.
fn dump_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hash(files: &Value) -> String {
        let files = files.as_array().into_iter().flatten().cloned();
        additional_files_hash(&files.map(File::from).collect::<Vec<_>>())
    }

    fn dumped(value: &Value) -> String {
        let mut out = String::new();
        dump(value, &mut out);
        out
    }

    #[test]
    fn an_empty_list_has_the_empty_hash() {
        assert_eq!(additional_files_hash(&[]), "");
    }

    // Seen with the real program.
    #[test]
    fn the_vectors_of_the_real_program() {
        let first = json!([
            {"path": "cluster.nix", "valueType": "Inline", "inline": "{ }"},
            {"path": "join-tok", "valueType": "SecretRef", "secretRef": {"name": "tok"}},
        ]);
        assert_eq!(
            hash(&first),
            "e940865a80bfa1b3449b95cc2b9ef347b636355360ef69bf4143cca6e90a2bb4"
        );
        let second = json!([
            {"path": "cluster.nix", "valueType": "Inline", "inline": "new \u{e9} \u{1f600} \"q\" \u{7f} </x>"},
            {"path": "sub/tok", "valueType": "SecretRef", "secretRef": {"name": "s"}},
            {"path": "gone", "valueType": "SecretRef", "secretRef": {"name": "missing"}},
        ]);
        assert_eq!(
            hash(&second),
            "0dcba0e19b27f28a419135492e86b3059052049f8a4c3047550fcdd8cf7db0d0"
        );
    }

    // From python3: hashlib.sha256(json.dumps(list, sort_keys=True).encode()).hexdigest()
    #[test]
    fn every_escape_and_nested_names_in_order() {
        let files = json!([
            {"path": ".nico/0123456789ab-7", "valueType": "Inline"},
            {"path": "a\u{8}\u{c}\n\r\t\u{0}\u{1f} ~\u{80}\u{2028}\u{ffff}\u{10000}\u{10ffff}\\/", "valueType": "Inline", "inline": "\u{202e}"},
            {"path": "s", "valueType": "SecretRef", "secretRef": {"name": "n", "key": "k", "Z": {"b": [], "a": {}, "\u{e9}": null, "\u{1f600}": 1, "\u{ff5e}": true}}, "inline": "not counted"},
            {"path": "f", "valueType": "NixosFacter", "nixosFacter": true, "extra": 1},
        ]);
        assert_eq!(
            hash(&files),
            "1fe38c4dee5e4b4a420750b3789d9e1e552a9f59e384e228d4a43e8a8220c09b"
        );
        let absent = json!([{"path": "m", "valueType": "Inline"}]);
        let empty = json!([{"inline": "", "valueType": "Inline", "path": "m"}]);
        assert_eq!(hash(&absent), hash(&empty));
        assert_eq!(
            hash(&absent),
            "51ab38261377567a4618f442d5836d6fdcdf8a2703288aa99321fcd342e3d46c"
        );
        let other_order =
            json!([{"path": "a", "valueType": "Inline"}, {"path": "b", "valueType": "Inline"}]);
        let order =
            json!([{"path": "b", "valueType": "Inline"}, {"path": "a", "valueType": "Inline"}]);
        assert_ne!(hash(&order), hash(&other_order));
    }

    #[test]
    fn whole_numbers_as_python_prints_them() {
        for text in ["0", "-7", "18446744073709551615"] {
            let value: Value = serde_json::from_str(text).unwrap_or_default();
            assert_eq!(dumped(&value), text);
        }
    }

    #[test]
    fn nothing_that_is_stored_stops_it() {
        for odd in [
            json!([null]),
            json!([1, "a", [], {}]),
            json!([{"path": 1, "valueType": []}]),
        ] {
            assert_eq!(hash(&odd).len(), 64);
        }
    }
}
