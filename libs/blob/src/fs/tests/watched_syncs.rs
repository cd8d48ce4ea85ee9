//! Syncs of a directory and of everything in it. A test sees them, and may hold them as a slow disk would.
//!
//! This program replaces the two functions of the C library by which files are synced.

#![expect(unsafe_code, reason = "functions of the C library are replaced")]

use std::ffi::c_int;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

static WATCHES: Mutex<Vec<Arc<Watch>>> = Mutex::new(Vec::new());

#[unsafe(no_mangle)]
extern "C" fn fsync(descriptor: c_int) -> c_int {
    sync(descriptor)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    sync(descriptor)
}

fn sync(descriptor: c_int) -> c_int {
    // SAFETY: the caller keeps its descriptor open during the call.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let path = fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).unwrap();
    let watches = WATCHES.lock().unwrap().clone();
    for watch in watches.iter().filter(|watch| path.starts_with(&watch.directory)) {
        watch.pass(&path);
    }
    if rustix::fs::fsync(descriptor).is_ok() { 0 } else { -1 }
}

/// A sync that has begun.
#[derive(Debug)]
pub(super) struct Sync {
    pub(super) path: PathBuf,
    /// Name of the thread that syncs.
    pub(super) thread: String,
    /// Number of the syncs of the directory that have begun and not ended, this one included.
    pub(super) running: usize,
}

/// The syncs of a directory, until this is dropped, which ends all that are held.
pub(super) struct WatchedSyncs {
    watch: Arc<Watch>,
    begun: UnboundedReceiver<Sync>,
}

struct Watch {
    directory: PathBuf,
    begun: UnboundedSender<Sync>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    is_held: bool,
}

impl WatchedSyncs {
    pub(super) fn new(directory: &Path) -> Self {
        let (sender, begun) = unbounded_channel();
        let watch = Watch {
            directory: directory.canonicalize().unwrap(),
            begun: sender,
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        let watch = Arc::new(watch);
        WATCHES.lock().unwrap().push(watch.clone());
        Self { watch, begun }
    }

    /// Lets no sync end before `release`.
    pub(super) fn hold(&self) {
        self.watch.set_held(true);
    }

    pub(super) fn release(&self) {
        self.watch.set_held(false);
    }

    /// Returns the next sync. Cancel-safe.
    pub(super) async fn next(&mut self) -> Sync {
        self.begun.recv().await.expect("the watch has a sender")
    }

    /// Returns the syncs that have begun and were not returned before.
    pub(super) fn take(&mut self) -> Vec<Sync> {
        std::iter::from_fn(|| self.begun.try_recv().ok()).collect()
    }
}

impl Drop for WatchedSyncs {
    fn drop(&mut self) {
        WATCHES.lock().unwrap().retain(|watch| !Arc::ptr_eq(watch, &self.watch));
        self.release();
    }
}

impl Watch {
    fn set_held(&self, is_held: bool) {
        self.state.lock().unwrap().is_held = is_held;
        self.changed.notify_all();
    }

    fn pass(&self, path: &Path) {
        let mut state = self.state.lock().unwrap();
        state.running += 1;
        let thread = thread::current().name().unwrap_or_default().to_owned();
        let sync = Sync { path: path.to_owned(), thread, running: state.running };
        // A test that has ended sees no more syncs.
        drop(self.begun.send(sync));
        while state.is_held {
            state = self.changed.wait(state).unwrap();
        }
        state.running -= 1;
    }
}
