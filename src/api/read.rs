//! How fields of JSON are read where serde's own way is too strict, or not strict enough.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A value of the wrong type counts as absent: NIO's schemas differ, and no object may break the watch. It is decoded from its text, so
/// that a number that is too large does not fail the whole object, and what is not kept takes no memory: a tree of values is a hundred
/// times as large as its text.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = Box::<RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(text.get()).unwrap_or_default())
}

/// Most values in a field that is kept as it is stored; NICO's own list of files has some 20.
const MOST_VALUES: usize = 1024;

/// As [`lenient`]; a text with very many values counts as absent too.
pub(super) fn small<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = Box::<RawValue>::deserialize(deserializer)?;
    let value = of_few_values(&text, MOST_VALUES).then(|| serde_json::from_str(text.get()).ok());
    Ok(value.flatten().unwrap_or_default())
}

/// Whether a text has at most so many values.
pub(super) fn of_few_values(text: &RawValue, most: usize) -> bool {
    let (mut values, mut in_text, mut escaped) = (0, false, false);
    for byte in text.get().bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' | b',' if !in_text => values += 1,
            _ => {}
        }
    }
    values <= most
}

/// Longest text of a status that is kept. No name, commit or hash is as long.
const LONGEST_TEXT: usize = 1024;

/// A text that is compared. One that is too long counts as absent.
pub(super) fn short<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text: Option<String> = lenient(deserializer)?;
    Ok(text.filter(|text| text.len() <= LONGEST_TEXT))
}

/// The fields with these names, each as `kept` reads it. Others are ignored; a value that is not an object has none.
pub(super) fn fields<'de, D: Deserializer<'de>>(
    deserializer: D,
    names: &[&str],
    kept: fn(&str, &RawValue) -> Value,
) -> Result<Map<String, Value>, D::Error> {
    struct Fields<'a>(&'a [&'a str], fn(&str, &RawValue) -> Value);

    impl<'de> Visitor<'de> for Fields<'_> {
        type Value = Map<String, Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let mut fields = Map::new();
            while let Some(name) = from.next_key::<String>()? {
                if self.0.contains(&name.as_str()) {
                    let text: Box<RawValue> = from.next_value()?;
                    let value = (self.1)(&name, &text);
                    fields.insert(name, value);
                } else {
                    from.next_value::<IgnoredAny>()?;
                }
            }
            Ok(fields)
        }
    }

    let text = Box::<RawValue>::deserialize(deserializer)?;
    let mut from = serde_json::Deserializer::from_str(text.get());
    Ok(from
        .deserialize_map(Fields(names, kept))
        .unwrap_or_default())
}

/// An object or null, and nothing else: a derived type would also accept a list of its fields' values.
pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    struct ObjectVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    deserializer.deserialize_any(ObjectVisitor(PhantomData))
}

/// A whole number or null, also as `6443.0`: the API server accepts that if no CEL rule reads the field. A number that is too large becomes
/// the largest one, which the field's bounds refuse.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let number = Option::<f64>::deserialize(deserializer)?;
    if number.is_some_and(|number| number.fract() != 0.0) {
        return Err(D::Error::custom("not a whole number"));
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "it is whole, and no bound is near the ends of either type"
    )]
    Ok(number.map(|number| number as i64))
}
