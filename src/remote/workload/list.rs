//! Lists from a workload cluster's API server, page by page. They are not trusted, and limited in size.

use std::collections::BTreeMap;
use std::fmt;

use kube::Client;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::get;
use crate::remote::answer::decoded;

/// Most objects on one page; a longer page is refused. A Node has about 20 KiB: the names of 50 images, and managed fields.
const PAGE: usize = 50;
/// Most bytes of one page.
const MAX_PAGE: usize = 2 * 1024 * 1024;
/// Most characters of the `continue` token.
const MAX_TOKEN: usize = 4096;

/// Lists all objects under a path, which ends in `?` or `&`, and passes each page to `add`. `T` decodes only the needed fields. `None` if
/// not all could be read, or `add` returns `None`.
pub(super) async fn list<T: DeserializeOwned + Send + 'static>(
    client: &Client,
    path: &str,
    kind: &'static str,
    most_pages: usize,
    mut add: impl FnMut(Vec<T>) -> Option<()>,
) -> Option<()> {
    let mut token = String::new();
    for _ in 0..most_pages {
        let path = format!("{path}limit={PAGE}&continue={token}");
        let (200, body) = get(client, &path, MAX_PAGE).await? else {
            return None;
        };
        let (items, next) = decoded(body, move |body| page(body, kind)).await?;
        add(items)?;
        if next.is_empty() {
            return Some(());
        }
        token = next;
    }
    None
}

/// The objects of a page, and the token of the next one, which is empty on the last page. `None` if it is not a list of that kind, or the
/// token has characters that a URL would have to escape.
pub(super) fn page<T: DeserializeOwned>(body: &[u8], kind: &str) -> Option<(Vec<T>, String)> {
    let list: List<T> = serde_json::from_slice(body).ok()?;
    let token = list.metadata.next.unwrap_or_default();
    let is_plain = token
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_=.".contains(&byte));
    let fits = list.kind == kind && list.items.len() <= PAGE && token.len() <= MAX_TOKEN;
    (fits && is_plain).then_some((list.items, token))
}

#[derive(Deserialize)]
struct List<T> {
    kind: String,
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct ListMeta {
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Labels or annotations of these names. Others are dropped while decoding: a server may send any number of them.
pub(super) fn named<'de, D: Deserializer<'de>>(
    from: D,
    names: &'static [&'static str],
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Named(&'static [&'static str]);

    impl<'de> Visitor<'de> for Named {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("texts by name")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let mut kept = BTreeMap::new();
            while let Some(name) = from.next_key::<String>()? {
                if self.0.contains(&name.as_str()) {
                    kept.insert(name, from.next_value()?);
                } else {
                    from.next_value::<IgnoredAny>()?;
                }
            }
            Ok(kept)
        }
    }

    from.deserialize_any(Named(names))
}

/// The first labels or annotations, of any name.
pub(super) fn first<'de, D: Deserializer<'de>>(
    from: D,
    most: usize,
) -> Result<Vec<(String, String)>, D::Error> {
    struct First(usize);

    impl<'de> Visitor<'de> for First {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("texts by name")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let mut kept = Vec::new();
            while kept.len() < self.0
                && let Some(entry) = from.next_entry()?
            {
                kept.push(entry);
            }
            while from.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(kept)
        }
    }

    from.deserialize_any(First(most))
}
