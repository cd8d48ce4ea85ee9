//! The runs that this frontier has admitted in the last minutes. While a quota of runs is used up, they do
//! not count as new runs, although workers that lag may not have created them yet.

use std::time::Duration;

use matyan_access::{DatedMap, DatedValue};

use crate::run_id::RunId;

/// Time for which an admitted run is kept. Workers lag by more only while something is wrong.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);

/// Maximum number of runs that are kept. Their ids come from outside.
const MAX_RUNS: usize = 10_000;

/// Runs, and when each was last admitted.
pub(crate) struct AdmittedRuns(DatedMap<AdmittedRun, ()>);

#[derive(PartialEq, Eq, Hash)]
pub(crate) struct AdmittedRun {
    project: String,
    run: RunId,
}

impl AdmittedRun {
    pub(crate) fn new(project: &str, run: &RunId) -> Self {
        Self { project: project.to_owned(), run: run.clone() }
    }
}

impl Default for AdmittedRuns {
    fn default() -> Self {
        Self(DatedMap::new(MAX_RUNS))
    }
}

impl AdmittedRuns {
    pub(crate) fn insert(&self, run: AdmittedRun) {
        self.0.insert(run, DatedValue::now(()), is_recent);
    }

    pub(crate) fn contains(&self, run: &AdmittedRun) -> bool {
        self.0.get(run).is_some_and(|admitted| is_recent(&admitted))
    }
}

fn is_recent(admitted: &DatedValue<()>) -> bool {
    admitted.is_younger_than(LIFETIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORGOTTEN_RUNS: usize = MAX_RUNS / 10;

    fn run_of(project: &str, number: usize) -> AdmittedRun {
        AdmittedRun::new(project, &RunId::parse(number.to_string()).unwrap())
    }

    fn run(number: usize) -> AdmittedRun {
        run_of("", number)
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_runs_are_forgotten() {
        let runs = AdmittedRuns::default();
        for number in 0..MAX_RUNS {
            runs.insert(run(number));
            if (number + 1) % FORGOTTEN_RUNS == 0 {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
        }
        runs.insert(run(0));
        assert!(runs.contains(&run(1)), "a known run needs no room");
        runs.insert(run(MAX_RUNS));
        for (number, is_kept) in [(0, true), (1, false), (2 * FORGOTTEN_RUNS, true), (MAX_RUNS, true)] {
            assert_eq!(runs.contains(&run(number)), is_kept, "{number}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn old_runs_and_too_many_runs_are_forgotten() {
        let runs = AdmittedRuns::default();
        runs.insert(run(0));
        assert!(runs.contains(&run(0)) && !runs.contains(&run_of("speech", 0)));
        tokio::time::advance(LIFETIME).await;
        assert!(!runs.contains(&run(0)));
        for number in 0..2 * MAX_RUNS {
            runs.insert(run(number));
            assert!(runs.contains(&run(number)));
        }
        assert!(runs.0.count() <= MAX_RUNS);
    }
}
