//! Limits the nesting depth of responses before they are decoded. The API server stores objects with thousands of levels, and `serde_json`
//! rejects a whole list if one object has more than 128.

use hyper::body::Bytes;

/// Deepest level of a response that is kept. Nothing that NICO reads is half as deep, including the API server's OpenAPI documents.
const DEEPEST: usize = 100;

/// The position in a stream of JSON texts.
#[derive(Debug, Default)]
pub struct Depth {
    level: usize,
    in_text: bool,
    escaped: bool,
}

impl Depth {
    /// The next bytes of the stream, with null instead of each object or list that is too deep.
    #[must_use]
    pub fn cut(&mut self, bytes: Bytes) -> Bytes {
        // The bytes kept so far; `None`: all of them.
        let mut kept = (self.level > DEEPEST).then(Vec::new);
        for (at, byte) in bytes.iter().enumerate() {
            let mut keep = self.level <= DEEPEST;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => {
                    if self.level == DEEPEST {
                        let kept = kept.get_or_insert_with(|| before(&bytes, at));
                        kept.extend_from_slice(b"null");
                        keep = false;
                    }
                    self.level += 1;
                }
                b'}' | b']' => self.level = self.level.saturating_sub(1),
                _ => {}
            }
            if keep && let Some(kept) = &mut kept {
                kept.push(*byte);
            }
        }
        kept.map_or(bytes, Bytes::from)
    }
}

fn before(bytes: &Bytes, at: usize) -> Vec<u8> {
    bytes.get(..at).unwrap_or_default().to_vec()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<u8> {
        let mut depth = Depth::default();
        let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece));
        pieces.flat_map(|piece| depth.cut(piece)).collect()
    }

    fn nested(levels: usize) -> String {
        format!("{}\"]}}\\\"\"{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn what_lies_too_deep_becomes_null_and_all_else_stays() {
        let deep = nested(5000);
        let text = format!("{{\"a\":{deep},\"b\":[\"}}\\\\\",{{\"c\":1}}]}}\n{{\"d\":{deep}}}");
        assert!(serde_json::from_str::<Value>(&nested(128)).is_err());
        let cut = cut(&[text.as_bytes()]);
        let mut objects = serde_json::Deserializer::from_slice(&cut).into_iter::<Value>();
        let first = objects.next().unwrap().unwrap();
        assert_eq!(first["b"], json!(["}\\", { "c": 1 }]));
        assert!(first["a"].is_array());
        assert!(objects.next().unwrap().unwrap()["d"].is_array());
        assert!(cut.len() < 2000);
        let plain = nested(DEEPEST);
        assert_eq!(self::cut(&[plain.as_bytes()]), plain.as_bytes());
    }

    proptest! {
        #[test]
        fn where_the_stream_is_split_makes_no_difference(
            text in "[\\[\\]{}\",a]{0,300}|\\[{90,120}[\\[\\]\\\\\",:a]{0,200}",
            at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(text.len() + 1);
            let (left, right) = text.as_bytes().split_at(at);
            prop_assert_eq!(cut(&[left, right]), cut(&[text.as_bytes()]));
        }

        #[test]
        fn an_answer_that_is_not_deep_stays_as_it_is(bytes in prop::collection::vec(any::<u8>(), 0..DEEPEST)) {
            prop_assert_eq!(cut(&[&bytes]), bytes);
        }
    }
}
