//! A parser for cluster.nix, which is JSON in a Nix expression. Everything else that Nix would evaluate is an error here.

use serde_json::Value;

/// Why a text is not plain data.
#[derive(Debug, thiserror::Error)]
pub enum NixError {
    /// It is not exactly a comment and JSON in a Nix string.
    #[error("not a comment and builtins.fromJSON ''…'' alone")]
    Form,
    /// The string contains an end, an escape or an interpolation.
    #[error("the Nix string holds {0:?}")]
    Nix(char),
    /// The content of the string is not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Parses a text.
pub fn parse(text: &str) -> Result<Value, NixError> {
    let (_, expression) = text
        .split_once('\n')
        .filter(|(comment, _)| comment.starts_with("# ") && !comment.contains('\r'))
        .ok_or(NixError::Form)?;
    let json = expression
        .strip_prefix("builtins.fromJSON ''\n")
        .and_then(|rest| rest.strip_suffix("''\n"))
        .ok_or(NixError::Form)?;
    match json.chars().find(|c| "'$".contains(*c)) {
        Some(found) => Err(NixError::Nix(found)),
        None => Ok(serde_json::from_str(json)?),
    }
}

/// Writes a value that contains neither `'` nor `$`.
#[must_use]
pub fn text(value: &Value) -> String {
    format!("# Generated\nbuiltins.fromJSON ''\n{value:#}\n''\n")
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::{NixError, parse, text};
    use serde_json::json;

    #[test]
    fn a_cluster_is_read() {
        let cluster = json!({"name": "prod", "bootstrap": null, "endpoint": {"host": "10.0.0.10", "port": 6443},
            "controlPlane": [{"name": "cp-01", "ip": "\" \\ \n"}], "workers": []});
        assert_eq!(parse(&text(&cluster)).expect("it is plain data"), cluster);
        let escaped = text(&json!("x")).replace('x', "\\u0024{x}");
        assert_eq!(parse(&escaped).expect("it is plain data"), json!("${x}"));
    }

    #[test]
    fn what_would_be_evaluated_is_refused() {
        let refused = |json: &str| parse(&text(&json!("x")).replace("\"x\"", json));
        assert!(matches!(refused("\"${x}\""), Err(NixError::Nix('$'))));
        assert!(matches!(refused("\"''\""), Err(NixError::Nix('\''))));
        assert!(matches!(refused("{"), Err(NixError::Json(_))));
        for text in ["{ }", "# x\n{ }\n", "builtins.fromJSON ''\n1\n''\n"] {
            assert!(matches!(parse(text), Err(NixError::Form)), "{text}");
        }
    }
}
