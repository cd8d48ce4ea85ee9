//! The priority of queries, by the processor time that others leave them.
//!
//! The threads of queries have a low priority, so that acknowledgements do not wait for them. But the priority
//! counts against every program of the same session, control group or container: next to a training script that
//! keeps all cores busy, a query would get a seventieth of a core, and a search of 100 ms would take 7 s. So the
//! threads measure how long they run, and how long they are ready to run but wait for a core. If they
//! mostly wait, and not for other threads of the server, some threads of a higher
//! priority take over until there is room again. While they get enough, threads that only run on idle cores take over:
//! acknowledgements wait for these even less.
//!
//! The kernel's own figure of the wait is used, because a slice may also wait for a disk, which no priority
//! makes faster. On a system without this figure, the priority stays low.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::priority::Priority;

/// Least time over which the share is measured.
const WINDOW: Duration = Duration::from_millis(200);

/// Least time that the threads must have wanted a core meanwhile.
const WANTED: Duration = Duration::from_millis(20);

/// The share is small if the threads get less than this part of the time that they want. With a low priority,
/// that is one busy thread of another program on each core.
const SMALL_PART: u32 = 10;

/// The priority stays raised while its threads wait for this part of the time that they want.
/// Next to one busy thread of another program on each core, they wait three quarters of that time.
const WAITING_PART: u32 = 4;

/// The other threads of the server count as busy from this part of all cores on (a quarter): the threads of
/// queries would delay them.
const BUSY_PART: u32 = 4;

/// How long a thread has run, and waited for a core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ThreadTimes {
    ran: Duration,
    waited: Duration,
}

impl ThreadTimes {
    /// Parses `/proc/thread-self/schedstat`: nanoseconds of both, and a number of turns.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut numbers = std::str::from_utf8(text).ok()?.split_ascii_whitespace().map(str::parse);
        let ran = Duration::from_nanos(numbers.next()?.ok()?);
        let waited = Duration::from_nanos(numbers.next()?.ok()?);
        Some(Self { ran, waited })
    }

    fn since(self, earlier: Self) -> Self {
        Self { ran: self.ran.saturating_sub(earlier.ran), waited: self.waited.saturating_sub(earlier.waited) }
    }
}

/// Reads the times of the thread that has opened it.
pub(super) struct ThreadClock {
    file: Option<File>,
    last: ThreadTimes,
}

impl ThreadClock {
    /// Opens the clock of the current thread.
    pub(super) fn open() -> Self {
        // Other systems have no such file.
        let file = File::open("/proc/thread-self/schedstat").ok();
        let mut clock = Self { file, last: ThreadTimes::default() };
        clock.lap();
        clock
    }

    /// The times since the last call, if the system has them.
    fn lap(&mut self) -> Option<ThreadTimes> {
        let times = self.read()?;
        let lap = times.since(self.last);
        self.last = times;
        Some(lap)
    }

    #[cfg(unix)]
    fn read(&self) -> Option<ThreadTimes> {
        use std::os::unix::fs::FileExt;

        // Three numbers of at most 20 digits.
        let mut text = [0; 64];
        let read = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        ThreadTimes::parse(&text[..read])
    }

    #[cfg(not(unix))]
    fn read(&self) -> Option<ThreadTimes> {
        self.file.as_ref().and(None)
    }
}

/// The share of the processor that the threads of queries get, which decides on their priority.
pub(super) struct CpuShare {
    cores: u32,
    window: Mutex<Window>,
    changes: Notify,
}

/// The time over which the share is being measured.
struct Window {
    began: Instant,
    /// Time that the process had used at the beginning.
    process: Duration,
    queries: ThreadTimes,
    /// Number of slices in progress.
    slices: usize,
    /// The priority of the next slice.
    priority: Priority,
}

/// Measurements of a window.
struct Usage {
    elapsed: Duration,
    process: Duration,
    queries: ThreadTimes,
}

impl CpuShare {
    pub(super) fn new(cores: usize) -> Self {
        let window = Window {
            began: Instant::now(),
            process: process_time(),
            queries: ThreadTimes::default(),
            slices: 0,
            priority: Priority::Low,
        };
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        Self { cores, window: Mutex::new(window), changes: Notify::new() }
    }

    /// The priority of the next slice.
    pub(super) fn priority(&self) -> Priority {
        let mut window = self.window.lock();
        let has_changed = window.end_pause();
        let priority = window.priority;
        drop(window);
        if has_changed {
            self.changes.notify_waiters();
        }
        priority
    }

    /// Waits for a change of the priority after this call.
    pub(super) fn changed(&self) -> impl Future<Output = ()> {
        self.changes.notified()
    }

    #[cfg(test)]
    pub(super) fn set_priority(&self, priority: Priority) {
        let mut window = self.window.lock();
        window.restart();
        window.priority = priority;
        drop(window);
        self.changes.notify_waiters();
    }

    /// Runs a slice of work, and measures the CPU time of its thread. A panic that the work does not catch itself ends here,
    /// so that the thread goes on, and the slice does not count as in progress forever.
    pub(super) fn measure(&self, clock: &mut ThreadClock, work: impl FnOnce()) {
        self.begin_slice();
        // The panic hook has reported the panic already.
        drop(catch_unwind(AssertUnwindSafe(work)));
        self.end_slice(clock.lap().unwrap_or_default());
    }

    fn begin_slice(&self) {
        let mut window = self.window.lock();
        let has_changed = window.end_pause();
        window.slices += 1;
        drop(window);
        if has_changed {
            self.changes.notify_waiters();
        }
    }

    fn end_slice(&self, times: ThreadTimes) {
        let mut window = self.window.lock();
        window.slices -= 1;
        window.queries.ran += times.ran;
        window.queries.waited += times.waited;
        let wanted = window.queries.ran + window.queries.waited;
        let elapsed = window.began.elapsed();
        if elapsed < WINDOW || wanted < WANTED {
            return;
        }
        let process = process_time().saturating_sub(window.process);
        let usage = Usage { elapsed, process, queries: window.queries };
        window.restart();
        let priority = usage.priority(window.priority, self.cores);
        let has_changed = std::mem::replace(&mut window.priority, priority) != priority;
        // Others would wait for a thread that has no core while it holds the lock.
        drop(window);
        if has_changed {
            self.changes.notify_waiters();
            tracing::debug!(?priority, "the priority of queries has changed");
        }
    }
}

impl Window {
    /// Begins anew after a time without work, which says nothing. Another program may fill the cores by now.
    /// Returns whether the priority has changed.
    fn end_pause(&mut self) -> bool {
        if self.slices > 0 || self.began.elapsed() <= WINDOW {
            return false;
        }
        self.restart();
        let was_on_idle_cores = self.priority == Priority::IdleCores;
        if was_on_idle_cores {
            self.priority = Priority::Low;
        }
        was_on_idle_cores
    }

    fn restart(&mut self) {
        self.began = Instant::now();
        self.process = process_time();
        self.queries = ThreadTimes::default();
    }
}

impl Usage {
    /// The priority after the window, whose slices had the priority `was`.
    fn priority(&self, was: Priority, cores: u32) -> Priority {
        let ThreadTimes { ran, waited } = self.queries;
        let wanted = ran + waited;
        let is_small = ran < wanted / SMALL_PART;
        let other_threads = self.process.saturating_sub(ran);
        let is_server_busy = other_threads * BUSY_PART >= self.elapsed * cores;
        match was {
            Priority::Raised if !is_server_busy && waited >= wanted / WAITING_PART => Priority::Raised,
            Priority::Raised => Priority::Low,
            Priority::IdleCores | Priority::Low if !is_small => Priority::IdleCores,
            Priority::IdleCores | Priority::Low if is_server_busy => Priority::Low,
            Priority::IdleCores | Priority::Low => Priority::Raised,
        }
    }
}

/// Time of all cores that the process has used.
#[cfg(unix)]
fn process_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("a process uses no negative time")
}

#[cfg(not(unix))]
fn process_time() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn times_are_parsed() {
        let times = ThreadTimes { ran: Duration::from_nanos(114_631_509), waited: Duration::from_nanos(7) };
        assert_eq!(ThreadTimes::parse(b"114631509 7 64\n"), Some(times));
        for text in ["", "1", "1 x", "-1 2 3", "1.5 2 3"] {
            assert_eq!(ThreadTimes::parse(text.as_bytes()), None, "{text}");
        }
    }

    /// The priority after a second on four cores. The numbers are the milliseconds for which
    /// queries ran, for which they waited, and which other threads of the server used.
    fn priority(was: Priority, ran: u64, waited: u64, other_threads: u64) -> Priority {
        let queries = ThreadTimes { ran: MS(ran), waited: MS(waited) };
        Usage { elapsed: MS(1_000), process: MS(ran + other_threads), queries }.priority(was, 4)
    }

    #[test]
    fn rule_130_queries_that_other_programs_starve_get_a_share() {
        for was in [Priority::IdleCores, Priority::Low] {
            assert_eq!(priority(was, 14, 986, 0), Priority::Raised);
            assert_eq!(priority(was, 14, 986, 900), Priority::Raised);
            assert_eq!(priority(was, 14, 986, 1_000), Priority::Low, "they would delay ingestion");
        }
    }

    #[test]
    fn rule_130_queries_use_idle_cores_while_these_suffice() {
        for was in [Priority::IdleCores, Priority::Low] {
            assert_eq!(priority(was, 300, 700, 0), Priority::IdleCores);
            assert_eq!(priority(was, 300, 700, 2_000), Priority::IdleCores);
        }
    }

    #[test]
    fn rule_130_a_low_priority_returns_when_there_is_room() {
        let raised = Priority::Raised;
        assert_eq!(priority(raised, 250, 750, 0), raised, "the other program goes on");
        assert_eq!(priority(raised, 700, 300, 0), raised);
        assert_eq!(priority(raised, 900, 100, 0), Priority::Low, "it has ended");
        assert_eq!(priority(raised, 250, 750, 1_000), Priority::Low, "ingestion has begun");
    }

    #[test]
    fn a_slice_that_panics_is_no_longer_in_progress() {
        let share = CpuShare::new(1);
        share.measure(&mut ThreadClock::open(), || panic!("on purpose"));
        assert_eq!(share.window.lock().slices, 0);
    }

    #[test]
    fn a_time_without_work_is_not_measured() {
        let share = CpuShare::new(4);
        let times = ThreadTimes { ran: MS(1), waited: MS(999) };
        share.begin_slice();
        share.window.lock().began -= WINDOW;
        share.end_slice(times);
        assert_eq!(share.priority(), Priority::Raised);

        share.set_priority(Priority::IdleCores);
        share.window.lock().began -= 2 * WINDOW;
        assert_eq!(share.priority(), Priority::Low, "another program may have begun");
        assert!(share.window.lock().began.elapsed() < WINDOW, "the window has begun again");
        share.begin_slice();
        share.end_slice(ThreadTimes::default());
        assert_eq!(share.priority(), Priority::Low);
    }
}
