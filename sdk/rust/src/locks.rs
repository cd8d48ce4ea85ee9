//! Locks. One that a panicking thread held is used on: every critical section leaves its data
//! consistent.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for a lock.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
