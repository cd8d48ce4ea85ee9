//! Threads of one priority, and threads of the same priority on which their reads wait for the disk: long reads use much
//! processor time as well.

use std::{cell::RefCell, io, sync::Arc, thread};

use matyan_store::{ReadThreads, with_reads_on};
use tokio::runtime::{Builder, Handle, Runtime};

use super::{
    cpu_share::{CpuShare, ThreadClock},
    priority::Priority,
    search_time::SearchTime,
    turns::Turns,
};

/// A slice of work.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Maximum number of reads at the same time: as many as of a port.
const READS: usize = 64;

/// Threads of a priority, which end when this value is dropped.
pub(super) struct PriorityThreads {
    turns: Arc<Turns<Job>>,
    /// Has only blocking threads. `None` once this value is dropped.
    reads: Option<Runtime>,
}

impl PriorityThreads {
    /// Starts threads with this name.
    pub(super) fn start(
        name: &'static str,
        threads: usize,
        priority: Priority,
        share: &Arc<CpuShare>,
    ) -> io::Result<Self> {
        let mut reads = Builder::new_current_thread();
        reads.thread_name("matyan-read").max_blocking_threads(READS).on_thread_start(move || priority.take());
        let reads = reads.build()?;
        let measured: Arc<dyn ReadThreads> =
            Arc::new(MeasuredReads { runtime: reads.handle().clone(), share: share.clone() });
        let started = Self { turns: Arc::new(Turns::new()), reads: Some(reads) };
        for _ in 0..threads {
            let turns = started.turns.clone();
            let share = share.clone();
            let reads = measured.clone();
            let work = move || {
                priority.take();
                work(&turns, &share, &reads);
            };
            thread::Builder::new().name(name.into()).spawn(work)?;
        }
        Ok(started)
    }

    /// The slices that wait for these threads.
    pub(super) fn turns(&self) -> &Turns<Job> {
        &self.turns
    }
}

impl Drop for PriorityThreads {
    fn drop(&mut self) {
        self.turns.close();
        if let Some(reads) = self.reads.take() {
            // Waiting is not allowed on async threads.
            reads.shutdown_background();
        }
    }
}

thread_local! {
    /// The clock of a thread on which reads wait.
    static READ_CLOCK: RefCell<ThreadClock> = RefCell::new(ThreadClock::open());
}

/// Runs reads on blocking threads of a runtime. Their time counts like the time of slices of the search that reads.
struct MeasuredReads {
    runtime: Handle,
    share: Arc<CpuShare>,
}

impl ReadThreads for MeasuredReads {
    fn spawn(&self, read: Box<dyn FnOnce() + Send>) {
        let share = self.share.clone();
        let search = SearchTime::current();
        self.runtime.spawn_blocking(move || {
            READ_CLOCK.with_borrow_mut(|clock| share.measure(clock, || search.measure(read)));
        });
    }
}

fn work(turns: &Turns<Job>, share: &CpuShare, reads: &Arc<dyn ReadThreads>) {
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
        let threads = PriorityThreads::start("matyan-query", 1, Priority::IdleCores, &share).unwrap();
        let reads = threads.reads.as_ref().unwrap();
        assert_eq!(reads.spawn_blocking(current_policy).await.unwrap(), libc::SCHED_IDLE as u32);
    }
}
