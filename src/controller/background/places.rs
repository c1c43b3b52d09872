//! Places for what machines and clusters can make slow. There are few in all, and fewer for each namespace: one tenant, however many
//! clusters it has, leaves room to others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::controller::lock::lock;

/// The part of all places that a namespace may hold at a time.
const SHARE: usize = 4;

/// Some places. Who waits is served in the order in which it came.
pub(super) struct Places {
    all: Semaphore,
    share: usize,
    of_namespace: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
pub(super) struct Place<'a> {
    _of_namespace: Option<OwnedSemaphorePermit>,
    _of_all: Option<SemaphorePermit<'a>>,
}

impl Places {
    /// So many places in all.
    pub(super) fn new(all: usize) -> Self {
        Self {
            all: Semaphore::new(all),
            share: (all / SHARE).max(1),
            of_namespace: Mutex::default(),
        }
    }

    /// Waits for a place. Neither semaphore is ever closed.
    pub(super) async fn take(&self, namespace: &str) -> Place<'_> {
        let own = {
            let mut known = lock(&self.of_namespace);
            // Whoever holds a place or waits for one keeps its semaphore.
            known.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            let new = || Arc::new(Semaphore::new(self.share));
            Arc::clone(known.entry(namespace.to_owned()).or_insert_with(new))
        };
        Place {
            _of_namespace: own.acquire_owned().await.ok(),
            _of_all: self.all.acquire().await.ok(),
        }
    }
}
