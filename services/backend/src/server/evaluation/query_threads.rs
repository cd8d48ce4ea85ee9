//! Threads of one priority, and threads of the same priority on which their reads wait for the disk: long reads use much
//! processor time as well.

use std::{io, sync::Arc, thread};

use matyan_store::with_reads_on;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{
    cpu_share::{CpuShare, ThreadClock},
    priority::Priority,
    turns::Turns,
};

/// A slice of work.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Maximum number of reads at the same time: as many as of a port.
const READS: usize = 64;

/// Threads of a priority, which end when this value is dropped.
pub(super) struct QueryThreads {
    turns: Arc<Turns<Job>>,
    /// Has only blocking threads. `None` once this value is dropped.
    reads: Option<Runtime>,
}

impl QueryThreads {
    pub(super) fn start(threads: usize, priority: Priority, share: &Arc<CpuShare>) -> io::Result<Self> {
        let mut reads = Builder::new_current_thread();
        reads.thread_name("matyan-read").max_blocking_threads(READS).on_thread_start(move || priority.take());
        let reads = reads.build()?;
        let handle = reads.handle().clone();
        let started = Self { turns: Arc::new(Turns::new()), reads: Some(reads) };
        for _ in 0..threads {
            let turns = started.turns.clone();
            let share = share.clone();
            let handle = handle.clone();
            let work = move || {
                priority.take();
                work(&turns, &share, &handle);
            };
            thread::Builder::new().name("matyan-query".into()).spawn(work)?;
        }
        Ok(started)
    }

    /// The slices that wait for these threads.
    pub(super) fn turns(&self) -> &Turns<Job> {
        &self.turns
    }
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        self.turns.close();
        if let Some(reads) = self.reads.take() {
            // Waiting is not allowed on async threads.
            reads.shutdown_background();
        }
    }
}

fn work(turns: &Turns<Job>, share: &CpuShare, reads: &Handle) {
    let mut clock = ThreadClock::open();
    with_reads_on(reads, || {
        while let Some(job) = turns.next() {
            share.measure(&mut clock, job);
        }
    });
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::server::scheduling::current_policy;

    #[tokio::test]
    async fn rule_130_reads_have_the_priority_of_queries() {
        let share = Arc::new(CpuShare::new(1));
        let threads = QueryThreads::start(1, Priority::IdleCores, &share).unwrap();
        let reads = threads.reads.as_ref().unwrap();
        assert_eq!(reads.spawn_blocking(current_policy).await.unwrap(), libc::SCHED_IDLE as u32);
    }
}
