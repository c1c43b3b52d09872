//! Locks of what all passes share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks what a panic of another pass leaves as right as it was.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
