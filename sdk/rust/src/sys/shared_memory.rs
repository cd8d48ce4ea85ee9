//! Numbers that a process shares with the children that it forks.

#![expect(unsafe_code, reason = "memory that survives a fork as shared is mapped through libc")]

use std::{ptr::NonNull, sync::atomic::AtomicI64};

/// Atomic numbers in memory that is the same in forked children.
pub(crate) struct SharedNumbers<const N: usize> {
    numbers: NonNull<[AtomicI64; N]>,
    /// Whether it is a mapping: without memory for one, children have copies.
    is_mapped: bool,
}

// SAFETY: the memory belongs to this value, and holds nothing but atomic numbers.
unsafe impl<const N: usize> Send for SharedNumbers<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for SharedNumbers<N> {}

impl<const N: usize> SharedNumbers<N> {
    pub(crate) fn new(values: [i64; N]) -> Self {
        let values = values.map(AtomicI64::new);
        match map::<[AtomicI64; N]>() {
            Some(numbers) => {
                // SAFETY: the mapping is writable, at least as large as the array, and aligned to a
                // page. Nothing else refers to it yet.
                unsafe { numbers.write(values) };
                Self { numbers, is_mapped: true }
            }
            None => Self { numbers: NonNull::from(Box::leak(Box::new(values))), is_mapped: false },
        }
    }

    pub(crate) fn get(&self, index: usize) -> &AtomicI64 {
        // SAFETY: the memory is initialized, and lives as long as `self`.
        let numbers = unsafe { self.numbers.as_ref() };
        &numbers[index]
    }
}

impl<const N: usize> Drop for SharedNumbers<N> {
    fn drop(&mut self) {
        if self.is_mapped {
            unmap(self.numbers);
        } else {
            // SAFETY: the memory comes from a box, and nothing refers to it any more.
            drop(unsafe { Box::from_raw(self.numbers.as_ptr()) });
        }
    }
}

#[cfg(unix)]
fn map<T>() -> Option<NonNull<T>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: the system chooses an address that is not in use.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<T>(), protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED { None } else { NonNull::new(memory.cast()) }
}

#[cfg(unix)]
fn unmap<T>(memory: NonNull<T>) {
    // SAFETY: it was mapped with this size, and nothing refers to it any more.
    unsafe { libc::munmap(memory.as_ptr().cast(), size_of::<T>()) };
}

#[cfg(not(unix))]
fn map<T>() -> Option<NonNull<T>> {
    None
}

#[cfg(not(unix))]
fn unmap<T>(_: NonNull<T>) {}
