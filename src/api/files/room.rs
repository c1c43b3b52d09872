//! The room for texts, which namespaces share. NICO keeps the texts of all configurations of clusters. One tenant can create hundreds that
//! are as long as etcd allows, all different, so what a namespace may keep depends on what the others keep.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Room for texts of all namespaces.
#[derive(Debug)]
pub(super) struct Room {
    /// Bytes that a namespace may use while there is room.
    most: usize,
    /// Bytes that each namespace may use, whatever the others use.
    least: usize,
    /// Bytes in use, by namespace.
    used: Mutex<BTreeMap<String, usize>>,
}

/// A part of the room, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: &'static Room,
    namespace: String,
    bytes: usize,
}

impl Room {
    pub(super) const fn new(most: usize, least: usize) -> Self {
        Self {
            most,
            least,
            used: Mutex::new(BTreeMap::new()),
        }
    }

    /// Takes room, unless all of it is in use and the namespace would have more than an equal share.
    pub(super) fn take(&'static self, namespace: &str, bytes: usize) -> Option<Place> {
        let mut used = self.used();
        let all: usize = used.values().sum();
        let own = used.get(namespace).copied().unwrap_or_default();
        let others = used.len() - usize::from(own > 0);
        let share = (self.most / (others + 1)).max(self.least);
        if all + bytes > self.most && own + bytes > share {
            return None;
        }
        *used.entry(namespace.to_owned()).or_default() += bytes;
        Some(Place {
            room: self,
            namespace: namespace.to_owned(),
            bytes,
        })
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut used = self.room.used();
        if let Some(bytes) = used.get_mut(&self.namespace) {
            *bytes = bytes.saturating_sub(self.bytes);
            if *bytes == 0 {
                used.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_namespace_leaves_room_for_others() {
        static ROOM: Room = Room::new(100, 10);
        let take = |namespace: &str, bytes: usize| ROOM.take(namespace, bytes);
        let greedy: Vec<_> = (0..200).filter_map(|_| take("greedy", 1)).collect();
        assert_eq!(greedy.len(), 100, "all of it, while nobody else wants it");
        let other: Vec<_> = (0..200).filter_map(|_| take("other", 1)).collect();
        assert_eq!(other.len(), 50, "half of it");
        let small: Vec<_> = (0..18).map(|n| take(&n.to_string(), 5)).collect();
        assert!(small.iter().all(Option::is_some));
        assert!(take("other", 1).is_none());
        assert!(take("last", 10).is_some(), "however many there are");
        drop((greedy, small));
        assert!(take("other", 1).is_some(), "what is dropped is free again");
        drop(other);
        assert!(ROOM.used().is_empty());
    }
}
