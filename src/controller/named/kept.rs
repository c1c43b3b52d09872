//! The parts of Secrets and ConfigMaps that NICO reads. The rest is dropped while decoding: a user who may write an object with such a name
//! can put any amount of data into it.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroize as _;

use crate::api::kubeconfig::{KUBECONFIG_KEY, VALUE_KEY};
use crate::api::ledger::longest_value;
use crate::api::metadata::{CUT, metadata};
use crate::api::nio::SSH_KEY;
use crate::plan::desired::TOKEN_KEY;
use crate::remote::known_hosts::{KNOWN_HOSTS_KEY, MAX_TEXT};
use crate::remote::ssh::MAX_FILE;

/// Keys of Secrets that the facts cover. The second copy of a kubeconfig is read as well, to compare it with the first.
pub(super) const SECRET_KEYS: [&str; 3] = [TOKEN_KEY, VALUE_KEY, SSH_KEY];
/// How many other keys of a Secret are kept. They show which key comes first, and whether there is only one.
const OTHER_KEYS: usize = 2;

/// A Secret, with the values that NICO reads and the first of its other keys.
#[derive(kube::Resource, Clone, Deserialize)]
#[resource(inherit = Secret)]
pub struct KeptSecret {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    #[serde(default, rename = "type")]
    type_: Option<String>,
    #[serde(default, deserialize_with = "secret_data")]
    data: BTreeMap<String, ByteString>,
}

/// A ConfigMap, with the values that NICO reads.
#[derive(kube::Resource, Clone, Debug, Deserialize)]
#[resource(inherit = ConfigMap)]
pub struct KeptMap {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "map_data")]
    data: BTreeMap<String, String>,
}

impl From<KeptSecret> for Secret {
    fn from(kept: KeptSecret) -> Self {
        Self {
            metadata: kept.metadata,
            type_: kept.type_,
            data: Some(kept.data),
            ..Self::default()
        }
    }
}

impl From<KeptMap> for ConfigMap {
    fn from(kept: KeptMap) -> Self {
        Self {
            metadata: kept.metadata,
            data: Some(kept.data),
            ..Self::default()
        }
    }
}

impl fmt::Debug for KeptSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptSecret").finish_non_exhaustive()
    }
}

/// Decodes the entries of an object one at a time.
fn each<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
    take: impl FnMut(String, V),
) -> Result<(), D::Error> {
    struct Each<F, V>(F, std::marker::PhantomData<V>);

    impl<'de, V: Deserialize<'de>, F: FnMut(String, V)> Visitor<'de> for Each<F, V> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E: Error>(self) -> Result<(), E> {
            Ok(())
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut from: A) -> Result<(), A::Error> {
            while let Some((key, value)) = from.next_entry()? {
                (self.0)(key, value);
            }
            Ok(())
        }
    }

    deserializer.deserialize_any(Each(take, std::marker::PhantomData))
}

/// Decodes the data of a Secret. A value that is too long is cut, but stays longer than the limit.
fn secret_data<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, ByteString>, D::Error> {
    let (mut kept, mut others) = (BTreeMap::new(), BTreeMap::new());
    each(deserializer, |key: String, mut value: ByteString| {
        if SECRET_KEYS.contains(&key.as_str()) || key == KUBECONFIG_KEY {
            if value.0.len() > MAX_FILE + 1 {
                let mut whole = std::mem::take(&mut value.0);
                value.0 = whole.get(..=MAX_FILE).unwrap_or_default().to_vec();
                whole.zeroize();
            }
            kept.insert(key, value);
            return;
        }
        // Only whether this value is empty matters.
        let is_empty = value.0.is_empty();
        value.0.zeroize();
        others.insert(key, is_empty);
        if others.len() > OTHER_KEYS {
            others.pop_last();
        }
    })?;
    kept.extend(others.into_iter().map(|(key, is_empty)| {
        let value: &[u8] = if is_empty { b"" } else { b"x" };
        (key, ByteString(value.to_vec()))
    }));
    Ok(kept)
}

/// Decodes the data of a ConfigMap. A value that is too long is cut in such a way that it is refused later.
fn map_data<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let mut kept = BTreeMap::new();
    each(deserializer, |key: String, value: String| {
        let kept_of_it = if key == KNOWN_HOSTS_KEY {
            // Keeps at least one byte too many.
            let mut ends = MAX_TEXT + 1..value.len();
            let end = ends.find(|end| value.is_char_boundary(*end));
            end.and_then(|end| value.get(..end))
        } else if let Some(longest) = longest_value(&key) {
            (value.len() > longest).then_some(CUT)
        } else {
            return;
        };
        let kept_of_it = kept_of_it.map(str::to_owned);
        kept.insert(key, kept_of_it.unwrap_or(value));
    })?;
    Ok(kept)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn many(value: &Value) -> Value {
        (0..80_000)
            .map(|n| (format!("{n:x}"), value.clone()))
            .collect()
    }

    #[test]
    fn of_a_secret_of_many_keys_little_is_kept() {
        let mut data = many(&json!("YQ=="));
        data[SSH_KEY] = json!(ByteString(vec![b'k'; 1_000_000]));
        data["0"] = json!("");
        let text = json!({"metadata": {}, "type": "Opaque", "data": data}).to_string();
        let kept: Secret = serde_json::from_str::<KeptSecret>(&text).unwrap().into();
        let kept: Vec<_> = kept.data.iter().flatten().collect();
        let kept: Vec<_> = kept
            .iter()
            .map(|(key, it)| (key.as_str(), it.0.len()))
            .collect();
        assert_eq!(kept, [("0", 0), ("1", 1), (SSH_KEY, MAX_FILE + 1)]);
    }

    #[test]
    fn of_a_map_of_many_keys_what_is_read_is_kept() {
        let mut data = many(&json!("x"));
        data[KNOWN_HOSTS_KEY] = json!("ä".repeat(MAX_TEXT));
        data["id"] = json!("0123456789abcdef");
        data["slot"] = json!("x".repeat(200_000));
        data["commit"] = json!("x".repeat(5_000));
        let text = json!({"metadata": {}, "data": data}).to_string();
        let kept: ConfigMap = serde_json::from_str::<KeptMap>(&text).unwrap().into();
        let data = kept.data.unwrap();
        assert_eq!(data.len(), 4);
        let known_hosts = data[KNOWN_HOSTS_KEY].len();
        assert!((MAX_TEXT + 1..MAX_TEXT + 4).contains(&known_hosts));
        assert_eq!((&*data["slot"], &*data["commit"]), (CUT, CUT));
        assert_eq!(data["id"], "0123456789abcdef");
    }

    #[test]
    fn one_without_data_is_read_too() {
        for data in ["", r#","data":null"#, r#","data":{}"#] {
            let text = format!("{{\"metadata\":{{}}{data}}}");
            assert!(serde_json::from_str::<KeptSecret>(&text).is_ok(), "{text}");
            assert!(serde_json::from_str::<KeptMap>(&text).is_ok(), "{text}");
        }
    }
}
