//! The threads that evaluate queries: few, and of low priority, so that neither ingestion nor
//! other reads wait for them. Work comes in slices of some milliseconds. Between two slices, other
//! searches have their turn, and a search whose client has left ends.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use prometheus::IntCounter;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

use crate::error::{Error, Result};

/// Steps of the query language in a slice: about 10 ms. The last run of a slice may add 20 ms.
pub(crate) const SLICE_STEPS: u64 = 500_000;

/// Verdicts in a slice, for queries that take next to no steps.
pub(crate) const SLICE_VERDICTS: u64 = 20_000;

/// Slices that wait for a thread. More searches wait before they can add theirs.
const QUEUED: usize = 64;

/// Pages of documents in memory, over all searches: each has up to 4 MiB, and as much of large params.
const PAGES: usize = 16;

/// Bytes of params after which a page of documents ends. Those of one run may take 6 MiB.
pub(crate) const PAGE_PARAMS: usize = 4 << 20;

/// Searches at the same time that hold columns of params: each takes up to 50 MB.
const COLUMN_SEARCHES: usize = 4;

/// Searches for columns at the same time: each takes up to 64 MiB of merged params in CBOR, decoded.
const COLUMN_FINDS: usize = 2;

/// Added to the niceness of the threads: with others of the server ready to run, they get a seventieth of a
/// core. With a tenth, which is 10, acknowledgements next to searches took two to three times as long as alone.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 19;

type Job = Box<dyn FnOnce() + Send>;

/// The threads, and the memory of what they evaluate.
pub struct Evaluation {
    jobs: mpsc::Sender<Job>,
    /// The slices that have begun.
    slices: Option<IntCounter>,
    pages: Semaphore,
    columns: Semaphore,
    column_finds: Semaphore,
}

impl Evaluation {
    /// Starts the threads, which end when this value is dropped.
    pub fn start(threads: usize) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUED);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..threads.max(1) {
            let receiver = receiver.clone();
            thread::Builder::new().name("matyan-query".into()).spawn(move || work(&receiver))?;
        }
        Ok(Self {
            jobs: sender,
            slices: None,
            pages: Semaphore::new(PAGES),
            columns: Semaphore::new(COLUMN_SEARCHES),
            column_finds: Semaphore::new(COLUMN_FINDS),
        })
    }

    /// Counts the slices that begin from now on.
    pub(crate) fn count_slices(&mut self, slices: IntCounter) {
        self.slices = Some(slices);
    }

    /// Runs a slice of work. It is skipped if the caller has left before its turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let slices = self.slices.clone();
        let job = move || {
            if !sender.is_closed() {
                slices.iter().for_each(IntCounter::inc);
                // Fails only if the caller has left in the meantime.
                drop(sender.send(catch_unwind(AssertUnwindSafe(work))));
            }
        };
        self.jobs.send(Box::new(job)).await.map_err(|_| Error::Stopping)?;
        match receiver.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(Error::Stopping),
        }
    }

    /// Waits for room for another page of documents.
    pub(crate) async fn page(&self) -> SemaphorePermit<'_> {
        self.pages.acquire().await.expect("the semaphore is never closed")
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

fn work(jobs: &Mutex<mpsc::Receiver<Job>>) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "failed to lower the priority of a query thread");
    }
    loop {
        // One thread waits for the next job, the others for the lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        match job {
            Some(job) => job(),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc as blocking,
    };

    use super::*;

    #[tokio::test]
    async fn work_runs_on_the_threads_of_the_pool() {
        let evaluation = Evaluation::start(2).unwrap();
        let name = evaluation.run(|| thread::current().name().map(str::to_owned)).await.unwrap();
        assert_eq!(name.as_deref(), Some("matyan-query"));
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
    async fn no_slice_of_an_abandoned_search_begins() {
        let evaluation = Evaluation::start(1).unwrap();
        let begun = Arc::new(AtomicUsize::new(0));
        let (started, mut starts) = mpsc::channel(1);
        let (unblock, blocked) = blocking::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        let search = async {
            loop {
                let (begun, started, blocked) = (begun.clone(), started.clone(), blocked.clone());
                let slice = move || {
                    begun.fetch_add(1, Ordering::Relaxed);
                    started.try_send(()).unwrap();
                    blocked.lock().unwrap().recv().unwrap();
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
    async fn a_panic_reaches_the_caller_and_the_thread_continues() {
        let evaluation = Arc::new(Evaluation::start(1).unwrap());
        let panicking = evaluation.clone();
        let ended = tokio::spawn(async move { panicking.run::<()>(|| panic!("on purpose")).await });
        assert!(ended.await.unwrap_err().is_panic());
        assert_eq!(evaluation.run(|| 1).await.unwrap(), 1);
    }
}
