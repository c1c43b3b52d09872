//! Objects of one kind as a watch has shown them, with an index.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, RwLock};

use kube::Resource;
use kube::core::{Selector, SelectorExt as _};
use kube::runtime::watcher::Event;

use crate::api::metadata::labels;

/// How many uids of deleted objects are remembered. A response is never so late that more objects are deleted before it arrives.
const REMEMBERED_GONE: usize = 1024;

/// Objects of one kind by namespace and name, with one index.
#[derive(Debug)]
pub struct Store<K> {
    inner: RwLock<Contents<K>>,
    index: fn(&K) -> Vec<String>,
}

#[derive(Debug)]
struct Contents<K> {
    objects: BTreeMap<(String, String), Arc<K>>,
    /// Names by namespace and index key.
    indexed: HashMap<(String, String), BTreeSet<String>>,
    /// Uids of recently deleted objects: the response to one of NICO's writes must not bring them back.
    gone: VecDeque<String>,
    /// Objects seen so far in a list that has not ended.
    listing: Vec<K>,
    ready: bool,
}

impl<K> Default for Contents<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            indexed: HashMap::new(),
            gone: VecDeque::new(),
            listing: Vec::new(),
            ready: false,
        }
    }
}

impl<K: Resource<DynamicType = ()>> Store<K> {
    /// An empty store; `index` returns the index keys of an object.
    #[must_use]
    pub fn new(index: fn(&K) -> Vec<String>) -> Self {
        Self {
            inner: RwLock::default(),
            index,
        }
    }

    /// Whether the first list is complete. Before that, an absent object may still exist.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.read(|inner| inner.ready)
    }

    /// The resource, if its first list is not complete.
    pub(super) fn not_listed(&self) -> Option<String> {
        (!self.is_ready()).then(|| K::plural(&()).into_owned())
    }

    /// Applies an event of a watch that may end. `None`: it has ended. What it has shown is then forgotten, since it is outdated when the
    /// next watch begins.
    pub fn follow(&self, event: Option<Event<K>>) -> Vec<Arc<K>>
    where
        K: PartialEq,
    {
        if let Some(event) = event {
            return self.apply(event);
        }
        self.write(|inner| {
            inner.ready = false;
            inner.listing.clear();
            inner.indexed.clear();
            inner.objects.clear();
        });
        Vec::new()
    }

    /// Applies a watch event. Returns the objects that changed or were deleted, in their last known state.
    pub fn apply(&self, event: Event<K>) -> Vec<Arc<K>>
    where
        K: PartialEq,
    {
        match event {
            Event::Init => {
                self.write(|inner| inner.listing.clear());
                Vec::new()
            }
            Event::InitApply(object) => {
                self.write(|inner| inner.listing.push(object));
                Vec::new()
            }
            Event::InitDone => self.replace(),
            Event::Apply(object) => {
                let object = Arc::new(object);
                let old = self.write(|inner| inner.put(&object, self.index));
                std::iter::once(object).chain(old).collect()
            }
            Event::Delete(object) => {
                self.write(|inner| inner.delete(&object, self.index));
                vec![Arc::new(object)]
            }
        }
    }

    /// Replaces all objects by those that were listed, and returns those that differ or are gone. What takes long with many objects is done
    /// while others can read.
    fn replace(&self) -> Vec<Arc<K>>
    where
        K: PartialEq,
    {
        let listed = self.write(|inner| std::mem::take(&mut inner.listing));
        let listed: Vec<Arc<K>> = listed.into_iter().map(Arc::new).collect();
        let mut next = Contents::default();
        for object in &listed {
            next.put(object, self.index);
        }
        let Contents {
            objects, indexed, ..
        } = next;
        let (mut before, _index) = self.write(|inner| {
            inner.ready = true;
            let indexed = std::mem::replace(&mut inner.indexed, indexed);
            (std::mem::replace(&mut inner.objects, objects), indexed)
        });
        // Of the same version, too: other definitions of NIO decode it otherwise.
        let differs = |object: &Arc<K>| before.remove(&key(&**object)).as_ref() != Some(object);
        let mut touched: Vec<Arc<K>> = listed.into_iter().filter(differs).collect();
        touched.extend(before.into_values());
        touched
    }

    /// Stores an object, replacing any other with the same name.
    pub fn put(&self, object: &Arc<K>) {
        self.write(|inner| drop(inner.put(object, self.index)));
    }

    /// Stores an object that the API server returned for a read or a write: the watch may show it only later.
    pub fn saw(&self, object: impl Into<Arc<K>>) {
        let object = object.into();
        self.write(|inner| {
            let gone = object
                .meta()
                .uid
                .as_ref()
                .is_some_and(|uid| inner.gone.contains(uid));
            let newer = !gone
                && inner
                    .objects
                    .get(&key(&*object))
                    .is_none_or(|old| older(version(&**old), version(&*object)));
            if newer {
                inner.put(&object, self.index);
            }
        });
    }

    /// Removes an object that a read has shown to be gone. A new object of the same name stays.
    pub fn miss(&self, object: &K) {
        self.write(|inner| inner.delete(object, self.index));
    }

    /// An object by name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read(|inner| {
            inner
                .objects
                .get(&(namespace.to_owned(), name.to_owned()))
                .cloned()
        })
    }

    /// The objects under an index key.
    #[must_use]
    pub fn find(&self, namespace: &str, index_key: &str) -> Vec<Arc<K>> {
        self.read(|inner| {
            let names = inner
                .indexed
                .get(&(namespace.to_owned(), index_key.to_owned()));
            names
                .into_iter()
                .flatten()
                .filter_map(|name| {
                    inner
                        .objects
                        .get(&(namespace.to_owned(), name.clone()))
                        .cloned()
                })
                .collect()
        })
    }

    /// The objects of a namespace whose labels match. An object whose labels are not all kept never matches.
    #[must_use]
    pub fn matching(&self, namespace: &str, selector: &Selector) -> Vec<Arc<K>> {
        self.read(|inner| {
            let objects = inner.of_namespace(namespace);
            let matches = |object: &&Arc<K>| {
                labels(object.meta()).is_some_and(|labels| selector.matches(labels))
            };
            objects.filter(matches).map(Arc::clone).collect()
        })
    }

    /// Whether a namespace has more than `most` objects.
    #[must_use]
    pub fn holds_more_than(&self, namespace: &str, most: usize) -> bool {
        self.read(|inner| inner.of_namespace(namespace).nth(most).is_some())
    }

    /// How many objects a namespace has.
    #[must_use]
    pub fn count(&self, namespace: &str) -> usize {
        self.read(|inner| inner.of_namespace(namespace).count())
    }

    fn read<T>(&self, read: impl FnOnce(&Contents<K>) -> T) -> T {
        read(
            &self
                .inner
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    fn write<T>(&self, write: impl FnOnce(&mut Contents<K>) -> T) -> T {
        write(
            &mut self
                .inner
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

impl<K: Resource<DynamicType = ()>> Contents<K> {
    fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        let from = (namespace.to_owned(), String::new());
        let objects = self.objects.range(from..);
        objects
            .take_while(move |((of, _), _)| of == namespace)
            .map(|(_, object)| object)
    }

    fn put(&mut self, object: &Arc<K>, index: fn(&K) -> Vec<String>) -> Option<Arc<K>> {
        let key = key(&**object);
        for index_key in index(object) {
            self.indexed
                .entry((key.0.clone(), index_key))
                .or_default()
                .insert(key.1.clone());
        }
        let old = self.objects.insert(key.clone(), Arc::clone(object));
        if let Some(old) = &old {
            let kept = index(object);
            let gone = index(old)
                .into_iter()
                .filter(|index_key| !kept.contains(index_key));
            self.unindex(&key, gone);
        }
        old
    }

    fn delete(&mut self, object: &K, index: fn(&K) -> Vec<String>) {
        self.remove(object, index);
        self.gone.extend(object.meta().uid.clone());
        if self.gone.len() > REMEMBERED_GONE {
            self.gone.pop_front();
        }
    }

    /// Removes an object, unless another one has replaced it.
    fn remove(&mut self, object: &K, index: fn(&K) -> Vec<String>) {
        let key = key(object);
        let same = self
            .objects
            .get(&key)
            .is_some_and(|stored| stored.meta().uid == object.meta().uid);
        if same && let Some(old) = self.objects.remove(&key) {
            self.unindex(&key, index(&old).into_iter());
        }
    }

    fn unindex(
        &mut self,
        (namespace, name): &(String, String),
        index_keys: impl Iterator<Item = String>,
    ) {
        for index_key in index_keys {
            let at = (namespace.clone(), index_key);
            if let Some(names) = self.indexed.get_mut(&at) {
                names.remove(name);
                if names.is_empty() {
                    self.indexed.remove(&at);
                }
            }
        }
    }
}

fn key<K: Resource>(object: &K) -> (String, String) {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

fn version<K: Resource>(object: &K) -> Option<&str> {
    object.meta().resource_version.as_deref()
}

/// Whether a resourceVersion is older than another. Since Kubernetes 1.35 they are comparable as numbers (KEP-5504). If they are not
/// numbers, `this` counts as older.
#[must_use]
pub fn older(this: Option<&str>, that: Option<&str>) -> bool {
    let number = |version: Option<&str>| version.and_then(|version| version.parse::<u128>().ok());
    number(this)
        .zip(number(that))
        .is_none_or(|(this, that)| this < that)
}

#[cfg(test)]
mod tests;
