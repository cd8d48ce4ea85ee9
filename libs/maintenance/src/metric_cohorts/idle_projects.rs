//! Facts that the job that collects metrics remembers about projects, so that it reads their lists of runs
//! again only after a change, and does not count the rows of a long list each time.

use std::collections::HashMap;

use matyan_model::{
    ids::Project,
    keys::{self, CohortKind},
    uncollected::ListWear,
};
use matyan_store::{Key, Result, Scan, Snapshot, Value};
use parking_lot::Mutex;

/// Time after which the lists of a project are read in any case: a repair may list runs without a change of them.
const REMEMBERED_US: i64 = 3_600_000_000;
/// Unfolded runs of a project that is remembered.
const UNFOLDED: usize = 64;
/// Projects that are remembered.
const PROJECTS: usize = 10_000;

/// The first rows of a list, without reading more.
const FIRST: Scan = Scan { rows: 1, ..Scan::DEFAULT };
const FEW: Scan = Scan { rows: UNFOLDED, keys_only: true, ..Scan::DEFAULT };

/// The findings of the last look at each project.
#[derive(Default)]
pub struct IdleProjects(Mutex<HashMap<Project, SeenProject>>);

struct SeenProject {
    time_us: i64,
    /// `None` if the project had too many unfolded runs, so it is not idle.
    state: Option<ProjectState>,
    wear: ListWear,
}

/// The rows by which a project shows that no other run can be due. A run that ends, gets points or is edited adds to the
/// counter of changes. A fold does not, but its run is unfolded before it, and not after it. A repair of cohorts clears
/// the first one.
#[derive(PartialEq, Eq)]
pub(super) struct ProjectState {
    changes: Option<Value>,
    unfolded: Vec<Key>,
    first_cohort: Option<Key>,
}

impl ProjectState {
    /// Reads a few rows. `None` if a project has too many unfolded runs to remember them: it is not idle.
    pub(super) async fn read(snapshot: &dyn Snapshot, project: Project) -> Result<Option<Self>> {
        let changes = snapshot.get(&keys::change_count(project)).await?;
        let unfolded = snapshot.scan(&keys::unfolded_all(project), FEW).await?;
        if unfolded.more {
            return Ok(None);
        }
        let cohorts = snapshot
            .scan(&keys::cohorts(CohortKind::Metrics, project), Scan { keys_only: true, ..FIRST })
            .await?;
        let unfolded = unfolded.rows.into_iter().map(|(key, _)| key).collect();
        let first_cohort = cohorts.rows.into_iter().next().map(|(key, _)| key);
        Ok(Some(Self { changes, unfolded, first_cohort }))
    }
}

impl IdleProjects {
    /// Whether no cohort can be due, because nothing has changed since the last look.
    pub(super) fn is_unchanged(&self, project: Project, state: &ProjectState, now_us: i64) -> bool {
        self.0.lock().get(&project).is_some_and(|seen| {
            let age_us = now_us.saturating_sub(seen.time_us);
            (0..REMEMBERED_US).contains(&age_us) && seen.state.as_ref() == Some(state)
        })
    }

    /// The wear of the list that the last look has found.
    pub(super) fn wear(&self, project: Project) -> ListWear {
        self.0.lock().get(&project).map(|seen| seen.wear).unwrap_or_default()
    }

    /// Notes that no cohort is due in a project. The state is from before the look.
    pub(super) fn note(&self, project: Project, state: Option<ProjectState>, wear: ListWear, time_us: i64) {
        let mut seen = self.0.lock();
        if seen.len() >= PROJECTS && !seen.contains_key(&project) {
            // Projects that are deleted, or were not looked at for a long time, make room.
            seen.retain(|_, seen| time_us.saturating_sub(seen.time_us) < REMEMBERED_US);
        }
        if seen.len() < PROJECTS || seen.contains_key(&project) {
            seen.insert(project, SeenProject { time_us, state, wear });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    };

    use async_trait::async_trait;
    use matyan_model::{
        change::change_put,
        cohort::COHORT_RUNS,
        ids::{CohortNumber, RunNumber},
    };
    use matyan_store::{Batch, Commit, Page, Range, Store, Version, embedded::EmbeddedStore};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{Error, metric_cohorts::MetricCohorts};

    const P: Project = Project(0);
    /// Runs that are due, without being enough for a cohort.
    const DUE: u64 = COHORT_RUNS as u64 - 1;

    /// A store that counts the rows that are read.
    struct CountingStore {
        store: EmbeddedStore,
        rows: Arc<AtomicUsize>,
        _directory: tempfile::TempDir,
    }

    struct CountingSnapshot {
        snapshot: Box<dyn Snapshot>,
        rows: Arc<AtomicUsize>,
    }

    #[async_trait]
    impl Store for CountingStore {
        async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
            let snapshot = self.store.snapshot().await?;
            Ok(Box::new(CountingSnapshot { snapshot, rows: self.rows.clone() }))
        }

        async fn commit(&self, batch: Batch) -> Result<Commit> {
            self.store.commit(batch).await
        }

        async fn sync(&self) -> Result<()> {
            self.store.sync().await
        }

        async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
            self.store.changed(key, seen).await
        }

        fn clears_ranges_at_once(&self) -> bool {
            self.store.clears_ranges_at_once()
        }

        fn is_remote(&self) -> bool {
            self.store.is_remote()
        }
    }

    #[async_trait]
    impl Snapshot for CountingSnapshot {
        async fn get(&self, key: &Key) -> Result<Option<Value>> {
            self.rows.fetch_add(1, Ordering::Relaxed);
            self.snapshot.get(key).await
        }

        async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
            self.rows.fetch_add(keys.len(), Ordering::Relaxed);
            self.snapshot.get_many(keys).await
        }

        async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
            let page = self.snapshot.scan(range, scan).await?;
            self.rows.fetch_add(1 + page.rows.len(), Ordering::Relaxed);
            Ok(page)
        }

        fn version(&self) -> Version {
            self.snapshot.version()
        }
    }

    impl CountingStore {
        async fn open() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
            Self { store, rows: Arc::default(), _directory: directory }
        }

        async fn write(&self, put: impl FnOnce(&mut Batch)) {
            let mut batch = Batch::default();
            put(&mut batch);
            assert!(matches!(self.store.commit(batch).await.unwrap(), Commit::Done { .. }));
        }

        /// Looks for due runs, and returns how many rows it reads.
        async fn look(&self, idle: &IdleProjects, time_us: &Arc<AtomicI64>) -> usize {
            let before = self.rows.load(Ordering::Relaxed);
            let time_us = time_us.clone();
            let clock = move || time_us.load(Ordering::Relaxed);
            let cohorts = MetricCohorts::new(self, &clock);
            cohorts.collect_changed(idle, P, [1; 16], &CancellationToken::new()).await.unwrap();
            self.rows.load(Ordering::Relaxed) - before
        }
    }

    fn end(batch: &mut Batch, number: u64) {
        batch.set(keys::index_active(P, false, RunNumber(number)), Vec::new());
        batch.set(
            keys::uncollected(CohortKind::Metrics, P, keys::ListGeneration::FIRST, RunNumber(number)),
            Vec::new(),
        );
    }

    #[tokio::test]
    async fn rule_41_a_project_without_changes_is_not_looked_through_again() {
        const FEW_ROWS: usize = 10;
        let store = CountingStore::open().await;
        let number = RunNumber(1);
        store
            .write(|batch| {
                (1..=DUE).for_each(|number| end(batch, number));
                batch.set(keys::unfolded(P, number), Vec::new());
            })
            .await;
        let idle = IdleProjects::default();
        let time_us = Arc::new(AtomicI64::new(1_000_000));
        let look = async || store.look(&idle, &time_us).await;
        assert!(look().await > DUE as usize);
        for _ in 0..3 {
            let rows = look().await;
            assert!(rows < FEW_ROWS, "{rows} rows");
        }
        let folded = |batch: &mut Batch| {
            batch.clear(keys::unfolded(P, number));
        };
        store.write(folded).await;
        assert!(look().await > DUE as usize, "a run is folded");
        assert!(look().await < FEW_ROWS);
        let begun = |batch: &mut Batch| {
            batch.set(keys::cohort(CohortKind::Metrics, P, CohortNumber(1)), Vec::new());
        };
        store.write(begun).await;
        assert!(look().await > DUE as usize, "the cohorts have changed");
        assert!(look().await < FEW_ROWS);
        time_us.fetch_add(REMEMBERED_US, Ordering::Relaxed);
        assert!(look().await > DUE as usize, "the last look was long ago");
        assert!(look().await < FEW_ROWS);
        // A run whose end makes a cohort due. Its summaries are missing, but the cohort is attempted.
        store
            .write(|batch| {
                end(batch, DUE + 1);
                change_put(batch, P, RunNumber(DUE + 1), 1, "");
            })
            .await;
        assert!(look().await > DUE as usize, "a run has ended");
    }

    #[tokio::test]
    async fn rule_41_a_long_list_is_not_counted_again_after_each_change() {
        const LISTED: usize = 5_000;
        // A project with many unfolded runs is not idle.
        for unfolded in [0, UNFOLDED + 1] {
            let store = CountingStore::open().await;
            store
                .write(|batch| {
                    for number in (1..=LISTED as u64).map(RunNumber) {
                        let first = keys::ListGeneration::FIRST;
                        batch.set(keys::uncollected(CohortKind::Metrics, P, first, number), Vec::new());
                    }
                    for number in (1..=unfolded as u64).map(RunNumber) {
                        batch.set(keys::unfolded(P, number), Vec::new());
                    }
                    batch.add(keys::uncollected_left(CohortKind::Metrics, P), LISTED as i64 - 1);
                })
                .await;
            let idle = IdleProjects::default();
            let time_us = Arc::new(AtomicI64::new(1_000_000));
            let look = async || store.look(&idle, &time_us).await;
            let first = look().await;
            store
                .write(|batch| {
                    change_put(batch, P, RunNumber(1), 1, "");
                })
                .await;
            let second = look().await;
            assert!(second + LISTED <= first, "{second} rows after {first}");
        }
    }

    #[tokio::test]
    async fn rule_41_few_projects_are_remembered() {
        let store = CountingStore::open().await;
        let idle = IdleProjects::default();
        let state = async |project| ProjectState::read(&*store.snapshot().await?, project).await;
        let note = async |project, time_us| {
            idle.note(project, state(project).await?, ListWear::default(), time_us);
            Ok::<_, Error>(())
        };
        for number in 0..PROJECTS as u32 + 5 {
            note(Project(number), 1).await.unwrap();
        }
        assert_eq!(idle.0.lock().len(), PROJECTS);
        note(Project(u32::MAX), 1 + REMEMBERED_US).await.unwrap();
        assert_eq!(idle.0.lock().len(), 1, "those that were not looked at for a long time make room");
    }
}
