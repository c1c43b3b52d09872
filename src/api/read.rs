//! How fields of JSON are read where serde's own way is too strict, or not strict enough.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A value of a wrong type is as good as absent: NIO's schemas differ, and an object must never break the watch.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// An object or null, and nothing else: a derived type also takes a list of its fields' values.
pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
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

    deserializer.deserialize_any(Object(PhantomData))
}

/// A whole number or null, also where it is spelt `6443.0`: the API server takes that where no CEL rule looks at the field. One that
/// is too large becomes the largest; the field's bounds refuse it all the same.
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
