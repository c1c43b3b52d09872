//! How fields of JSON are read where serde's own way is too strict, or not strict enough.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::names::GROUP;

/// A value of a wrong type is as good as absent: NIO's schemas differ, and an object must never break the watch. It is decoded from
/// its text, so that no number is too large for the rest, and what is not kept takes no memory: a tree of values is a hundred times as
/// large as its text.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = Box::<RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(text.get()).unwrap_or_default())
}

/// Most values in a field that is kept as it is stored; NICO's own list of files has some 20.
const MOST_VALUES: usize = 1024;

/// As [`lenient`], and a text of very many values is as good as absent, too.
pub(super) fn small<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = Box::<RawValue>::deserialize(deserializer)?;
    Ok(few_values(&text).unwrap_or_default())
}

/// What a text holds, where that are not very many values.
fn few_values<T: DeserializeOwned>(text: &RawValue) -> Option<T> {
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
    (values <= MOST_VALUES)
        .then(|| serde_json::from_str(text.get()).ok())
        .flatten()
}

/// The metadata that NICO works with, each field by itself: one that is not as it should be is as good as absent. `managedFields` and
/// the annotations of others are never kept: they are as large as the object, and a merge patch leaves them as they are.
pub(super) fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Kept {
        #[serde(deserialize_with = "lenient")]
        name: Option<String>,
        #[serde(deserialize_with = "lenient")]
        namespace: Option<String>,
        #[serde(deserialize_with = "lenient")]
        uid: Option<String>,
        #[serde(deserialize_with = "lenient")]
        resource_version: Option<String>,
        #[serde(deserialize_with = "lenient")]
        generation: Option<i64>,
        #[serde(deserialize_with = "lenient")]
        creation_timestamp: Option<Time>,
        #[serde(deserialize_with = "lenient")]
        deletion_timestamp: Option<Time>,
        #[serde(deserialize_with = "lenient")]
        finalizers: Option<Vec<String>>,
        #[serde(deserialize_with = "lenient")]
        labels: Option<BTreeMap<String, String>>,
        #[serde(deserialize_with = "lenient")]
        annotations: Option<BTreeMap<String, String>>,
        #[serde(deserialize_with = "lenient")]
        owner_references: Option<Vec<OwnerReference>>,
    }

    let kept = object::<D, Kept>(deserializer)?.unwrap_or_default();
    let own = |key: &str| key.split_once('/').is_some_and(|(group, _)| group == GROUP);
    let annotations = kept.annotations.map(|mut annotations| {
        annotations.retain(|key, _| own(key));
        annotations
    });
    Ok(ObjectMeta {
        name: kept.name,
        namespace: kept.namespace,
        uid: kept.uid,
        resource_version: kept.resource_version,
        generation: kept.generation,
        creation_timestamp: kept.creation_timestamp,
        deletion_timestamp: kept.deletion_timestamp,
        finalizers: kept.finalizers,
        labels: kept.labels,
        annotations: annotations.filter(|annotations| !annotations.is_empty()),
        owner_references: kept.owner_references,
        ..ObjectMeta::default()
    })
}

/// The fields of these names, each as it is stored; the others, and those of very many values, are passed over. What is no object has none.
pub(super) fn fields<'de, D: Deserializer<'de>>(
    deserializer: D,
    names: &[&str],
) -> Result<Map<String, Value>, D::Error> {
    struct Fields<'a>(&'a [&'a str]);

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
                    fields.extend(few_values(&text).map(|value| (name, value)));
                } else {
                    from.next_value::<IgnoredAny>()?;
                }
            }
            Ok(fields)
        }
    }

    let text = Box::<RawValue>::deserialize(deserializer)?;
    let mut from = serde_json::Deserializer::from_str(text.get());
    Ok(from.deserialize_map(Fields(names)).unwrap_or_default())
}

/// An object or null, and nothing else: a derived type also takes a list of its fields' values.
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
