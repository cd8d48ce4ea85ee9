//! Samples of the runs of projects, from which the planner estimates how many runs a probe finds. They are kept for
//! a few seconds: a page of the UI plans several queries, and each scan of a large project would sample it again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use matyan_model::{
    ids::{Project, RunNumber},
    index::DocumentIndex,
    run::runs_sample,
};
use matyan_store::{Error, Result, Snapshot};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// Time for which a sample is used: estimates need no newer one.
const LIFETIME: Duration = Duration::from_secs(10);

/// Projects whose samples are kept.
const MAX_PROJECTS: usize = 8;

/// Largest sample that is kept.
const MAX_BYTES: usize = 2 << 20;

/// Memory of an index row apart from its key.
const ROW_BYTES: usize = 64;

/// A run of a sample, with the index rows that its document calls for.
pub(crate) struct SampledRun {
    pub(crate) number: RunNumber,
    pub(crate) index: DocumentIndex,
}

/// Runs of a sample. Damaged ones are left out.
pub(crate) type RunSample = Arc<[SampledRun]>;

struct KeptSample {
    runs: RunSample,
    has_params: bool,
    at: Instant,
}

/// The samples that are kept. Cheap to clone; clones share them.
#[derive(Clone, Default)]
pub struct RunSamples(Arc<Mutex<HashMap<Project, KeptSample>>>);

impl RunSamples {
    /// Returns a sample of a project that is at most a few seconds old. Without `needs_params`, the params of
    /// its runs may be missing, because they may be large.
    pub(crate) async fn get(
        &self,
        snapshot: &dyn Snapshot,
        project: Project,
        needs_params: bool,
    ) -> Result<RunSample> {
        if let Some(runs) = self.kept(project, needs_params) {
            return Ok(runs);
        }
        let mut runs = Vec::new();
        for (number, document) in runs_sample(snapshot, project).await? {
            let index = if needs_params {
                DocumentIndex::of_run(snapshot, project, number, &document).await
            } else {
                DocumentIndex::without_params(snapshot, project, number, &document).await
            };
            match index {
                Ok(index) => runs.push(SampledRun { number, index }),
                Err(Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
            // Large params take a while.
            tokio::task::yield_now().await;
        }
        let runs: RunSample = runs.into();
        self.keep(project, KeptSample { runs: runs.clone(), has_params: needs_params, at: Instant::now() });
        Ok(runs)
    }

    fn kept(&self, project: Project, needs_params: bool) -> Option<RunSample> {
        let samples = self.lock();
        let sample = samples.get(&project)?;
        let is_usable = sample.at.elapsed() < LIFETIME && (sample.has_params || !needs_params);
        is_usable.then(|| sample.runs.clone())
    }

    /// Keeps a sample, unless it is large or all samples that are kept are of other projects, and recent.
    fn keep(&self, project: Project, sample: KeptSample) {
        let mut samples = self.lock();
        samples.retain(|other, kept| *other != project && kept.at.elapsed() < LIFETIME);
        if samples.len() < MAX_PROJECTS && bytes(&sample.runs) <= MAX_BYTES {
            samples.insert(project, sample);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Project, KeptSample>> {
        self.0.lock()
    }
}

fn bytes(runs: &[SampledRun]) -> usize {
    runs.iter().map(|run| run.index.key_bytes() + ROW_BYTES * run.index.len()).sum()
}

#[cfg(test)]
mod tests {
    use matyan_model::{ids::RunId, run::run_create};
    use matyan_store::{Store, Transaction, embedded::EmbeddedStore};

    use super::*;

    const PROJECT: Project = Project(1);

    async fn create(store: &EmbeddedStore, id: &str, created_us: i64) {
        let mut transaction = Transaction::new(store.snapshot().await.unwrap());
        let run = run_create(&mut transaction, PROJECT, &RunId::new(id), created_us).await.unwrap();
        run.write(transaction.batch());
        store.commit(transaction.into_batch()).await.unwrap();
    }

    #[tokio::test]
    async fn a_sample_is_used_for_some_seconds_and_has_params_if_they_are_needed() {
        let directory = tempfile::TempDir::new().unwrap();
        let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
        create(&store, "a", 1).await;
        let samples = RunSamples::default();
        let runs = async |needs_params| {
            let snapshot = store.snapshot().await.unwrap();
            samples.get(snapshot.as_ref(), PROJECT, needs_params).await.unwrap().len()
        };
        assert_eq!(runs(false).await, 1);
        create(&store, "b", 2).await;
        assert_eq!(runs(false).await, 1, "the sample is kept");
        assert_eq!(runs(true).await, 2, "the kept sample has no params");
        create(&store, "c", 3).await;
        assert_eq!(runs(false).await, 2, "a sample with params serves both");
        samples.lock().get_mut(&PROJECT).unwrap().at -= LIFETIME;
        assert_eq!(runs(false).await, 3, "the sample is too old");
    }

    #[test]
    fn few_samples_are_kept() {
        let samples = RunSamples::default();
        let keep = |project: u32| {
            let sample = KeptSample { runs: Arc::new([]), has_params: false, at: Instant::now() };
            samples.keep(Project(project), sample);
        };
        for project in 0..=MAX_PROJECTS as u32 {
            keep(project);
        }
        assert_eq!(samples.lock().len(), MAX_PROJECTS);
        assert!(samples.kept(Project(MAX_PROJECTS as u32), false).is_none());
        samples.lock().get_mut(&Project(0)).unwrap().at -= LIFETIME;
        keep(MAX_PROJECTS as u32);
        assert!(samples.kept(Project(0), false).is_none());
        assert!(samples.kept(Project(MAX_PROJECTS as u32), false).is_some());
    }
}
