//! When cohorts of params are made and merged.

mod format_6;
mod races;

use std::collections::BTreeSet;

use matyan_model::{
    change::change_put,
    cohort::{CohortMembers, cohorts_page},
    ids::RunId,
    index::{Scalar, index_runs_page},
    run::{RunEdit, run_create},
    uncollected::{ListWear, UncollectedList},
};
use matyan_store::{Batch, Commit, Range, Scan, embedded::EmbeddedStore};
use matyan_value::{Map, Value};

use super::*;
use crate::cohort_round::{MERGED_GROUPS, REWRITTEN_US};

const P: Project = Project(0);
const RUNS: usize = 4;
/// Later than all changes of runs by more than the time for which they rest.
const NOW_US: i64 = 10 * REST_US as i64;

struct TestProject {
    store: EmbeddedStore,
    now_us: i64,
    numbers: Vec<RunNumber>,
    _directory: tempfile::TempDir,
}

impl TestProject {
    async fn new(runs: i64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
        let mut project = Self { store, now_us: NOW_US, numbers: Vec::new(), _directory: directory };
        project.create(runs).await;
        project
    }

    async fn write<T>(&self, change: impl AsyncFn(&mut Transaction) -> Result<T, matyan_store::Error>) -> T {
        loop {
            let mut transaction = Transaction::new(self.store.snapshot().await.unwrap());
            let answer = change(&mut transaction).await.unwrap();
            if let Commit::Done { .. } = self.store.commit(transaction.into_batch()).await.unwrap() {
                return answer;
            }
        }
    }

    async fn create(&mut self, runs: i64) {
        for _ in 0..runs {
            let at = self.numbers.len() as i64;
            let id = RunId::new(format!("r{at}"));
            let number = self
                .write(async |transaction| {
                    let mut edit = run_create(transaction, P, &id, 10 + at).await?;
                    *edit.params(transaction.unchecked()).await? =
                        Map::from([("lr".to_owned(), Value::Integer(at))]);
                    let number = edit.number();
                    edit.write(transaction.batch());
                    change_put(transaction.batch(), P, number, 1, "");
                    Ok(number)
                })
                .await;
            self.numbers.push(number);
        }
    }

    async fn change(&self, number: RunNumber) {
        self.change_at(number, 1).await;
    }

    async fn change_at(&self, number: RunNumber, now_us: i64) {
        self.write(async |transaction| {
            let mut edit = RunEdit::load(transaction, P, number).await?.unwrap();
            edit.touch(now_us);
            // Another value than before.
            let lr = Value::Integer(-edit.props.updated_us);
            edit.params(transaction.unchecked()).await?.insert("lr".to_owned(), lr);
            edit.write(transaction.batch());
            change_put(transaction.batch(), P, number, 1, "");
            Ok(())
        })
        .await;
    }

    async fn collect(&self, least: usize) -> ParamRound {
        let now_us = self.now_us;
        let clock = move || now_us;
        let cohorts = ParamCohorts::new(&self.store, &clock).of_runs(RUNS);
        cohorts.collect(P, least, [1; 16], &CancellationToken::new()).await.unwrap()
    }

    async fn merge(&self) -> bool {
        let now_us = self.now_us;
        let clock = move || now_us;
        let cohorts = ParamCohorts::new(&self.store, &clock).of_runs(RUNS);
        cohorts.merge(P, [2; 16], &CancellationToken::new()).await.unwrap()
    }

    /// Looks at the project as the job does.
    async fn look(&self, waiting: &WaitingProjects, now_us: i64) -> Result<bool, Error> {
        let clock = move || now_us;
        let changes = self.store.snapshot().await?.get(&keys::change_count(P)).await?;
        let stop = CancellationToken::new();
        collect_project(&self.store, &clock, waiting, (P, changes), [3; 16], &stop).await
    }

    async fn cohorts(&self) -> Vec<CohortMembers> {
        let snapshot = self.store.snapshot().await.unwrap();
        let all = keys::cohorts(CohortKind::Params, P);
        cohorts_page(&*snapshot, CohortKind::Params, P, &all).await.unwrap().0
    }

    async fn sizes(&self) -> Vec<usize> {
        self.cohorts().await.iter().map(|cohort| cohort.members.len()).collect()
    }
}

#[tokio::test]
async fn cohorts_are_made_once_they_are_full_or_runs_have_waited() {
    let mut project = TestProject::new(10).await;
    let round = project.collect(RUNS).await;
    assert_eq!((round.waiting, round.cohorts), (2, 2));
    assert_eq!(project.sizes().await, [4, 4]);
    assert_eq!(project.collect(RUNS).await, ParamRound { waiting: 2, ..ParamRound::default() });
    let round = project.collect(2).await;
    assert_eq!((round.waiting, round.cohorts), (0, 1));
    assert_eq!(project.sizes().await, [4, 4, 2]);
    project.create(1).await;
    assert_eq!(project.collect(2).await.waiting, 1);
    let members: BTreeSet<_> =
        project.cohorts().await.into_iter().flat_map(|cohort| cohort.members).collect();
    assert!(members.iter().eq(&project.numbers[..10]));
}

#[tokio::test]
async fn small_cohorts_are_merged_and_empty_ones_cleared() {
    let mut project = TestProject::new(0).await;
    for _ in 0..5 {
        project.create(1).await;
        project.collect(1).await;
    }
    assert_eq!(project.sizes().await, [1; 5]);
    project.merge().await;
    assert_eq!(project.sizes().await, [1, 4], "the last one would be alone");
    // Runs that change leave their cohort once they are in another one.
    for number in &project.numbers[..4] {
        project.change(*number).await;
    }
    assert_eq!(project.sizes().await, [1, 4]);
    project.collect(RUNS).await;
    assert_eq!(project.sizes().await, [1, 0, 4]);
    project.merge().await;
    assert_eq!(project.sizes().await, [1, 4]);
}

/// The lock is released after a few groups, so that new runs do not wait for all.
#[tokio::test]
async fn few_cohorts_are_merged_at_a_time() {
    let mut project = TestProject::new(0).await;
    for _ in 0..(MERGED_GROUPS + 1) * RUNS {
        project.create(1).await;
        project.collect(1).await;
    }
    assert!(project.merge().await);
    assert_eq!(project.sizes().await, [[1; RUNS].as_slice(), &[RUNS; MERGED_GROUPS]].concat());
    assert!(!project.merge().await);
    assert_eq!(project.sizes().await, [RUNS; MERGED_GROUPS + 1]);
}

/// Damaged runs do not keep old cohorts from being cleared.
#[tokio::test]
async fn a_cohort_of_damaged_runs_is_cleared_after_a_week() {
    let mut project = TestProject::new(RUNS as i64).await;
    project.collect(RUNS).await;
    project.change(project.numbers[0]).await;
    let mut batch = Batch::default();
    for number in &project.numbers[1..] {
        batch.set(keys::document(P, *number), vec![0xff]);
    }
    project.store.commit(batch).await.unwrap();
    project.collect(1).await;
    assert_eq!(project.sizes().await, [3, 1]);
    project.now_us += REWRITTEN_US + 1;
    project.merge().await;
    assert_eq!(project.sizes().await, [1]);
    let listed = keys::uncollected_all(CohortKind::Params, P, keys::ListGeneration::FIRST);
    let listed = index_runs_page(&*project.store.snapshot().await.unwrap(), &listed, 10).await.unwrap().0;
    assert_eq!(listed, project.numbers[1..], "their documents decide");
}

/// Values of runs that are deleted, and earlier values of runs that have changed, do not stay in a cohort that is more than
/// half full.
#[tokio::test]
async fn a_cohort_that_runs_have_left_is_written_again_after_a_week() {
    let mut project = TestProject::new(RUNS as i64).await;
    project.collect(RUNS).await;
    let column = keys::param_column(P, &["lr".into()], project.cohorts().await[0].cohort, 0);
    project.change(project.numbers[0]).await;
    project.create(RUNS as i64 - 1).await;
    project.collect(RUNS).await;
    assert_eq!(project.sizes().await, [3, 4]);
    let has_column = async |project: &TestProject| {
        project.store.snapshot().await.unwrap().get(&column).await.unwrap().is_some()
    };
    project.now_us += REWRITTEN_US;
    project.merge().await;
    assert_eq!(project.sizes().await, [3, 4], "the cohort is not old enough");
    assert!(has_column(&project).await);
    project.now_us += 1;
    project.merge().await;
    assert_eq!(project.sizes().await, [4, 3]);
    assert!(!has_column(&project).await);
    project.now_us += 2 * REWRITTEN_US;
    project.merge().await;
    assert_eq!(project.sizes().await, [4, 3], "no run has left them");
}

/// Runs of a store of format 6 are moved to cohorts, together with new ones, and then the rows of all are cleared.
#[tokio::test]
async fn runs_with_index_rows_are_moved_and_their_rows_cleared() {
    let mut project = TestProject::new(9).await;
    let mut batch = Batch::default();
    for (number, value) in project.numbers.iter().zip(0_i32..) {
        let value = Scalar::Number(f64::from(value)).key();
        batch.set(keys::index_param(P, &["lr".into()], &value, *number), vec![2]);
        batch.set(keys::indexed_params(P, *number), Vec::new());
        batch.clear(keys::uncollected(CohortKind::Params, P, keys::ListGeneration::FIRST, *number));
    }
    project.store.commit(batch).await.unwrap();
    project.create(1).await;
    let left = async |range| {
        let snapshot = project.store.snapshot().await.unwrap();
        snapshot.scan(&range, Scan::default()).await.unwrap().rows.len()
    };
    let round = project.collect(RUNS).await;
    assert_eq!(round, ParamRound { waiting: 2, cohorts: 2, ..ParamRound::default() });
    assert_eq!(project.sizes().await, [4, 4], "a new run completes a cohort with older ones");
    let lists = [keys::indexed_params_all(P), keys::index_params(P)];
    assert_eq!([left(lists[0].clone()).await, left(lists[1].clone()).await], [0, 0]);
    assert_eq!(project.collect(RUNS).await, ParamRound { waiting: 2, ..ParamRound::default() });
}

/// Runs that change all the time leave full cohorts behind. Their documents do not matter here.
#[tokio::test]
async fn cohorts_that_all_runs_have_left_are_cleared_soon() {
    let project = TestProject::new(0).await;
    let waiting = WaitingProjects::default();
    for _ in 0..MADE_COHORTS {
        let mut batch = Batch::default();
        let snapshot = project.store.snapshot().await.unwrap();
        let list = UncollectedList::read(&*snapshot, CohortKind::Params, P).await.unwrap();
        for number in (1..=COHORT_RUNS as u64).map(RunNumber) {
            list.put(&mut batch, number, Vec::new());
        }
        change_put(&mut batch, P, RunNumber(1), 1, "");
        project.store.commit(batch).await.unwrap();
        project.look(&waiting, NOW_US).await.unwrap();
    }
    assert_eq!(project.sizes().await, [COHORT_RUNS]);
    let snapshot = project.store.snapshot().await.unwrap();
    let generations = keys::uncollected_generations(CohortKind::Params, P);
    assert!(snapshot.get(&generations).await.unwrap().is_some(), "the list was renewed");
    assert!(!ListWear::default().is_worn(&*snapshot, CohortKind::Params, P).await.unwrap());
}

/// Runs that are deleted before a cohort takes them leave the list, too.
#[tokio::test]
async fn a_list_that_runs_have_left_is_renewed_without_a_cohort() {
    let project = TestProject::new(1).await;
    let is_renewed = async || {
        let generations = keys::uncollected_generations(CohortKind::Params, P);
        project.store.snapshot().await.unwrap().get(&generations).await.unwrap().is_some()
    };
    assert_eq!(project.collect(RUNS).await, ParamRound { waiting: 1, ..ParamRound::default() });
    assert!(!is_renewed().await);
    let mut batch = Batch::default();
    batch.add(keys::uncollected_left(CohortKind::Params, P), 100_000);
    project.store.commit(batch).await.unwrap();
    assert_eq!(project.collect(RUNS).await, ParamRound { waiting: 1, ..ParamRound::default() });
    assert!(is_renewed().await);
    let snapshot = project.store.snapshot().await.unwrap();
    assert!(!ListWear::default().is_worn(&*snapshot, CohortKind::Params, P).await.unwrap());
}

/// A run that has been in a cohort rests until it has not changed for a minute, or has ended.
#[tokio::test]
async fn a_run_that_changes_all_the_time_is_not_written_each_time() {
    let mut project = TestProject::new(RUNS as i64 + 1).await;
    for number in &project.numbers {
        project.change_at(*number, NOW_US).await;
    }
    let round = project.collect(1).await;
    assert_eq!((round.cohorts, round.changing), (2, 0), "they have been in no cohort");
    let changed = project.numbers[..3].to_vec();
    for number in &changed {
        project.change_at(*number, NOW_US).await;
    }
    let resting = |changing| ParamRound { changing, ..ParamRound::default() };
    assert_eq!(project.collect(1).await, resting(3));
    // One of them ends.
    let ended = changed[0];
    project
        .write(async |transaction| {
            let mut edit = RunEdit::load(transaction, P, ended).await?.unwrap();
            edit.props.active = false;
            edit.write(transaction.batch());
            Ok(())
        })
        .await;
    let round = project.collect(1).await;
    assert_eq!((round.cohorts, round.changing), (1, 2));
    project.now_us += 2 * REST_US as i64;
    // One goes on changing.
    project.change_at(changed[1], project.now_us).await;
    let round = project.collect(1).await;
    assert_eq!((round.cohorts, round.changing), (1, 1));
    assert_eq!(project.collect(1).await, resting(1));
}

/// The documents of runs that rest are read, so they are not many.
#[tokio::test]
async fn many_runs_that_change_all_the_time_do_not_rest() {
    let project = TestProject::new(2 * RUNS as i64).await;
    project.collect(RUNS).await;
    for (number, changing) in project.numbers.iter().zip(1..=RUNS) {
        project.change_at(*number, NOW_US).await;
        assert_eq!(project.collect(1).await.changing, changing);
    }
    project.change_at(project.numbers[RUNS], NOW_US).await;
    let round = project.collect(1).await;
    assert_eq!((round.cohorts, round.changing), (2, 0));
}

/// Runs that rest are looked at again without a change.
#[tokio::test]
async fn runs_are_collected_once_they_have_rested() {
    let project = TestProject::new(FEW_RUNS as i64).await;
    project.collect(1).await;
    let waiting = WaitingProjects::default();
    for number in &project.numbers {
        project.change_at(*number, NOW_US).await;
    }
    let listed = async || {
        let snapshot = project.store.snapshot().await.unwrap();
        let list = keys::uncollected_all(CohortKind::Params, P, keys::ListGeneration::FIRST);
        index_runs_page(&*snapshot, &list, 1_000).await.unwrap().0.len()
    };
    let rested_us = NOW_US + REST_US as i64;
    for now_us in [NOW_US, rested_us - 1, rested_us, rested_us + WAIT_US - 1] {
        project.look(&waiting, now_us).await.unwrap();
        assert_eq!(listed().await, FEW_RUNS, "{now_us}");
    }
    project.look(&waiting, rested_us + WAIT_US).await.unwrap();
    assert_eq!(listed().await, 0);
}

/// The job remembers since when runs wait, and looks at a project again only after a change.
#[tokio::test]
async fn rule_41_a_project_in_which_nothing_has_changed_is_not_looked_at() {
    let project = TestProject::new(FEW_RUNS as i64 + 1).await;
    let waiting = WaitingProjects::default();
    let round = async |now_us: i64| {
        project.look(&waiting, now_us).await.unwrap();
        (project.sizes().await.len(), waiting.get(P))
    };
    let (cohorts, state) = round(NOW_US).await;
    assert_eq!((cohorts, state.waiting_since_us, state.idle_since), (0, Some(NOW_US), None));
    assert_eq!(round(NOW_US + WAIT_US - 1).await.0, 0);
    let (cohorts, state) = round(NOW_US + WAIT_US).await;
    assert_eq!((cohorts, state.waiting_since_us, state.cohorts), (1, None, 1));
    assert!(state.idle_since.is_some(), "nothing is left");
    // A repair lists runs without a change of them.
    let mut batch = Batch::default();
    for number in &project.numbers {
        batch.set(keys::uncollected(CohortKind::Params, P, keys::ListGeneration::FIRST, *number), Vec::new());
    }
    project.store.commit(batch).await.unwrap();
    let looked_us = NOW_US + WAIT_US;
    assert!(round(looked_us + REMEMBERED_US - 1).await.1.idle_since.is_some(), "nothing has changed");
    let (cohorts, state) = round(looked_us + REMEMBERED_US).await;
    assert_eq!((cohorts, state.idle_since), (1, None), "the runs wait for others");
    let (cohorts, state) = round(looked_us + REMEMBERED_US + WAIT_US).await;
    assert_eq!(cohorts, 2);
    project.change(project.numbers[0]).await;
    let before = state.idle_since;
    let (_, state) = round(looked_us + REMEMBERED_US + WAIT_US).await;
    assert!(state.idle_since.is_some() && state.idle_since != before, "one run waits for others");
}
