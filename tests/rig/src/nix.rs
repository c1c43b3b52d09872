//! A reader for the small part of the Nix language that cluster.nix is made of: attribute sets, lists, texts, numbers, `true`,
//! `false` and `null`. Whatever a flake would evaluate beyond that (an interpolation, a function) is an error here, on purpose.

use serde_json::{Map, Value};

/// Why a text is not plain data.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NixError {
    /// Something else stands where `expected` should.
    #[error("at byte {at}: expected {expected}")]
    Expected {
        /// Offset in bytes.
        at: usize,
        /// What was looked for.
        expected: &'static str,
    },
    /// The text would evaluate something.
    #[error("at byte {at}: an interpolation in a text")]
    Interpolation {
        /// Offset in bytes.
        at: usize,
    },
    /// An attribute is given twice.
    #[error("the attribute {0} stands twice")]
    Twice(String),
}

/// Reads one value, with nothing but white space and comments around it.
pub fn parse(text: &str) -> Result<Value, NixError> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value()?;
    reader.skip();
    if reader.at == text.len() {
        Ok(value)
    } else {
        Err(reader.expected("the end"))
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn expected(&self, expected: &'static str) -> NixError {
        NixError::Expected {
            at: self.at,
            expected,
        }
    }

    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn eat(&mut self, token: &'static str) -> bool {
        self.skip();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn value(&mut self) -> Result<Value, NixError> {
        if self.eat("{") {
            return self.attributes();
        }
        if self.eat("[") {
            let mut items = Vec::new();
            while !self.eat("]") {
                items.push(self.value()?);
            }
            return Ok(Value::Array(items));
        }
        if self.eat("\"") {
            return self.string().map(Value::String);
        }
        let rest = self.rest();
        let length = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
            .unwrap_or(rest.len());
        let word = &rest[..length];
        let value = match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            _ => Value::from(word.parse::<i64>().map_err(|_| self.expected("a value"))?),
        };
        self.at += length;
        Ok(value)
    }

    fn attributes(&mut self) -> Result<Value, NixError> {
        let mut fields = Map::new();
        while !self.eat("}") {
            let name = self.name()?;
            if !self.eat("=") {
                return Err(self.expected("="));
            }
            let value = self.value()?;
            if !self.eat(";") {
                return Err(self.expected(";"));
            }
            if fields.insert(name.clone(), value).is_some() {
                return Err(NixError::Twice(name));
            }
        }
        Ok(Value::Object(fields))
    }

    fn name(&mut self) -> Result<String, NixError> {
        if self.eat("\"") {
            return self.string();
        }
        let rest = self.rest();
        let length = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !"-_'".contains(c))
            .unwrap_or(rest.len());
        let name = &rest[..length];
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return Err(self.expected("the name of an attribute"));
        }
        let name = name.to_owned();
        self.at += length;
        Ok(name)
    }

    /// The rest of a text whose opening quote was read.
    fn string(&mut self) -> Result<String, NixError> {
        let mut out = String::new();
        let start = self.at;
        let mut chars = self.text[start..].char_indices().peekable();
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = start + offset + 1;
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 'r')) => out.push('\r'),
                    Some((_, 't')) => out.push('\t'),
                    Some((_, escaped)) => out.push(escaped),
                    None => break,
                },
                '$' if chars.peek().is_some_and(|(_, next)| *next == '{') => {
                    return Err(NixError::Interpolation { at: start + offset });
                }
                // `$$` is two dollar signs, and the second does not open an interpolation.
                '$' if chars.peek().is_some_and(|(_, next)| *next == '$') => {
                    chars.next();
                    out.push_str("$$");
                }
                _ => out.push(c),
            }
        }
        self.at = self.text.len();
        Err(self.expected("a closing quote"))
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::{NixError, parse};
    use serde_json::json;

    #[test]
    fn a_cluster_is_read() {
        let text = "# Generated\n{\n  name = \"prod\";  # a word\n  bootstrap = null;\n  endpoint = { host = \"10.0.0.10\"; port = 6443; };\n  \
                    controlPlane = [\n    { name = \"cp-01\"; ip = \"\\${x} \\\" \\\\ \\n\"; }\n  ];\n  workers = [ ];\n}\n";
        let value = parse(text).expect("it is plain data");
        assert_eq!(value["name"], json!("prod"));
        assert_eq!(
            value["endpoint"],
            json!({"host": "10.0.0.10", "port": 6443})
        );
        assert_eq!(value["controlPlane"][0]["ip"], json!("${x} \" \\ \n"));
        assert_eq!(value["workers"], json!([]));
        assert_eq!(value["bootstrap"], json!(null));
    }

    #[test]
    fn what_would_be_evaluated_is_refused() {
        assert!(matches!(
            parse("\"${x}\""),
            Err(NixError::Interpolation { .. })
        ));
        assert!(parse("{ a = import ./x; }").is_err());
        assert!(parse("{ a = 1; a = 2; }").is_err());
        assert!(parse("{ a = 1 }").is_err());
        assert!(parse("{ } { }").is_err());
        assert!(parse("\"open").is_err());
    }
}
