//! Detection of `fork`. A forked child has a copy of every handle, but neither the threads that
//! serve them nor the right to write to their spools; locks may be copied while they are held.
//!
//! The hook that runs in the child does two things that are allowed there: it increments a
//! number, and closes the descriptors of locks, because a lock is held until every copy of its
//! descriptor is closed. Handles compare the number with theirs at every call.

#![expect(unsafe_code, reason = "the operating system calls the hook")]

use std::{
    fs::File,
    sync::atomic::{AtomicU64, Ordering},
};

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Number of forks between this process and the process that first used this library.
#[inline]
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Makes sure that forks are noticed from now on.
pub(crate) fn watch() {
    hook::install();
}

/// A file whose descriptor a forked child closes.
pub(crate) struct ProcessLocal {
    file: Option<File>,
    generation: u64,
}

impl ProcessLocal {
    pub(crate) fn new(file: File) -> Self {
        watch();
        hook::register(&file);
        Self { file: Some(file), generation: generation() }
    }
}

impl Drop for ProcessLocal {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        if self.generation == generation() {
            hook::unregister(&file);
        } else {
            // The hook has closed the descriptor, whose number may belong to another file by now.
            std::mem::forget(file);
        }
    }
}

#[cfg(unix)]
mod hook {
    use std::{
        fs::File,
        iter,
        os::fd::AsRawFd,
        sync::atomic::{AtomicBool, AtomicI32, Ordering},
    };

    use once_cell::race::OnceBox;

    use super::GENERATION;

    const SLOTS: usize = 1024;
    const FREE: i32 = -1;

    /// Descriptors that the hook closes. More than fit follow in another list, which is never freed.
    struct Descriptors {
        slots: [AtomicI32; SLOTS],
        next: OnceBox<Descriptors>,
    }

    impl Descriptors {
        const fn new() -> Self {
            Self { slots: [const { AtomicI32::new(FREE) }; SLOTS], next: OnceBox::new() }
        }

        fn all(&self) -> impl Iterator<Item = &AtomicI32> {
            iter::successors(Some(self), |list| list.next.get()).flat_map(|list| &list.slots)
        }
    }

    static DESCRIPTORS: Descriptors = Descriptors::new();
    static INSTALLED: AtomicBool = AtomicBool::new(false);

    extern "C" fn run_in_child() {
        GENERATION.fetch_add(1, Ordering::SeqCst);
        for slot in DESCRIPTORS.all() {
            let descriptor = slot.swap(FREE, Ordering::SeqCst);
            if descriptor != FREE {
                // SAFETY: the descriptor was open at the fork, and `ProcessLocal` forgets it in the
                // child. `close` is safe to call after a fork.
                unsafe { libc::close(descriptor) };
            }
        }
    }

    pub(super) fn install() {
        if !INSTALLED.swap(true, Ordering::SeqCst) {
            // SAFETY: the hook is a function that lives as long as the program, and does only what
            // is allowed after a fork. If memory for it is exhausted, forks go unnoticed.
            unsafe { libc::pthread_atfork(None, None, Some(run_in_child)) };
        }
    }

    pub(super) fn register(file: &File) {
        let mut list = &DESCRIPTORS;
        while !replace(list.slots.iter(), FREE, file.as_raw_fd()) {
            list = list.next.get_or_init(|| Box::new(Descriptors::new()));
        }
    }

    pub(super) fn unregister(file: &File) {
        let is_found = replace(DESCRIPTORS.all(), file.as_raw_fd(), FREE);
        debug_assert!(is_found, "it was registered");
    }

    fn replace<'s>(mut slots: impl Iterator<Item = &'s AtomicI32>, old: i32, new: i32) -> bool {
        slots.any(|slot| slot.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn all_descriptors_are_kept() {
            let list = Descriptors::new();
            list.next.get_or_init(|| Box::new(Descriptors::new()));
            let free = list.all().count();
            assert_eq!(free, 2 * SLOTS);
            for number in 0..free {
                assert!(replace(list.all(), FREE, i32::try_from(number).expect("it is small")));
            }
            assert!(!replace(list.all(), FREE, 0), "the next one needs another list");
            assert!(replace(list.all(), 1_500, FREE));
        }
    }
}

#[cfg(not(unix))]
mod hook {
    use std::fs::File;

    pub(super) fn install() {}
    pub(super) fn register(_: &File) {}
    pub(super) fn unregister(_: &File) {}
}
