//! The memory of all tables, which is counted before it is taken.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use prometheus::IntGauge;
use tokio::{
    runtime::Handle,
    sync::{Notify, futures::Notified},
};

pub(super) struct TableMemory {
    limit: usize,
    reserved: AtomicUsize,
    shown: IntGauge,
    /// Wakes requests that wait for memory.
    freed: Notify,
}

/// A share of the memory, returned when this is dropped.
pub(super) struct Reservation {
    memory: Arc<TableMemory>,
    bytes: usize,
}

/// Wakes requests that wait for memory, because a table may now be idle.
pub(super) struct WakeOnDrop(Arc<TableMemory>);

/// Values with memory of their own. An async task leaves freeing them to the blocking pool, because
/// there may be millions. They count as freed at once.
#[derive(Default)]
pub(super) struct ManyValues<T: Send + 'static>(Vec<T>);

/// Capacity of a vector that grows to this length: a sixteenth more, so that a large one is not
/// copied for each item.
pub(super) fn grown_capacity(len: usize) -> usize {
    len + (len / 16).max(8)
}

/// Makes room for more items.
pub(super) fn grow<T>(items: &mut Vec<T>, more: usize) {
    let needed = items.len() + more;
    if needed > items.capacity() {
        items.reserve_exact(grown_capacity(needed) - items.len());
    }
}

/// Upper bound of the memory that a vector takes in addition while it grows by more items.
pub(super) fn vec_growth<T>(items: &Vec<T>, more: usize) -> usize {
    let needed = items.len() + more;
    // While it is copied, both copies are in memory.
    if needed > items.capacity() { grown_capacity(needed) * size_of::<T>() } else { 0 }
}

impl TableMemory {
    /// `shown` is kept equal to the reserved bytes.
    pub(super) fn new(limit: usize, shown: IntGauge) -> Self {
        Self { limit, reserved: AtomicUsize::new(0), shown, freed: Notify::new() }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation { memory: self.clone(), bytes: 0 }
    }

    /// Ready once memory is freed or a table may be idle, if that happens after the call.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    pub(super) fn wake_on_drop(self: &Arc<Self>) -> WakeOnDrop {
        WakeOnDrop(self.clone())
    }
}

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.freed.notify_waiters();
    }
}

impl<T: Send + 'static> ManyValues<T> {
    pub(super) fn new(values: Vec<T>) -> Self {
        Self(values)
    }
}

impl<T: Send + 'static> Deref for ManyValues<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: Send + 'static> DerefMut for ManyValues<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T: Send + 'static> Drop for ManyValues<T> {
    fn drop(&mut self) {
        // The threads that evaluate queries have no runtime, and free the values themselves.
        if !self.0.is_empty()
            && let Ok(runtime) = Handle::try_current()
        {
            let values = std::mem::take(&mut self.0);
            runtime.spawn_blocking(move || drop(values));
        }
    }
}

impl Reservation {
    /// Changes the size of the share, if there is room for it. Returns whether there is.
    #[must_use]
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        let TableMemory { limit, reserved, shown, freed } = &*self.memory;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let add = |reserved: usize| reserved.checked_add(more).filter(|sum| sum <= limit);
            if reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
                return false;
            }
        } else {
            reserved.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            freed.notify_waiters();
        }
        shown.add(bytes as i64 - self.bytes as i64);
        self.bytes = bytes;
        true
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the share smaller.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let is_smaller = self.resize(bytes.min(self.bytes));
        debug_assert!(is_smaller, "less memory is always free");
    }

    /// Takes over another share.
    pub(super) fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_limit_together() {
        let shown = IntGauge::new("shown", "shown").unwrap();
        let memory = Arc::new(TableMemory::new(100, shown.clone()));
        let mut first = memory.reservation();
        let mut second = memory.reservation();
        assert!(first.resize(60) && !second.resize(41) && second.resize(40));
        assert!(!first.resize(61) && !first.resize(usize::MAX));
        first.shrink(10);
        assert!(second.resize(90) && !second.resize(91));
        first.merge(second);
        assert_eq!(shown.get(), 100);
        assert!(first.resize(100) && !memory.reservation().resize(1));
        drop(first);
        assert_eq!((memory.reserved.load(Ordering::Relaxed), shown.get()), (0, 0));
    }

    #[test]
    fn large_vectors_do_not_double() {
        for len in [0, 1, 100, 10_000] {
            let mut items = vec![0_u64; len];
            items.shrink_to_fit();
            let bound = vec_growth(&items, 1);
            grow(&mut items, 1);
            items.push(0);
            let bytes = items.capacity() * size_of::<u64>();
            assert!(bytes <= bound && items.capacity() <= len + 1 + (len / 16).max(8), "{len}: {bytes}");
        }
    }

    #[tokio::test]
    async fn tasks_do_not_free_many_values() {
        struct Value(std::sync::mpsc::Sender<std::thread::ThreadId>);

        impl Drop for Value {
            fn drop(&mut self) {
                self.0.send(std::thread::current().id()).unwrap();
            }
        }

        let (sender, freed_by) = std::sync::mpsc::channel();
        drop(ManyValues::new(vec![Value(sender.clone()), Value(sender)]));
        let threads = tokio::task::spawn_blocking(move || freed_by.iter().collect::<Vec<_>>()).await.unwrap();
        assert_eq!(threads.len(), 2);
        assert!(!threads.contains(&std::thread::current().id()));
    }
}
