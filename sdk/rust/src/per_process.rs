//! A value that every process makes for itself, also after a fork.

use once_cell::race::OnceBox;

use crate::sys::fork;

/// A chain with one value for each generation of processes that used it.
///
/// Nothing here waits: a lock that another thread held during the fork would never be released in
/// the child. If two threads make the value at the same time, one of the two values is dropped. What
/// a process has inherited is leaked, because its threads are missing and its files belong to the
/// parent.
pub(crate) struct PerProcess<T> {
    own: OnceBox<ProcessValue<T>>,
    next: OnceBox<PerProcess<T>>,
}

struct ProcessValue<T> {
    generation: u64,
    /// Taken only on drop.
    value: Option<T>,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self { own: OnceBox::new(), next: OnceBox::new() }
    }

    /// Returns the value of this process, and makes it if there is none that `is_usable`.
    #[inline]
    pub(crate) fn get_or_make(&self, is_usable: impl Fn(&T) -> bool, make: impl Fn() -> T) -> &T {
        let generation = fork::generation();
        let mut link = self;
        loop {
            let owned = link.own.get_or_init(|| {
                fork::watch();
                Box::new(ProcessValue { generation, value: Some(make()) })
            });
            if owned.generation == generation
                && let Some(value) = owned.value.as_ref().filter(|value| is_usable(value))
            {
                return value;
            }
            link = link.next.get_or_init(|| Box::new(Self::new()));
        }
    }

    /// Returns the newest value of this process if it has made one.
    pub(crate) fn get(&self) -> Option<&T> {
        let generation = fork::generation();
        let mut newest = None;
        let mut link = Some(self);
        while let Some(current) = link {
            let owned = current.own.get().filter(|owned| owned.generation == generation);
            newest = owned.and_then(|owned| owned.value.as_ref()).or(newest);
            link = current.next.get();
        }
        newest
    }
}

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for ProcessValue<T> {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            std::mem::forget(self.value.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_and_again_when_it_is_used_up() {
        let values = PerProcess::new();
        assert!(values.get().is_none());
        assert_eq!(values.get_or_make(|_| true, || 1), &1);
        assert_eq!(values.get_or_make(|_| true, || 2), &1);
        assert_eq!(values.get_or_make(|value| *value != 1, || 2), &2);
        assert_eq!(values.get(), Some(&2));
    }
}
