//! The additional files of a configuration, as they are stored. Texts are shared: the 1,100 configurations of a large cluster hold the
//! same list of 1,100 machines, so each text is kept, read and hashed once.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};

use serde_json::Value;
use sha2::Sha256;

use super::cluster_nix::{Values, parse};
use super::digest::sha256;
use super::metadata::CUT;
use room::{Place, Room};

mod room;

/// Field of the text of an inline file.
pub(super) const INLINE: &str = "inline";

/// The text of an inline file, and values computed from it.
pub struct Text {
    content: Box<str>,
    values: OnceLock<Option<Values>>,
    /// The hash of a list that begins with this text, as far as the text.
    pub(super) hash_begun: OnceLock<Sha256>,
    /// The room that it takes.
    place: OnceLock<Place>,
}

/// Most bytes of all whole texts with their values. The texts of 1,000 clusters of five machines take 50 MB.
static ROOM: Room = Room::new(96 * 1024 * 1024);
/// Bytes in memory per byte of a text. A machine takes 22 bytes of the text or more, and 112 of the values.
const BYTES_PER_BYTE: usize = 6;
/// Longest text that is always kept.
const SHORT: usize = 256;

impl Text {
    /// Whether there is room for it among the texts of a namespace. It keeps its place until it is dropped.
    fn has_room(&self, namespace: &str) -> bool {
        self.content.len() <= SHORT || self.place.get().is_some() || {
            let place = ROOM.take(namespace, self.content.len() * BYTES_PER_BYTE);
            // Where another thread took a place for it first, this one is free again.
            place.map(|place| self.place.set(place)).is_some()
        }
    }

    /// What is kept of the text where there is no room for the whole: its digest, and of a cluster.nix the values that concern one machine
    /// and digests of the rest, so that it compares as the whole does.
    fn shortened(&self, cluster_nix_of: Option<&str>) -> Self {
        let values = cluster_nix_of.and_then(|machine| self.values()?.shortened(machine));
        let digest = sha256(self.content.as_bytes());
        Self {
            content: format!("{CUT} {digest}").into(),
            values: OnceLock::from(values),
            hash_begun: OnceLock::new(),
            place: OnceLock::new(),
        }
    }

    /// The text itself; for one that is not kept, another that differs from all that NICO writes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.content
    }

    /// Its values as a cluster.nix; `None` if NICO did not write it.
    #[must_use]
    pub fn values(&self) -> Option<&Values> {
        self.values.get_or_init(|| parse(&self.content)).as_ref()
    }
}

/// Compares the text alone: the computed values are shared and may be added at any time.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.content.fmt(f)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

impl Eq for Text {}

/// The texts in use, by hash. Of two texts with the same hash, the first is shared.
struct Texts {
    known: BTreeMap<u64, Weak<Text>>,
    /// Texts that are no longer in use are removed once there are this many in all.
    swept_at: usize,
}

const SWEPT_AT_LEAST_AT: usize = 64;

static TEXTS: Mutex<Texts> = Mutex::new(Texts {
    known: BTreeMap::new(),
    swept_at: SWEPT_AT_LEAST_AT,
});

fn shared(text: String) -> Arc<Text> {
    // The key is random, so that a tenant cannot create texts with the same hash.
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let hash = HASHER.hash_one(&text);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = texts.known.get(&hash).and_then(Weak::upgrade);
    if let Some(known) = known.as_ref().filter(|known| *known.content == *text) {
        return Arc::clone(known);
    }
    if texts.known.len() >= texts.swept_at {
        texts.known.retain(|_, text| text.strong_count() > 0);
        texts.swept_at = SWEPT_AT_LEAST_AT.max(2 * texts.known.len());
    }
    let new = Arc::new(Text {
        content: text.into(),
        values: OnceLock::new(),
        hash_begun: OnceLock::new(),
        place: OnceLock::new(),
    });
    if known.is_none() {
        texts.known.insert(hash, Arc::downgrade(&new));
    }
    new
}

/// One additional file: any JSON, since the API server may have let it through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// All fields but the text.
    rest: Value,
    inline: Option<Arc<Text>>,
}

impl File {
    /// A field other than the text.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.rest.get(field)
    }

    /// The text, where it has one.
    #[must_use]
    pub fn inline(&self) -> Option<&Arc<Text>> {
        self.inline.as_ref()
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.get("path")?.as_str()
    }

    /// Whether it has that name, in any directory.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.path()
            .is_some_and(|path| path.rsplit('/').next() == Some(name))
    }

    /// The length of its JSON without the text.
    pub(super) fn bytes_without_text(&self) -> usize {
        self.rest.to_string().len()
    }

    /// Whether there is room for its text among those of a namespace.
    pub(super) fn has_room(&self, namespace: &str) -> bool {
        let text = self.inline.as_ref();
        text.is_none_or(|text| text.has_room(namespace))
    }

    /// Keeps of a long text the digest, and of the cluster.nix of a machine what concerns that machine.
    pub(super) fn shorten(&mut self, cluster_nix_of: Option<&str>) {
        let text = self.inline.take_if(|text| text.content.len() > SHORT);
        if let Some(text) = text {
            self.inline = Some(Arc::new(text.shortened(cluster_nix_of)));
        }
    }

    /// The Secret that it refers to.
    #[must_use]
    pub fn secret(&self) -> Option<&Value> {
        self.get("secretRef")?.get("name")
    }
}

impl From<Value> for File {
    fn from(mut file: Value) -> Self {
        let inline = match file.as_object_mut() {
            Some(fields) if fields.get(INLINE).is_some_and(Value::is_string) => {
                match fields.remove(INLINE) {
                    Some(Value::String(text)) => Some(shared(text)),
                    _ => None,
                }
            }
            _ => None,
        };
        Self { rest: file, inline }
    }
}

impl From<&File> for Value {
    fn from(file: &File) -> Self {
        let mut whole = file.rest.clone();
        if let (Some(text), Some(fields)) = (&file.inline, whole.as_object_mut()) {
            fields.insert(INLINE.to_owned(), Self::String(text.as_str().to_owned()));
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_texts_are_kept_once_and_those_that_nobody_holds_not_at_all() {
        let file = |n: usize| File::from(json!({ "path": "a", "inline": format!("text {n}") }));
        let (one, other) = (file(1), file(1));
        let texts = one.inline().zip(other.inline());
        assert!(texts.is_some_and(|(one, other)| Arc::ptr_eq(one, other)));
        assert_ne!(one, file(2));
        for n in 0..10_000 {
            file(n);
        }
        let kept = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(kept.known.len() <= kept.swept_at, "{}", kept.known.len());
        assert!(kept.swept_at < 10_000, "{}", kept.swept_at);
    }

    #[test]
    fn a_file_comes_out_as_it_went_in() {
        for whole in [
            json!({ "path": "cluster.nix", "valueType": "Inline", "inline": "{ }" }),
            json!({ "path": "odd", "inline": 7 }),
            json!({ "secretRef": { "name": "a", "key": "b" } }),
            json!([null]),
            json!(null),
        ] {
            assert_eq!(Value::from(&File::from(whole.clone())), whole);
        }
    }
}
