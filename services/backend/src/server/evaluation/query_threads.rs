//! Threads of one priority.

use std::{io, sync::Arc, thread};

use super::{
    Job,
    cpu_share::{CpuShare, ThreadClock},
    priority::Priority,
    turns::Turns,
};

/// Threads of a priority, which end when this value is dropped.
pub(super) struct QueryThreads {
    turns: Arc<Turns<Job>>,
}

impl QueryThreads {
    pub(super) fn start(threads: usize, priority: Priority, share: &Arc<CpuShare>) -> io::Result<Self> {
        let started = Self { turns: Arc::new(Turns::new()) };
        for _ in 0..threads {
            let turns = started.turns.clone();
            let share = share.clone();
            let work = move || {
                priority.take();
                work(&turns, &share);
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
    }
}

fn work(turns: &Turns<Job>, share: &CpuShare) {
    let mut clock = ThreadClock::open();
    while let Some(job) = turns.next() {
        share.measure(&mut clock, job);
    }
}
