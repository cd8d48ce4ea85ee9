//! Threads for work in slices of some milliseconds. Between two slices, other work has its turn, starting with the work that has used the
//! least time. Which threads run a slice depends on the processor time that other programs leave them.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use prometheus::IntCounter;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
};

use super::{
    cpu_share::CpuShare,
    priority::Priority,
    priority_threads::{Job, PriorityThreads},
    search_time::SearchTime,
};
use crate::server::error::{Error, Result};

/// Time after which a future that could go on ends its slice, at the next message that it sends.
pub(super) const SLICE_TIME: Duration = Duration::from_millis(10);

thread_local! {
    /// When the slice of a future has begun, on one of these threads.
    static SLICE_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Ends the slice of the current future if it has lasted long, so that others have their turn. Elsewhere than on
/// threads for slices, returns at once.
pub(crate) async fn let_others_run() {
    if SLICE_BEGAN.get().is_some_and(|began| began.elapsed() >= SLICE_TIME) {
        tokio::task::yield_now().await;
    }
}

/// Threads of each priority. They end when this value is dropped.
pub(super) struct SliceThreads {
    on_idle_cores: PriorityThreads,
    low: PriorityThreads,
    /// For all kinds of work.
    raised: Arc<PriorityThreads>,
    share: Arc<CpuShare>,
    /// The slices that have begun.
    slices: Option<IntCounter>,
}

impl SliceThreads {
    /// Starts this many threads of each priority but the raised one.
    pub(super) fn start(
        name: &'static str,
        threads: usize,
        raised: Arc<PriorityThreads>,
        share: Arc<CpuShare>,
    ) -> io::Result<Self> {
        Ok(Self {
            on_idle_cores: PriorityThreads::start(name, threads, Priority::IdleCores, &share)?,
            low: PriorityThreads::start(name, threads, Priority::Low, &share)?,
            raised,
            share,
            slices: None,
        })
    }

    /// Counts the slices that start from now on.
    pub(super) fn count_slices(&mut self, slices: IntCounter) {
        self.slices = Some(slices);
    }

    /// Runs a slice of work. It is skipped if the caller has left before its turn.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        self.run_stoppable(|_| work()).await
    }

    /// Runs a slice of work that can ask whether its caller has left, and then ends early.
    pub(super) async fn run_stoppable<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T> {
        let (sender, mut receiver) = oneshot::channel();
        let slices = self.slices.clone();
        let search = SearchTime::current();
        let used = search.used();
        let mut job: Job = Box::new(move || {
            if !sender.is_closed() {
                if let Some(slices) = &slices {
                    slices.inc();
                }
                let slice = || catch_unwind(AssertUnwindSafe(|| work(&|| sender.is_closed())));
                let done = search.measure(slice);
                // Fails only if the caller has left.
                drop(sender.send(done));
            }
        });
        loop {
            let changed = self.share.changed();
            let waiting = self.threads_of_next_slice().turns().add(used, job);
            tokio::select! {
                biased;
                done = finished(&mut receiver) => return done,
                () = changed => {}
            }
            // These threads may wait seconds for a core, so the slice goes to the threads that take over.
            match waiting.take() {
                Some(slice) => job = slice,
                None => return finished(&mut receiver).await,
            }
        }
    }

    fn threads_of_next_slice(&self) -> &PriorityThreads {
        match self.share.priority() {
            Priority::IdleCores => &self.on_idle_cores,
            Priority::Low => &self.low,
            Priority::Raised => &self.raised,
        }
    }

    /// Runs a future on the threads: whenever it can go on, until it waits or lets others run, is a slice of work.
    pub(super) async fn drive<T: Send + 'static>(
        &self,
        mut future: Pin<Box<impl Future<Output = T> + ?Sized + Send + 'static>>,
    ) -> Result<T> {
        let wakes = Arc::new(Wakes(Notify::new()));
        let search = SearchTime::current();
        loop {
            let waker = Waker::from(wakes.clone());
            // For timers and tasks.
            let runtime = Handle::current();
            let search = search.clone();
            let slice = move || {
                let mut poll = || future.as_mut().poll(&mut Context::from_waker(&waker));
                SLICE_BEGAN.set(Some(Instant::now()));
                // Does not block. The runtime lets the future take a limited number of steps, like a task.
                let polled = runtime.block_on(poll_fn(|_| Poll::Ready(search.enter(&mut poll))));
                SLICE_BEGAN.set(None);
                (future, polled)
            };
            let (rest, polled) = self.run(slice).await?;
            if let Poll::Ready(done) = polled {
                return Ok(done);
            }
            future = rest;
            wakes.0.notified().await;
        }
    }
}

/// Remembers that a future can go on.
struct Wakes(Notify);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Waits for the result of a job. A panic of the job continues in its caller.
pub(super) async fn finished<T>(receiver: &mut oneshot::Receiver<thread::Result<T>>) -> Result<T> {
    match receiver.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => Err(Error::Stopping),
    }
}
