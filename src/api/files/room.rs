//! The room for whole texts, which namespaces share. One tenant can create hundreds of configurations that are as long as etcd allows, all
//! different. So a namespace has at most half of what the others leave free, and each of them finds room.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Room for texts of all namespaces.
#[derive(Debug)]
pub(super) struct Room {
    /// Bytes of all namespaces.
    most: usize,
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
    pub(super) const fn new(most: usize) -> Self {
        Self {
            most,
            used: Mutex::new(BTreeMap::new()),
        }
    }

    /// Takes room, unless the namespace would have more than half of what the others leave free.
    pub(super) fn take(&'static self, namespace: &str, bytes: usize) -> Option<Place> {
        let mut used = self.used();
        let all: usize = used.values().sum();
        let own = used.get(namespace).copied().unwrap_or_default();
        let free = self.most.saturating_sub(all - own);
        if own + bytes > free / 2 {
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
        static ROOM: Room = Room::new(100);
        let fill = |namespace: &str| -> Vec<Place> {
            let places = std::iter::from_fn(|| ROOM.take(namespace, 1));
            places.take(200).collect()
        };
        let (greedy, other) = (fill("greedy"), fill("other"));
        assert_eq!((greedy.len(), other.len()), (50, 25));
        let more: Vec<_> = (0..50).map(|n| fill(&n.to_string())).collect();
        let all: usize = more.iter().map(Vec::len).sum();
        assert!(all <= 25, "{all}");
        drop((greedy, more));
        assert_eq!(fill("other").len(), 25, "what is dropped is free again");
        drop(other);
        assert!(ROOM.used().is_empty());
    }
}
