//! `additionalFilesHash` of classic NIO, byte for byte: the SHA-256 of the JSON text of the list from Python's `json.dumps`. It is
//! independent of NICO's implementation, so that each checks the other.

use std::fmt::Write;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The hash that classic writes for the stored `spec.additionalFiles`. For `None` and an empty list it is the empty text.
#[must_use]
pub fn additional_files_hash(files: Option<&Value>) -> String {
    let Some(files) = files
        .and_then(Value::as_array)
        .filter(|files| !files.is_empty())
    else {
        return String::new();
    };
    let elements: Vec<Value> = files.iter().map(element).collect();
    let mut text = String::new();
    dump(&Value::Array(elements), &mut text);
    hex(&Sha256::digest(text.as_bytes()))
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The parts of a file that classic hashes: path, type and the value of that type.
fn element(file: &Value) -> Value {
    let kind = file["valueType"].as_str().unwrap_or_default();
    let mut kept = Map::new();
    kept.insert("path".into(), file["path"].clone());
    kept.insert("valueType".into(), file["valueType"].clone());
    match kind {
        "Inline" => {
            let inline = file
                .get("inline")
                .cloned()
                .unwrap_or_else(|| Value::String(String::new()));
            kept.insert("inline".into(), inline);
        }
        "SecretRef" => {
            kept.insert("secretRef".into(), file["secretRef"].clone());
        }
        "NixosFacter" => {
            kept.insert("nixosFacter".into(), file["nixosFacter"].clone());
        }
        _ => {}
    }
    Value::Object(kept)
}

/// `json.dumps(value, sort_keys=True)` with Python's default separators and `ensure_ascii`.
fn dump(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                dump(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            out.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                dump_text(name, out);
                out.push_str(": ");
                dump(&fields[name], out);
            }
            out.push('}');
        }
        Value::String(text) => dump_text(text, out),
        other => out.push_str(&other.to_string()),
    }
}

fn dump_text(text: &str, out: &mut String) {
    out.push('"');
    for unit in text.encode_utf16() {
        match unit {
            0x22 => out.push_str("\\\""),
            0x5c => out.push_str("\\\\"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            0x0a => out.push_str("\\n"),
            0x0d => out.push_str("\\r"),
            0x09 => out.push_str("\\t"),
            // 0x7f is escaped as well.
            0x20..=0x7e => out.push(char::from(u8::try_from(unit).unwrap_or(b'?'))),
            _ => {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::additional_files_hash;
    use serde_json::json;

    #[test]
    fn the_two_vectors_of_the_real_program() {
        let first = json!([
            {"path": "cluster.nix", "valueType": "Inline", "inline": "{ }"},
            {"path": "join-tok", "valueType": "SecretRef", "secretRef": {"name": "tok"}}
        ]);
        assert_eq!(
            additional_files_hash(Some(&first)),
            "e940865a80bfa1b3449b95cc2b9ef347b636355360ef69bf4143cca6e90a2bb4"
        );
        let second = json!([
            {"path": "cluster.nix", "valueType": "Inline", "inline": "new \u{e9} \u{1f600} \"q\" \u{7f} </x>"},
            {"path": "sub/tok", "valueType": "SecretRef", "secretRef": {"name": "s"}},
            {"path": "gone", "valueType": "SecretRef", "secretRef": {"name": "missing"}}
        ]);
        assert_eq!(
            additional_files_hash(Some(&second)),
            "0dcba0e19b27f28a419135492e86b3059052049f8a4c3047550fcdd8cf7db0d0"
        );
    }

    #[test]
    fn nothing_hashes_to_nothing() {
        assert_eq!(additional_files_hash(None), "");
        assert_eq!(additional_files_hash(Some(&json!([]))), "");
    }

    #[test]
    fn an_inline_file_without_text_counts_as_empty() {
        let absent = json!([{"path": "a", "valueType": "Inline"}]);
        let empty = json!([{"path": "a", "valueType": "Inline", "inline": ""}]);
        assert_eq!(
            additional_files_hash(Some(&absent)),
            additional_files_hash(Some(&empty))
        );
    }
}
