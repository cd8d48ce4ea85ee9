//! Numbers that all handles of a run share: steps of points without one, and terminal lines. Each
//! handle has its own spool, so numbers of the spool would be used twice.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicI64, Ordering},
    },
};

use crate::{
    locks::lock,
    per_process::PerProcess,
    sys::{fork, shared_memory::SharedNumbers},
};

/// Numbering of the runs that this process has open, by gateway and run id.
static RUNS: PerProcess<Mutex<NumberingByRun>> = PerProcess::new();

type NumberingByRun = HashMap<(String, String), Weak<Numbering>>;
type CounterBySeries = HashMap<(SeriesKind, String, String), Arc<StepCounter>>;

/// Whether the data of a run can be numbered by this process alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunOrigin {
    New,
    /// A new run that continues the steps of another one, which only the server knows.
    Branch,
    Existing,
}

/// Points and objects with the same name and context are different series.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum SeriesKind {
    Points,
    Objects,
}

/// The numbers of one run.
pub(crate) struct Numbering {
    /// Step counters by kind, name and context of the series. Absent if the run existed before, or is a
    /// branch: other processes have counted too, so the server counts the steps.
    steps: Option<Mutex<CounterBySeries>>,
    pub(crate) lines: LineNumbers,
    /// Number of forks at the time of creation.
    generation: u64,
}

impl Numbering {
    /// Returns the numbering of a run that this process opens, which all open handles of the run
    /// share.
    pub(crate) fn of_run(gateway_url: &str, run_id: &str, origin: RunOrigin) -> Arc<Self> {
        let mut runs = lock(RUNS.get_or_make(|_| true, Mutex::default));
        runs.retain(|_, numbering| numbering.strong_count() > 0);
        let key = (gateway_url.to_owned(), run_id.to_owned());
        if let Some(numbering) = runs.get(&key).and_then(Weak::upgrade) {
            return numbering;
        }
        let steps = (origin == RunOrigin::New).then(Mutex::default);
        let lines = LineNumbers::new(origin != RunOrigin::Existing);
        let numbering = Self { steps, lines, generation: fork::generation() };
        let numbering = Arc::new(numbering);
        runs.insert(key, Arc::downgrade(&numbering));
        numbering
    }

    /// Returns the numbering of a run that this process has open.
    pub(crate) fn find(gateway_url: &str, run_id: &str) -> Option<Arc<Self>> {
        let runs = lock(RUNS.get()?);
        runs.get(&(gateway_url.to_owned(), run_id.to_owned()))?.upgrade()
    }

    /// Reports whether this process has a run open, by any address of its server.
    pub(crate) fn is_open(run_id: &str) -> bool {
        let Some(runs) = RUNS.get() else { return false };
        lock(runs).iter().any(|((_, open), numbering)| open == run_id && numbering.strong_count() > 0)
    }

    /// Returns the counter of a series of points, unless the server counts, as for a forked child.
    pub(crate) fn step_counter(&self, name: &str, context: &str) -> Option<Arc<StepCounter>> {
        self.counter(SeriesKind::Points, name, context)
    }

    /// The same for a series of objects.
    pub(crate) fn object_step_counter(&self, name: &str, context: &str) -> Option<Arc<StepCounter>> {
        self.counter(SeriesKind::Objects, name, context)
    }

    fn counter(&self, kind: SeriesKind, name: &str, context: &str) -> Option<Arc<StepCounter>> {
        // In a child, a thread that does not exist may hold the lock.
        if self.generation != fork::generation() {
            return None;
        }
        let mut counters = lock(self.steps.as_ref()?);
        Some(counters.entry((kind, name.to_owned(), context.to_owned())).or_default().clone())
    }
}

/// The next step of a series.
#[derive(Debug, Default)]
pub(crate) struct StepCounter(AtomicI64);

impl StepCounter {
    /// Returns the step of a point: the given one, or the one after the largest so far.
    #[inline]
    pub(crate) fn assign(&self, step: Option<i64>) -> i64 {
        match step {
            None => self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| Some(next.saturating_add(1)))
                .unwrap_or_else(|next| next),
            Some(step) => {
                if step >= self.0.load(Ordering::Relaxed) {
                    self.0.fetch_max(step.saturating_add(1), Ordering::Relaxed);
                }
                step
            }
        }
    }
}

/// Numbers of terminal lines, which forked children share: a line with the number of another one
/// replaces it on the server.
pub(crate) struct LineNumbers(SharedNumbers<2>);

impl LineNumbers {
    /// Index of the number of the next line, counted from the first one of this opening.
    const NEXT: usize = 0;
    /// Index of the number that the server knows the first line by.
    const FIRST: usize = 1;
    const UNKNOWN: i64 = i64::MIN;

    fn new(is_new: bool) -> Self {
        Self(SharedNumbers::new([0, if is_new { 0 } else { Self::UNKNOWN }]))
    }

    /// Takes a number of following lines, and returns the last of their numbers.
    pub(crate) fn take(&self, lines: i64) -> i64 {
        self.0.get(Self::NEXT).fetch_add(lines, Ordering::Relaxed).saturating_add(lines - 1)
    }

    /// Returns the number that is added to every line, if it is known.
    pub(crate) fn first(&self) -> Option<i64> {
        Some(self.0.get(Self::FIRST).load(Ordering::Relaxed)).filter(|first| *first != Self::UNKNOWN)
    }

    /// Sets the number that is added to every line, unless another process has done so. Returns the
    /// number that counts.
    pub(crate) fn set_first(&self, first: i64) -> i64 {
        let own = self.0.get(Self::FIRST);
        let order = Ordering::Relaxed;
        own.compare_exchange(Self::UNKNOWN, first, order, order).map_or_else(|known| known, |_| first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_of_a_run_share_its_steps() {
        let first = Numbering::of_run("http://g", "shared", RunOrigin::New);
        let second = Numbering::of_run("http://g", "shared", RunOrigin::Existing);
        let other = Numbering::of_run("http://h", "shared", RunOrigin::Existing);
        let next = |numbering: &Numbering| numbering.step_counter("loss", "").map(|it| it.assign(None));
        assert_eq!([next(&first), next(&second), next(&first)], [Some(0), Some(1), Some(2)]);
        assert_eq!(next(&other), None, "the server counts");
        drop((first, second));
        assert_eq!(next(&Numbering::of_run("http://g", "shared", RunOrigin::Existing)), None);
    }

    #[test]
    fn a_step_counter_continues_after_the_largest_step() {
        let counter = StepCounter::default();
        let steps = [None, Some(7), None, Some(3), None, Some(-5), None];
        assert_eq!(steps.map(|step| counter.assign(step)), [0, 7, 8, 3, 9, -5, 10]);
        assert_eq!(counter.assign(Some(i64::MAX)), i64::MAX);
        assert_eq!([counter.assign(None), counter.assign(None)], [i64::MAX; 2]);
    }

    #[test]
    fn the_first_line_is_set_once() {
        let lines = LineNumbers::new(false);
        assert_eq!((lines.first(), lines.take(1), lines.take(3)), (None, 0, 3));
        assert_eq!((lines.set_first(10), lines.set_first(20), lines.first()), (10, 10, Some(10)));
        assert_eq!(LineNumbers::new(true).set_first(10), 0);
    }
}
