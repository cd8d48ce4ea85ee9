//! The runs that this frontier has admitted in the last minutes. While a quota of runs is used up, they are no new
//! runs, although workers that lag may not have created them yet.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::run_id::RunId;

/// Time for which an admitted run is kept. Workers lag by more only while something is wrong.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);

/// Maximum number of runs that are kept. Their ids come from outside.
const MAX_RUNS: usize = 10_000;

/// Number of runs, the oldest, that are forgotten when there are too many: looking for them takes some time.
const FORGOTTEN_RUNS: usize = MAX_RUNS / 10;

/// Runs, and when each was last admitted.
#[derive(Default)]
pub(crate) struct AdmittedRuns(Mutex<HashMap<AdmittedRun, Instant>>);

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

impl AdmittedRuns {
    pub(crate) fn insert(&self, run: AdmittedRun) {
        let mut runs = self.0.lock();
        if runs.len() >= MAX_RUNS && !runs.contains_key(&run) {
            let mut times: Vec<Instant> = runs.values().copied().collect();
            let (_, last_forgotten, _) = times.select_nth_unstable(FORGOTTEN_RUNS - 1);
            let last_forgotten = *last_forgotten;
            runs.retain(|_, at| *at > last_forgotten);
        }
        runs.insert(run, Instant::now());
    }

    pub(crate) fn contains(&self, run: &AdmittedRun) -> bool {
        let admitted_at = self.0.lock().get(run).copied();
        admitted_at.is_some_and(|at| at.elapsed() < LIFETIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(runs.0.lock().len() <= MAX_RUNS);
    }
}
