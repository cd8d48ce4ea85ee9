//! Runs that change at any moment while their values are collected, merged and read. The values are compared
//! with the summaries of the runs.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use matyan_model::{
    branch::{Ancestor, Branch, branch_put},
    cohort::{MetricStatistic, cohorts_page, collected_values_page},
    ids::{Job, RunId, SeriesNumber},
    keys::{self, SeriesKind},
    lock::job_last_success,
    metric::{metric_series_create, metric_series_find, metric_series_list},
    position::LogPosition,
    run::{Deletion, Head, RunEdit, bin_put, bin_restore, run_create, run_delete, sweep_step},
    series::{
        ABSENT, LiveRow, MetricHeader, Point, Removal, RunRef, StepRange, StepRemoval, WrittenPoints,
        fold_run, folded_summaries, remove_folded_steps,
    },
    series_edit::{SeriesName, series_drop, series_rename},
    uncollected::uncollected_renew,
};
use matyan_store::{Batch, Key, Range, Scan, Transaction};
use matyan_value::Context;

use super::*;
use crate::{
    COLLECT_METRICS, JobLock,
    cohort_round::REWRITTEN_US,
    testing::{ChangingRuns, Random},
};

const P: Project = Project(0);
const NAMES: [&str; 3] = ["loss", "a/b", "rare"];
const COHORT: usize = 4;
/// Rows of the list of uncollected metrics that are read at a time.
const LISTED: usize = 4;

#[derive(Clone, Debug)]
struct KnownRun {
    id: RunId,
    next_series: u32,
    next_block: u64,
    is_deleted: bool,
}

struct Known {
    random: Random,
    runs: BTreeMap<RunNumber, KnownRun>,
    /// Runs whose values may have changed since this was cleared.
    changed: BTreeSet<RunNumber>,
    created: i64,
    counts: BTreeMap<&'static str, u32>,
}

type ChangingStore = crate::testing::ChangingStore<Known>;

impl ChangingRuns for Known {
    fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    async fn change(&mut self, store: &ChangingStore) {
        store.change(self).await;
    }
}

fn context(number: u64) -> Context {
    Context::parse(if number == 0 { "" } else { r#"{"subset":"val"}"# }).unwrap()
}

impl ChangingStore {
    async fn open(seed: u64, created: u64) -> Arc<Self> {
        let known = Known {
            random: Random(seed),
            runs: BTreeMap::new(),
            changed: BTreeSet::new(),
            created: 0,
            counts: BTreeMap::new(),
        };
        let changing = Self::with_runs(known).await;
        for _ in 0..created {
            changing.create(&mut *changing.known.lock().await).await;
        }
        changing
    }

    async fn change(&self, known: &mut Known) {
        let kind = known.random.below(12);
        let live: Vec<_> = known.runs.iter().filter(|(_, run)| !run.is_deleted).map(|(it, _)| *it).collect();
        if kind == 0 || live.len() < 20 {
            return self.create(known).await;
        }
        let number = live[known.random.below(live.len() as u64) as usize];
        let name = match kind {
            1..=3 => self.log_points(known, number).await,
            4 | 5 => self.fold(known, number).await,
            6 => self.end_or_resume(number).await,
            7 => self.rename(known, number).await,
            8 => self.remove_steps(known, number).await,
            9 => self.delete(known, number).await,
            10 => self.sweep(known).await,
            _ => self.move_to_bin_and_back(number).await,
        };
        *known.counts.entry(name).or_default() += 1;
    }

    async fn create(&self, known: &mut Known) {
        known.created += 1;
        let created_us = known.created * 1_000;
        let id = RunId::new(format!("r{}", known.created));
        let is_active = known.random.below(4) == 0;
        let is_branch = known.random.below(8) == 0 && !known.runs.is_empty();
        let parent = known.runs.keys().next().copied();
        let mut created = RunNumber::default();
        self.write(async |transaction| {
            let mut edit = run_create(transaction, P, &id, created_us).await?;
            created = edit.number();
            edit.props.active = is_active;
            edit.write(transaction.batch());
            if let Some(parent) = parent.filter(|_| is_branch) {
                let branch = Branch::of(Ancestor::new(parent, 5, 1), &Branch::default()).unwrap();
                branch_put(transaction.batch(), P, created, &branch);
            }
            Ok(())
        })
        .await;
        let run = KnownRun { id, next_series: 0, next_block: 0, is_deleted: false };
        known.runs.insert(created, run);
        known.changed.insert(created);
        self.log_points(known, created).await;
        *known.counts.entry("create").or_default() += 1;
    }

    /// Writes points of a series, which may come before points that are folded.
    async fn log_points(&self, known: &mut Known, number: RunNumber) -> &'static str {
        let name = NAMES[known.random.below(3) as usize];
        let context = context(known.random.below(2));
        let mut points = Vec::new();
        for _ in 0..=known.random.below(2) {
            let step = known.random.below(40).cast_signed();
            let value = match known.random.below(9) {
                0 => f64::NAN,
                1 => f64::INFINITY,
                _ => known.random.below(1_000) as f64 / 7.0,
            };
            points.push(Point { step, value, epoch: ABSENT, time_us: step });
        }
        let run = known.runs.get_mut(&number).unwrap();
        let mut is_new = false;
        self.write(async |transaction| {
            let digest = context.digest();
            let found = metric_series_find(transaction.unchecked(), P, number, name, &digest).await?;
            is_new = found.is_none();
            let series = found.unwrap_or(SeriesNumber(run.next_series));
            let batch = transaction.batch();
            if is_new {
                let context = context.stored().to_owned();
                let header = MetricHeader { name: name.into(), context, dtype: "float".into() };
                metric_series_create(batch, P, number, series, &header, &digest);
            }
            let mut written = WrittenPoints::default();
            for point in &points {
                written.push(series, *point);
            }
            batch.set(keys::block(P, number, run.next_block), written.blocks().remove(0));
            batch.set(keys::unfolded(P, number), Vec::new());
            Ok(())
        })
        .await;
        run.next_series += u32::from(is_new);
        run.next_block += 1;
        known.changed.insert(number);
        "log"
    }

    async fn fold(&self, known: &mut Known, number: RunNumber) -> &'static str {
        let id = &known.runs[&number].id;
        let live = LiveRow { key: keys::head(P, id), value: Head::Live(number).encode() };
        let run = RunRef { project: P, number };
        fold_run(&self.store, run, &live, true, &|| 0).await.unwrap();
        if known.random.below(3) > 0 {
            // As the fold thread does, some time later.
            self.write(async |transaction| {
                transaction.batch().clear(keys::unfolded(P, number));
                Ok(())
            })
            .await;
        }
        "fold"
    }

    /// Folds most runs, as when nothing was logged for a while.
    async fn fold_most(&self) {
        let mut known = self.known.lock().await;
        let live: Vec<_> = known.runs.iter().filter(|(_, run)| !run.is_deleted).map(|(it, _)| *it).collect();
        for number in live {
            if known.random.below(8) > 0 {
                self.fold(&mut known, number).await;
            }
        }
    }

    async fn end_or_resume(&self, number: RunNumber) -> &'static str {
        self.write(async |transaction| {
            if let Some(mut edit) = RunEdit::load(transaction, P, number).await? {
                edit.props.active = !edit.props.active;
                edit.write(transaction.batch());
            }
            Ok(())
        })
        .await;
        "end or resume"
    }

    /// Renames a series, or drops it.
    async fn rename(&self, known: &mut Known, number: RunNumber) -> &'static str {
        let new = NAMES[known.random.below(3) as usize];
        let new = SeriesName {
            kind: SeriesKind::Metric,
            name: new.into(),
            context: context(known.random.below(2)),
        };
        let is_dropped = known.random.below(3) == 0;
        if is_dropped {
            self.fold(known, number).await;
        }
        let run = RunRef { project: P, number };
        self.write(async |transaction| {
            let mut batch = Batch::default();
            let snapshot = transaction.unchecked();
            let listed = metric_series_list(snapshot, P, number).await?;
            let taken =
                metric_series_find(snapshot, P, number, &new.name, &new.context.digest()).await?.is_some();
            if let Some((series, header)) = listed.first() {
                let context = Context::parse(&header.context).unwrap();
                let old = SeriesName { kind: SeriesKind::Metric, name: header.name.clone(), context };
                if is_dropped {
                    let steps = StepRange::ALL;
                    let removal = StepRemoval { run, series: *series, steps, now_us: 0 };
                    remove_folded_steps(snapshot, &mut batch, removal).await?;
                    series_drop(snapshot, &mut batch, run, *series, &old).await?;
                } else if !taken {
                    series_rename(snapshot, &mut batch, run, *series, (&old, &new)).await?;
                }
            }
            transaction.batch().append(batch);
            Ok(())
        })
        .await;
        known.changed.insert(number);
        "rename"
    }

    async fn remove_steps(&self, known: &mut Known, number: RunNumber) -> &'static str {
        self.fold(known, number).await;
        let first = known.random.below(40).cast_signed();
        let steps = StepRange::new(first, first + 9);
        let run = RunRef { project: P, number };
        self.write(async |transaction| {
            let mut batch = Batch::default();
            let listed = metric_series_list(transaction.unchecked(), P, number).await?;
            if let Some((series, _)) = listed.last() {
                let removal = StepRemoval { run, series: *series, steps, now_us: 0 };
                let removed = remove_folded_steps(transaction.unchecked(), &mut batch, removal).await?;
                assert_ne!(removed, Removal::InProgress);
            }
            transaction.batch().append(batch);
            Ok(())
        })
        .await;
        known.changed.insert(number);
        "remove"
    }

    async fn delete(&self, known: &mut Known, number: RunNumber) -> &'static str {
        let run = known.runs.get_mut(&number).unwrap();
        let at = LogPosition::default();
        let deletion = Deletion { at, time_us: 5, now_us: 5, caller: "", project_name: "" };
        self.write(async |transaction| {
            run_delete(transaction, P, &run.id, Some(&Head::Live(number)), deletion).await.map(drop)
        })
        .await;
        run.is_deleted = true;
        known.changed.insert(number);
        "delete"
    }

    /// Does a step of the sweep of a deleted run.
    async fn sweep(&self, known: &mut Known) -> &'static str {
        let deleted: Vec<_> =
            known.runs.iter().filter(|(_, run)| run.is_deleted).map(|(it, _)| *it).collect();
        if !deleted.is_empty() {
            let number = deleted[known.random.below(deleted.len() as u64) as usize];
            sweep_step(&self.store, P, number).await.unwrap();
        }
        "sweep"
    }

    async fn move_to_bin_and_back(&self, number: RunNumber) -> &'static str {
        self.write(async |transaction| {
            if !bin_put(transaction, P, number, 9).await? {
                bin_restore(transaction, P, number, 9).await?;
            }
            Ok(())
        })
        .await;
        "bin"
    }

    /// Takes one step of renewing the list of uncollected metrics, like a job that is then interrupted.
    async fn renew_list(&self) {
        let clock = || 1_000_000;
        let mut lock = JobLock::acquire(self, &clock, COLLECT_METRICS, P, [4; 16]).await.unwrap();
        let renew = async |mut transaction: Transaction| {
            let is_done = uncollected_renew(&mut transaction, CohortKind::Metrics, P).await?;
            Ok::<_, Error>((transaction, is_done))
        };
        let is_done = lock.write(renew).await.unwrap();
        lock.release(Ok::<_, Error>(())).await.unwrap();
        let name = if is_done { "renewed list" } else { "list in two generations" };
        *self.known.lock().await.counts.entry(name).or_default() += 1;
    }

    /// The runs with rows in a list.
    async fn listed(&self, store: &dyn Store, all: Range) -> HashSet<RunNumber> {
        let page = store.snapshot().await.unwrap().scan(&all, Scan::default()).await.unwrap();
        let numbers = page.rows.iter().map(|(key, _)| keys::tail::<(u64,)>(&all.start, key).unwrap());
        numbers.map(|(number,)| RunNumber(number)).collect()
    }

    /// Reads the values of a metric as a table of runs does, while runs change, and compares the values of runs that have
    /// not changed in the meantime with their summaries. Returns the number of values that cohorts had.
    async fn check(&self, name: &str, context: &Context, statistic: MetricStatistic) -> usize {
        self.known.lock().await.changed.clear();
        let mut listed = self.listed(self, keys::unfolded_all(P)).await;
        listed.extend(self.listed(self, keys::branches(P)).await);
        let mut list = UncollectedReader::new(CohortKind::Metrics, P);
        loop {
            if self.known.lock().await.random.below(8) == 0 {
                self.renew_list().await;
            }
            let snapshot = self.snapshot().await.unwrap();
            let Some(numbers) = list.next_runs(&*snapshot, LISTED).await.unwrap() else { break };
            listed.extend(numbers);
        }
        let mut read = BTreeMap::new();
        let mut rest = Some(keys::cohorts(CohortKind::Metrics, P));
        while let Some(range) = rest {
            let snapshot = self.snapshot().await.unwrap();
            let metric = (name, &context.digest());
            let page = collected_values_page(&*snapshot, P, &range, metric, statistic, 1).await.unwrap();
            for (number, value) in page.values.into_iter().filter(|(number, _)| !listed.contains(number)) {
                let before = read.insert(number, value.to_bits());
                // A run that has changed may have moved to a cohort with its later value.
                let is_same = before.is_none_or(|before| before == value.to_bits());
                let has_changed = self.known.lock().await.changed.contains(&number);
                assert!(is_same || has_changed, "{number} is in two cohorts");
            }
            rest = page.rest;
            if self.known.lock().await.random.below(8) == 0 {
                self.collect(&self.store).await;
            }
        }
        let known = self.known.lock().await;
        let snapshot = self.store.snapshot().await.unwrap();
        for (number, run) in &known.runs {
            if run.is_deleted || known.changed.contains(number) || listed.contains(number) {
                continue;
            }
            let found = metric_series_find(&*snapshot, P, *number, name, &context.digest()).await.unwrap();
            let mut expected = None;
            if let Some(series) = found {
                let summaries = folded_summaries(&*snapshot, P, &[(*number, series)]).await.unwrap();
                expected = summaries[0].as_ref().map(|summary| statistic.of(summary).to_bits());
            }
            assert_eq!(read.get(number).copied(), expected, "{number} {name} {statistic:?} {run:?}");
        }
        read.len()
    }

    async fn collect(&self, store: &dyn Store) {
        let stop = CancellationToken::new();
        let cohorts = MetricCohorts::new(store, &|| 1_000_000).of_runs(COHORT);
        cohorts.collect(P, [1; 16], &stop).await.unwrap();
        cohorts.merge(P, [2; 16], &stop).await.unwrap();
    }
}

#[tokio::test]
async fn rule_131_values_of_cohorts_are_the_values_of_summaries() {
    for seed in 1..=4_u64 {
        let changing = ChangingStore::open(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 24).await;
        let mut collected = 0;
        for round in 0..60_u64 {
            for _ in 0..6 {
                let mut known = changing.known.lock().await;
                changing.change(&mut known).await;
            }
            if round % 2 == 0 {
                changing.fold_most().await;
                changing.collect(&*changing).await;
            }
            let statistics =
                [MetricStatistic::Last, MetricStatistic::First, MetricStatistic::Min, MetricStatistic::Max];
            let name = NAMES[(round % 3) as usize];
            let statistic = statistics[(round % 4) as usize];
            collected += changing.check(name, &context(round / 3 % 2), statistic).await;
        }
        let known = changing.known.lock().await;
        assert!(collected > 100, "{collected}");
        assert!(
            known.counts.len() == 11 && known.counts.values().all(|count| *count > 5),
            "{:?}",
            known.counts
        );
    }
}

/// Collects everything that can be collected, and returns the numbers of runs of the cohorts.
async fn sizes(changing: &ChangingStore) -> Vec<usize> {
    let snapshot = changing.store.snapshot().await.unwrap();
    let (cohorts, _) =
        cohorts_page(&*snapshot, CohortKind::Metrics, P, &keys::cohorts(CohortKind::Metrics, P))
            .await
            .unwrap();
    cohorts.iter().map(|cohort| cohort.members.len()).collect()
}

/// Twelve runs in three cohorts.
async fn collected() -> (Arc<ChangingStore>, Vec<RunNumber>) {
    let changing = ChangingStore::open(77, 12).await;
    let mut known = changing.known.lock().await;
    let numbers: Vec<_> = known.runs.keys().copied().collect();
    for number in &numbers {
        changing
            .write(async |transaction| {
                let mut edit = RunEdit::load(transaction, P, *number).await?.unwrap();
                edit.props.active = false;
                edit.write(transaction.batch());
                transaction.batch().clear(keys::branch(P, *number));
                Ok(())
            })
            .await;
        changing.fold(&mut known, *number).await;
        changing
            .write(async |transaction| {
                transaction.batch().clear(keys::unfolded(P, *number));
                Ok(())
            })
            .await;
    }
    changing.collect(&changing.store).await;
    assert_eq!(sizes(&changing).await, [4, 4, 4]);
    let uncollected = changing
        .listed(&changing.store, keys::uncollected_all(CohortKind::Metrics, P, keys::ListGeneration::FIRST))
        .await;
    assert!(uncollected.is_empty());
    drop(known);
    (changing, numbers)
}

/// The rows of values of all cohorts.
async fn column_keys(changing: &ChangingStore) -> Vec<Key> {
    let snapshot = changing.store.snapshot().await.unwrap();
    let page = snapshot.scan(&keys::cohort_columns_all(P), Scan::default()).await.unwrap();
    page.rows.into_iter().map(|(key, _)| key).collect()
}

async fn delete(changing: &ChangingStore, number: RunNumber) {
    let mut known = changing.known.lock().await;
    changing.delete(&mut known, number).await;
    while !sweep_step(&changing.store, P, number).await.unwrap() {}
}

/// Values of a deleted run do not stay in a cohort that is more than half full.
#[tokio::test]
async fn a_cohort_that_runs_have_left_is_written_again_after_a_week() {
    let (changing, numbers) = collected().await;
    let before = column_keys(&changing).await;
    delete(&changing, numbers[1]).await;
    assert_eq!(sizes(&changing).await, [3, 4, 4]);
    for (now_us, is_cleared) in [(REWRITTEN_US, false), (REWRITTEN_US + 2_000_000, true)] {
        let clock = move || now_us;
        let merging = MetricCohorts::new(&changing.store, &clock).of_runs(COHORT);
        assert!(!merging.merge(P, [2; 16], &CancellationToken::new()).await.unwrap());
        assert_eq!(sizes(&changing).await, if is_cleared { [4, 4, 3] } else { [3, 4, 4] });
        let first = &before[0];
        assert_eq!(column_keys(&changing).await.contains(first), !is_cleared);
    }
}

#[tokio::test]
async fn cohorts_of_deleted_runs_are_merged_and_cleared() {
    let (changing, mut numbers) = collected().await;
    // One run of each of the first two cohorts is left, and none of the last.
    let left = [numbers.remove(0), numbers.remove(3)];
    for number in numbers {
        delete(&changing, number).await;
    }
    assert_eq!(sizes(&changing).await, [1, 1, 0]);
    let merging = MetricCohorts::new(&changing.store, &|| 2_000_000).of_runs(COHORT);
    merging.merge(P, [2; 16], &CancellationToken::new()).await.unwrap();
    assert_eq!(sizes(&changing).await, [2]);
    let snapshot = changing.store.snapshot().await.unwrap();
    let collected = job_last_success(&*snapshot, Job::new(COLLECT_METRICS, P)).await.unwrap();
    assert_eq!(collected, Some(1_000_000), "merging is not a success of the job that collects");
    let (cohorts, _) =
        cohorts_page(&*snapshot, CohortKind::Metrics, P, &keys::cohorts(CohortKind::Metrics, P))
            .await
            .unwrap();
    assert_eq!(cohorts[0].members, left);
    let own = keys::cohort_columns(P, cohorts[0].cohort);
    let rows = column_keys(&changing).await;
    assert!(!rows.is_empty() && rows.iter().all(|key| own.contains(key)), "the others are cleared");
}
