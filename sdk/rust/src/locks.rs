//! Locks. A lock that a panicking thread held stays usable: every critical section leaves its data
//! consistent.
//!
//! They are the standard library's, unlike the server's: all waiting threads of `parking_lot` are in one
//! table of the process, which a forked child may find locked by a thread that the child does not have.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for a lock.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
