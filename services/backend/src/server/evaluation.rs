//! The threads that evaluate queries and decode points: few, and of a low priority, so that neither
//! ingestion nor other reads wait for them. Work comes in slices of some milliseconds. Between two slices, other
//! searches have their turn, starting with the search that has used the least time, and a search ends if its client has
//! left.

mod cpu_share;
mod page_room;
mod priority;
mod priority_threads;
mod search_time;
mod slice_threads;
mod turns;

use std::{
    io,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    thread,
    time::Duration,
};

use prometheus::IntCounter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, oneshot};

use self::{
    cpu_share::{CpuShare, ThreadClock},
    priority::Priority,
    priority_threads::PriorityThreads,
    slice_threads::{SliceThreads, finished},
};
pub(crate) use self::{page_room::PageRoom, search_time::SearchTime, slice_threads::let_others_run};
use super::error::{Error, Result};

/// Steps of the query language in a slice: about 10 ms if they are simple, and at most 50 ms. The last run of a slice
/// may add 100 ms.
pub(crate) const SLICE_STEPS: u64 = 500_000;

/// Verdicts in a slice, for queries that take next to no steps.
pub(crate) const SLICE_VERDICTS: u64 = 20_000;

/// Pages of documents in memory for each thread, over all searches: each has up to 4 MiB, and as much of params. As
/// many pages that were read ahead, without large params, wait until their searches have sent the page before.
const PAGES_OF_THREAD: usize = 4;

/// Bounds of the number of pages in memory. The same number may be read ahead.
const PAGES: RangeInclusive<usize> = 8..=16;

/// Pages in memory besides, for searches that have just begun: a small search would wait for large ones.
const FIRST_PAGES: usize = 2;

/// Bytes of params after which a page of documents ends. The params of one run may take 6 MiB.
pub(crate) const PAGE_PARAMS: usize = 4 << 20;

/// One in this number of pages may have large params, which take up to 12 MiB while their pieces are joined.
const LARGE_PARAMS_PART: usize = 2;

/// Searches at the same time that hold columns of params: about 400 kB of each param in a page of cohorts, two pages, and up to
/// 500,000 names. Long texts take up to 64 MiB more.
const COLUMN_SEARCHES: usize = 4;

/// Searches for columns at the same time: each takes up to 64 MiB of merged params in CBOR, decoded.
const COLUMN_FINDS: usize = 2;

/// The name of the threads of queries.
const QUERY_THREAD: &str = "matyan-query";

/// One in this number of threads has the raised priority, so that they take at most a sixteenth of the
/// cores from a program that uses all of them.
const RAISED_PART: usize = 4;

/// The threads, and the memory of the runs that they evaluate.
pub struct Evaluation {
    queries: SliceThreads,
    raised: Arc<PriorityThreads>,
    share: Arc<CpuShare>,
    threads: usize,
    pages: Semaphore,
    first_pages: Semaphore,
    large_params: Semaphore,
    pages_ahead: Arc<Semaphore>,
    columns: Semaphore,
    column_finds: Semaphore,
}

impl Evaluation {
    /// Starts the threads, which end when this value is dropped.
    pub fn start(threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let pages = (PAGES_OF_THREAD * threads).clamp(*PAGES.start(), *PAGES.end());
        let share = Arc::new(CpuShare::new(threads));
        let raised = threads.div_ceil(RAISED_PART);
        let raised = Arc::new(PriorityThreads::start(QUERY_THREAD, raised, Priority::Raised, &share)?);
        Ok(Self {
            queries: SliceThreads::start(QUERY_THREAD, threads, raised.clone(), share.clone())?,
            raised,
            share,
            threads,
            pages: Semaphore::new(pages),
            first_pages: Semaphore::new(FIRST_PAGES),
            large_params: Semaphore::new(pages / LARGE_PARAMS_PART),
            pages_ahead: Arc::new(Semaphore::new(pages)),
            columns: Semaphore::new(COLUMN_SEARCHES),
            column_finds: Semaphore::new(COLUMN_FINDS),
        })
    }

    /// Starts threads for busy tasks of a port. They have the priority of queries, but while that is not raised, no task
    /// waits for the slice of a query.
    pub fn start_busy_task_threads(&self) -> io::Result<BusyTaskThreads> {
        SliceThreads::start("matyan-busy", self.threads, self.raised.clone(), self.share.clone())
            .map(Arc::new)
            .map(BusyTaskThreads)
    }

    /// Counts the slices that start from now on.
    pub(crate) fn count_slices(&mut self, slices: IntCounter) {
        self.queries.count_slices(slices);
    }

    /// Number of threads that run at the same time, unless their priority is raised.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs a slice of work. It is skipped if the caller has left before its turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        self.queries.run(work).await
    }

    /// Runs a slice of work that can ask whether its caller has left, and then ends early.
    pub(crate) async fn run_stoppable<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T> {
        self.queries.run_stoppable(work).await
    }

    /// Runs work that cannot be divided into slices on its own thread, of low or raised priority. The caller
    /// bounds the number of such threads.
    pub(crate) async fn run_apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (sender, mut receiver) = oneshot::channel();
        let share = self.share.clone();
        let job = move || {
            match share.priority() {
                // The work must end within a time.
                Priority::IdleCores => Priority::Low.take(),
                priority => priority.take(),
            }
            share.measure(&mut ThreadClock::open(), || {
                let done = catch_unwind(AssertUnwindSafe(work));
                // Fails only if the caller has left.
                drop(sender.send(done));
            });
        };
        let spawned = thread::Builder::new().name("matyan-image".into()).spawn(job);
        spawned.map_err(|_| Error::Waiting("the system has no thread for more work"))?;
        finished(&mut receiver).await
    }

    /// Runs a future on the threads: whenever it can go on, until it waits or lets others run, is a slice of work.
    pub(crate) async fn drive<T: Send + 'static>(
        &self,
        future: Pin<Box<impl Future<Output = T> + Send + 'static>>,
    ) -> Result<T> {
        self.queries.drive(future).await
    }

    /// Waits for room for another page of documents.
    pub(crate) async fn page(&self) -> PageRoom<'_> {
        let is_new = SearchTime::current().is_new();
        let permit = tokio::select! {
            biased;
            permit = self.pages.acquire() => permit,
            permit = self.first_pages.acquire(), if is_new => permit,
        };
        PageRoom::new(permit.expect("the semaphores are never closed"), &self.large_params)
    }

    /// Waits for room for another page of documents, which may have large params.
    pub(crate) async fn page_of_large_params(&self) -> PageRoom<'_> {
        // First, because a search that waits for large params must not take a page from others.
        let room = self.large_params.acquire().await.expect("the semaphore is never closed");
        self.page().await.with_large_params(room)
    }

    /// Room for a page that is read ahead, which is kept until the page is taken; `None` if there is none.
    pub(crate) fn page_ahead(&self) -> Option<OwnedSemaphorePermit> {
        self.pages_ahead.clone().try_acquire_owned().ok()
    }

    /// Waits for room for the columns of another search.
    pub(crate) async fn columns(&self) -> SemaphorePermit<'_> {
        self.columns.acquire().await.expect("the semaphore is never closed")
    }

    /// Waits for room for another search for columns.
    pub(crate) async fn column_find(&self) -> SemaphorePermit<'_> {
        self.column_finds.acquire().await.expect("the semaphore is never closed")
    }
}

/// Threads for busy tasks of a port.
#[derive(Clone)]
pub struct BusyTaskThreads(Arc<SliceThreads>);

impl BusyTaskThreads {
    /// Runs a future on the threads, until it is complete. A panic of the future continues in the caller.
    pub async fn drive<T: Send + 'static>(
        self,
        future: Pin<Box<impl Future<Output = T> + ?Sized + Send + 'static>>,
    ) -> T {
        self.0.drive(future).await.expect("the threads end after this value")
    }

    /// The processor time that the current thread has used.
    pub fn thread_time() -> Duration {
        search_time::thread_time()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::{
            atomic::{AtomicBool, AtomicUsize, Ordering},
            mpsc as blocking,
        },
        time::Instant,
    };

    use matyan_store::{Batch, Range, Scan, Store as _, embedded::EmbeddedStore};
    use parking_lot::Mutex;
    use tokio::sync::mpsc;

    use super::{slice_threads::SLICE_TIME, *};

    #[tokio::test]
    async fn work_runs_on_the_threads_of_the_pool() {
        let evaluation = Evaluation::start(2).unwrap();
        let name = evaluation.run(|| thread::current().name().map(str::to_owned)).await.unwrap();
        assert_eq!(name.as_deref(), Some("matyan-query"));
    }

    #[tokio::test]
    async fn a_bounded_number_of_pages_is_read_ahead() {
        let evaluation = Evaluation::start(1).unwrap();
        let mut ahead: Vec<_> = (0..*PAGES.start()).map(|_| evaluation.page_ahead().unwrap()).collect();
        assert!(evaluation.page_ahead().is_none());
        drop(ahead.pop());
        assert!(evaluation.page_ahead().is_some());
    }

    #[tokio::test]
    async fn work_of_a_caller_that_left_is_skipped() {
        let evaluation = Evaluation::start(1).unwrap();
        let (unblock, blocked) = blocking::channel::<()>();
        let mut busy = Box::pin(evaluation.run(move || blocked.recv()));
        // Queued first, so the next one waits.
        assert!(futures::poll!(&mut busy).is_pending());
        let (done, ran) = blocking::channel();
        let mut left = Box::pin(evaluation.run({
            let done = done.clone();
            move || done.send("left").unwrap()
        }));
        // Queued, and then abandoned.
        assert!(futures::poll!(&mut left).is_pending());
        drop(left);
        unblock.send(()).unwrap();
        busy.await.unwrap().unwrap();
        evaluation.run(move || done.send("stayed").unwrap()).await.unwrap();
        assert_eq!(ran.iter().collect::<Vec<_>>(), ["stayed"]);
    }

    #[tokio::test]
    async fn rule_130_waiting_slices_go_to_the_threads_that_take_over() {
        let evaluation = Evaluation::start(1).unwrap();
        evaluation.share.set_priority(Priority::IdleCores);
        let (unblock, blocked) = blocking::channel::<()>();
        let mut busy = Box::pin(evaluation.run(move || blocked.recv()));
        assert!(futures::poll!(&mut busy).is_pending());
        let mut waiting = Box::pin(evaluation.run(|| ()));
        assert!(futures::poll!(&mut waiting).is_pending());
        evaluation.share.set_priority(Priority::Raised);
        // The other thread is still busy.
        waiting.await.unwrap();
        unblock.send(()).unwrap();
        busy.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn rule_45_a_small_search_has_its_turn_between_slices_of_large_ones() {
        let evaluation = Evaluation::start(1).unwrap();
        let (unblock, blocked) = blocking::channel::<()>();
        let mut busy = Box::pin(evaluation.run(move || blocked.recv()));
        assert!(futures::poll!(&mut busy).is_pending());
        let large = SearchTime::default();
        large.add(Duration::from_secs(1));
        let (done, ran) = blocking::channel();
        let slice = |search: &SearchTime, name: &'static str| {
            let done = done.clone();
            Box::pin(search.clone().of(evaluation.run(move || done.send(name).unwrap())))
        };
        let mut first = slice(&large, "large");
        let mut second = slice(&large, "large");
        let mut small = slice(&SearchTime::default(), "small");
        for waiting in [&mut first, &mut second, &mut small] {
            assert!(futures::poll!(waiting).is_pending());
        }
        unblock.send(()).unwrap();
        busy.await.unwrap().unwrap();
        for ended in [first.await, second.await, small.await] {
            ended.unwrap();
        }
        drop(done);
        assert_eq!(ran.iter().collect::<Vec<_>>(), ["small", "large", "large"]);
    }

    #[tokio::test]
    async fn rule_45_a_new_search_has_room_beside_large_ones() {
        let evaluation = Evaluation::start(1).unwrap();
        let large = SearchTime::default();
        large.add(Duration::from_secs(1));
        let mut pages = Vec::new();
        for _ in 0..*PAGES.start() {
            pages.push(large.clone().of(evaluation.page()).await);
        }
        let mut waiting = Box::pin(large.of(evaluation.page()));
        assert!(futures::poll!(&mut waiting).is_pending());
        for _ in 0..FIRST_PAGES {
            pages.push(SearchTime::default().of(evaluation.page()).await);
        }
        let mut new = Box::pin(SearchTime::default().of(evaluation.page()));
        assert!(futures::poll!(&mut new).is_pending());
        pages.pop();
        drop(new.await);
    }

    #[tokio::test]
    async fn rule_45_half_of_the_pages_have_large_params() {
        let evaluation = Evaluation::start(1).unwrap();
        let mut large = Vec::new();
        for _ in 0..PAGES.start() / LARGE_PARAMS_PART {
            large.push(evaluation.page_of_large_params().await);
        }
        let mut page = evaluation.page().await;
        assert!(!page.is_enough_for_large_params() && !page.has_large_params());
        let mut waiting = Box::pin(evaluation.page_of_large_params());
        assert!(futures::poll!(&mut waiting).is_pending());
        large.pop();
        assert!(!page.is_enough_for_large_params(), "another page waits for them");
        drop(waiting.await);
        for _ in 0..2 {
            assert!(page.is_enough_for_large_params() && page.has_large_params());
        }
    }

    #[tokio::test]
    async fn no_slice_of_an_abandoned_search_begins() {
        let evaluation = Evaluation::start(1).unwrap();
        let begun = Arc::new(AtomicUsize::new(0));
        let (started, mut starts) = mpsc::channel(1);
        let (unblock, blocked) = blocking::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        let search = async {
            loop {
                let begun = begun.clone();
                let started = started.clone();
                let blocked = blocked.clone();
                let slice = move || {
                    begun.fetch_add(1, Ordering::Relaxed);
                    started.try_send(()).unwrap();
                    blocked.lock().recv().unwrap();
                };
                evaluation.run(slice).await.unwrap();
            }
        };
        let mut search = Box::pin(search);
        for _ in 0..3 {
            // Its client leaves during the last of these slices.
            tokio::select! {
                () = &mut search => unreachable!("it has no end"),
                started = starts.recv() => started.unwrap(),
            }
            unblock.send(()).unwrap();
        }
        drop(search);
        for _ in 0..3 {
            evaluation.run(|| ()).await.unwrap();
        }
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn work_ends_when_its_caller_leaves() {
        let evaluation = Evaluation::start(1).unwrap();
        let (started, mut starts) = mpsc::channel(1);
        let endless = evaluation.run_stoppable(move |is_stopped| {
            started.blocking_send(()).unwrap();
            while !is_stopped() {
                thread::yield_now();
            }
        });
        tokio::select! {
            _ = endless => unreachable!("it ends only after its caller has left"),
            start = starts.recv() => start.unwrap(),
        }
        // The only thread is free for others.
        assert_eq!(evaluation.run(|| 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_future_is_driven_on_the_threads_of_the_pool() {
        let evaluation = Evaluation::start(1).unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let work = async move {
            let mut threads = Vec::new();
            while let Some(number) = receiver.recv().await {
                tokio::task::yield_now().await;
                tokio::task::spawn_blocking(|| ()).await.unwrap();
                threads.push((number, thread::current().name().map(str::to_owned)));
            }
            threads
        };
        let send = async {
            for number in 0..100 {
                sender.send(number).await.unwrap();
            }
            drop(sender);
        };
        let (threads, ()) = tokio::join!(evaluation.drive(Box::pin(work)), send);
        let on_pool = |number| (number, Some("matyan-query".to_owned()));
        assert_eq!(threads.unwrap(), (0..100).map(on_pool).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn rule_45_a_future_that_could_go_on_lets_others_run() {
        let evaluation = Evaluation::start(1).unwrap();
        let (started, mut starts) = mpsc::channel(1);
        let (unblock, blocked) = blocking::channel::<()>();
        let is_done = Arc::new(AtomicBool::new(false));
        let long = {
            let is_done = is_done.clone();
            Box::pin(async move {
                started.send(()).await.unwrap();
                blocked.recv().unwrap();
                // More than once: when the priority of the threads changes, the other slice waits in line again.
                for _ in 0..1_000 {
                    let begun = Instant::now();
                    while begun.elapsed() < SLICE_TIME {}
                    let_others_run().await;
                    if is_done.load(Ordering::Relaxed) {
                        return true;
                    }
                }
                false
            })
        };
        let mut long = Box::pin(evaluation.drive(long));
        tokio::select! {
            _ = &mut long => unreachable!("it is blocked"),
            start = starts.recv() => start.unwrap(),
        }
        let mut other = Box::pin(evaluation.run(move || is_done.store(true, Ordering::Relaxed)));
        assert!(futures::poll!(&mut other).is_pending());
        unblock.send(()).unwrap();
        let (long, other) = tokio::join!(long, other);
        other.unwrap();
        assert!(long.unwrap(), "the other slice waited for the end of the future");
    }

    /// A store whose reads take long enough to go on elsewhere. Each part of a read asks for the time.
    async fn store_of_long_reads(
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> (EmbeddedStore, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open_with_clock(directory.path(), Default::default(), Arc::new(clock));
        let store = store.await.unwrap();
        let mut batch = Batch::default();
        for number in 0..500 {
            batch.set(format!("{number:03}"), "value");
        }
        store.commit(batch).await.unwrap();
        (store, directory)
    }

    #[tokio::test]
    async fn long_reads_of_a_future_run_on_threads_of_the_same_priority() {
        let readers = Arc::new(Mutex::new(BTreeSet::new()));
        let clock = {
            let readers = readers.clone();
            move || {
                readers.lock().insert(thread::current().name().map(str::to_owned));
                Instant::now()
            }
        };
        let (store, _directory) = store_of_long_reads(clock).await;
        let snapshot = store.snapshot().await.unwrap();
        readers.lock().clear();
        let evaluation = Evaluation::start(1).unwrap();
        let scan = async move {
            let page = snapshot.scan(&Range::new("0", "9"), Scan::DEFAULT).await;
            page.unwrap().rows.len()
        };
        assert_eq!(evaluation.drive(Box::pin(scan)).await.unwrap(), 500);
        let expected = ["matyan-query", "matyan-read"].map(|name| Some(name.to_owned()));
        assert_eq!(*readers.lock(), BTreeSet::from(expected));
        store.close().await.unwrap();
    }

    #[tokio::test]
    async fn rule_45_the_time_of_long_reads_counts_for_their_search() {
        let clock = || {
            if thread::current().name() == Some("matyan-read") {
                // Uses as much time as makes a search large.
                let used = SearchTime::default();
                while used.is_new() {
                    used.measure(|| (0..10_000).for_each(|_| std::hint::spin_loop()));
                }
            }
            Instant::now()
        };
        let (store, _directory) = store_of_long_reads(clock).await;
        let snapshot = store.snapshot().await.unwrap();
        let evaluation = Evaluation::start(1).unwrap();
        let scan = async move {
            let page = snapshot.scan(&Range::new("0", "9"), Scan::DEFAULT).await;
            page.unwrap().rows.len()
        };
        let search = SearchTime::default();
        assert_eq!(search.clone().of(evaluation.drive(Box::pin(scan))).await.unwrap(), 500);
        // A read is counted right after its result is sent.
        let counted = async {
            while search.is_new() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), counted).await.expect("the read was not counted");
        store.close().await.unwrap();
    }

    /// Ends a process at the end of a test.
    #[cfg(target_os = "linux")]
    struct BusyProgram(std::process::Child);

    #[cfg(target_os = "linux")]
    impl Drop for BusyProgram {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn rule_130_searches_beside_a_program_that_fills_the_cores_get_a_share() {
        use super::priority::{NICENESS, RAISED_NICENESS};

        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let of_test = niceness();
        if of_test > RAISED_NICENESS || std::fs::read("/proc/thread-self/schedstat").is_err() {
            return println!("ignored: the test has a low priority, or the system no times of threads");
        }
        // The threads and the other program inherit that.
        let mut core = rustix::thread::CpuSet::new();
        core.set(rustix::thread::sched_getcpu());
        rustix::thread::sched_setaffinity(None, &core).unwrap();
        let evaluation = Evaluation::start(1).unwrap();
        assert_eq!(evaluation.run(niceness).await.unwrap(), NICENESS);
        let busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let _busy = BusyProgram(busy);
        let slice = || {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(20) {}
        };
        while evaluation.share.priority() != Priority::Raised {
            evaluation.run(slice).await.unwrap();
        }
        assert_eq!(evaluation.run(niceness).await.unwrap(), RAISED_NICENESS);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn rule_130_slices_run_on_idle_cores_while_these_suffice() {
        let evaluation = Evaluation::start(1).unwrap();
        let policy = crate::server::scheduling::current_policy;
        let of_test = policy();
        assert_eq!(evaluation.run(policy).await.unwrap(), of_test);
        evaluation.share.set_priority(Priority::IdleCores);
        assert_eq!(evaluation.run(policy).await.unwrap(), libc::SCHED_IDLE as u32);
    }

    #[tokio::test]
    async fn a_panic_reaches_the_caller_and_the_thread_continues() {
        let evaluation = Arc::new(Evaluation::start(1).unwrap());
        let panicking = evaluation.clone();
        let ended = tokio::spawn(async move { panicking.run::<()>(|| panic!("on purpose")).await });
        assert!(ended.await.unwrap_err().is_panic());
        assert_eq!(evaluation.run(|| 1).await.unwrap(), 1);
    }

    /// A result that cannot be dropped.
    struct PanicsOnDrop;

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }

    #[tokio::test]
    async fn a_panic_while_the_result_of_a_caller_that_left_is_dropped_ends_no_thread() {
        let evaluation = Evaluation::start(1).unwrap();
        let (started, mut starts) = mpsc::channel(1);
        let left = evaluation.run_stoppable(move |is_stopped| {
            started.blocking_send(()).unwrap();
            while !is_stopped() {
                thread::yield_now();
            }
            PanicsOnDrop
        });
        tokio::select! {
            _ = left => unreachable!("it ends only after its caller has left"),
            start = starts.recv() => start.unwrap(),
        }
        let next = tokio::time::timeout(Duration::from_secs(30), evaluation.run(|| 1)).await;
        assert_eq!(next.expect("the only thread has ended").unwrap(), 1);
    }
}
