//! Lists as a cluster's API server sends them, page by page: hostile input, of bounded size.

use kube::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::get;

/// Objects of one page, which no server gets past.
const PAGE: usize = 100;
/// Most bytes of one page.
const MAX_PAGE: usize = 8 * 1024 * 1024;
/// Most characters of the token to go on with.
const MAX_TOKEN: usize = 4096;

/// All objects under a path, which ends in `?` or `&`, as `view` cuts each page down; `None` where they could not all be read, or
/// `view` takes one page for none.
pub(super) async fn list<T: DeserializeOwned, V>(
    client: &Client,
    path: &str,
    kind: &str,
    most_pages: usize,
    view: impl Fn(Vec<T>) -> Option<Vec<V>>,
) -> Option<Vec<V>> {
    let mut token = String::new();
    let mut all = Vec::new();
    for _ in 0..most_pages {
        let path = format!("{path}limit={PAGE}&continue={token}");
        let (200, body) = get(client, &path, MAX_PAGE).await? else {
            return None;
        };
        let (items, next) = page(&body, kind)?;
        all.extend(view(items)?);
        if next.is_empty() {
            return Some(all);
        }
        token = next;
    }
    None
}

/// The objects of a page, and the token of the next one, empty where there is none; `None` where it is no page of that kind, or
/// the token holds what a URL would have to escape.
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
