//! Workload API servers for one world at a time: a few for each process, started on demand and reused when a world ends.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the rig stops with a sentence where it cannot go on"
)]

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Workload;
use crate::runtime;

/// How many may run: each needs half a gigabyte.
const SEATS: usize = 6;

static FREE_SEATS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(SEATS)));
static IDLE: Mutex<Vec<Arc<Workload>>> = Mutex::new(Vec::new());

/// A workload API server for exclusive use, without Nodes at first. Dropping this returns it.
pub struct Lease {
    workload: Arc<Workload>,
    // Released after `drop` has returned the server, so that the next holder of the seat finds it.
    _seat: OwnedSemaphorePermit,
}

impl Lease {
    /// Waits until one is free. Take at most one in each test: two tests that each wait for a second one could deadlock.
    pub async fn take() -> Self {
        let seats = Arc::clone(&FREE_SEATS);
        let seat = seats
            .acquire_owned()
            .await
            .expect("the seats are never closed");
        let idle = idle(Vec::pop);
        let workload = match idle {
            Some(workload) => workload,
            None => runtime()
                .spawn(async { Arc::new(Workload::start().await) })
                .await
                .expect("a workload's start does not panic"),
        };
        workload
            .clear()
            .await
            .expect("the last world's objects can be deleted");
        Self {
            workload,
            _seat: seat,
        }
    }

    /// The API server.
    #[must_use]
    pub fn workload(&self) -> Arc<Workload> {
        Arc::clone(&self.workload)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        idle(|idle| idle.push(Arc::clone(&self.workload)));
    }
}

fn idle<T>(use_it: impl FnOnce(&mut Vec<Arc<Workload>>) -> T) -> T {
    use_it(&mut IDLE.lock().unwrap_or_else(PoisonError::into_inner))
}
