//! Locking for state that tasks share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, even if another task panicked while it held the lock. Use it only for state that a panic leaves consistent.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
