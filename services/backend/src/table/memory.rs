//! The memory of all tables, which is counted before it is taken.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use prometheus::IntGauge;

pub(super) struct TableMemory {
    limit: usize,
    reserved: AtomicUsize,
    shown: IntGauge,
}

/// A share of the memory, returned when this is dropped.
pub(super) struct Reservation {
    memory: Arc<TableMemory>,
    bytes: usize,
}

/// Upper bound of the memory that a vector takes in addition while more items are added.
pub(super) fn vec_growth<T>(items: &Vec<T>, more: usize) -> usize {
    let needed = items.len() + more;
    // The capacity is doubled, and at least eight.
    if needed > items.capacity() { (2 * needed).max(8) * size_of::<T>() } else { 0 }
}

impl TableMemory {
    /// `shown` is kept equal to the reserved bytes.
    pub(super) fn new(limit: usize, shown: IntGauge) -> Self {
        Self { limit, reserved: AtomicUsize::new(0), shown }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation { memory: self.clone(), bytes: 0 }
    }
}

impl Reservation {
    /// Changes the size of the share, if there is room for it. Returns whether there is.
    #[must_use]
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        let TableMemory { limit, reserved, shown } = &*self.memory;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let add = |reserved: usize| reserved.checked_add(more).filter(|sum| sum <= limit);
            if reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
                return false;
            }
        } else {
            reserved.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
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
        let (mut first, mut second) = (memory.reservation(), memory.reservation());
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
}
