//! Projects for a frontier in a process with a store. Whether a project exists is read for every call, because it is one
//! row. Its quotas take more reads, so their answer is used for a second.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use async_trait::async_trait;
use matyan_access::{DatedMap, DatedValue};
use matyan_frontier::ProjectLookup;
use matyan_model::{
    ids::{NamedProject, RunId},
    project::project_find,
    project_quota::ProjectQuotas,
    run::head_get,
};
use matyan_proto::project::v1::ExceededQuota;
use matyan_store::{Result as StoreResult, Store};
use tokio::time::Instant;

type LookupResult<T> = Result<T, Box<dyn StdError + Send + Sync>>;

/// Time for which an answer about quotas is used.
const LIFETIME: Duration = Duration::from_secs(1);

/// Maximum number of answers that are kept: as many as there can be projects.
const MAX_ANSWERS: usize = 10_000;

pub(crate) struct StoredProjects {
    store: Arc<dyn Store>,
    quotas: Arc<ProjectQuotas>,
    /// The quotas that projects had used up.
    answers: DatedMap<String, Option<ExceededQuota>>,
}

impl StoredProjects {
    pub(crate) fn new(store: Arc<dyn Store>, quotas: Arc<ProjectQuotas>) -> Self {
        Self { store, quotas, answers: DatedMap::new(MAX_ANSWERS) }
    }

    async fn read_exceeded_quota(&self, name: &str) -> StoreResult<Option<ExceededQuota>> {
        let snapshot = self.store.snapshot().await?;
        let Some(number) = project_find(snapshot.as_ref(), name).await? else { return Ok(None) };
        let project = NamedProject { number, name: name.to_owned() };
        self.quotas.exceeded(snapshot.as_ref(), &project).await
    }

    fn keep(&self, name: &str, answer: DatedValue<Option<ExceededQuota>>) {
        self.answers.insert(name.to_owned(), answer, is_recent);
    }
}

fn is_recent(answer: &DatedValue<Option<ExceededQuota>>) -> bool {
    answer.is_younger_than(LIFETIME)
}

#[async_trait]
impl ProjectLookup for StoredProjects {
    async fn contains(&self, name: &str) -> LookupResult<bool> {
        let snapshot = self.store.snapshot().await?;
        Ok(project_find(snapshot.as_ref(), name).await?.is_some())
    }

    fn may_limit_runs(&self, name: &str) -> bool {
        self.quotas.runs.of_project(name) > 0
    }

    async fn exceeded_quota(&self, name: &str) -> LookupResult<Option<ExceededQuota>> {
        // Without quotas, data is accepted without a look at the store.
        if self.quotas.is_unlimited(name) {
            return Ok(None);
        }
        if let Some(answer) = self.answers.get(name).filter(is_recent) {
            return Ok(answer.value);
        }
        let at = Instant::now();
        let read = self.read_exceeded_quota(name).await;
        // While the store is away, data is accepted, and one call a second asks.
        let value = read.as_ref().copied().unwrap_or_default();
        self.keep(name, DatedValue { value, at });
        Ok(read?)
    }

    async fn may_have_run(&self, project: &str, run_id: &str) -> LookupResult<bool> {
        let snapshot = self.store.snapshot().await?;
        let Some(number) = project_find(snapshot.as_ref(), project).await? else { return Ok(false) };
        Ok(head_get(snapshot.as_ref(), number, &RunId::new(run_id)).await?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use matyan_model::{ids::Project, keys, keys::Counter, project_quota::Quota};
    use matyan_proto::project::v1::QuotaKind;
    use matyan_store::{Batch, embedded::EmbeddedStore};
    use tokio::time::{advance, pause};

    use super::*;

    #[tokio::test]
    async fn an_answer_about_quotas_is_used_for_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(EmbeddedStore::open(directory.path(), Default::default()).await.unwrap());
        let runs = Quota { limit: 1, project_limits: [("demo".to_owned(), 0)].into() };
        let quotas = Arc::new(ProjectQuotas { runs, ..ProjectQuotas::default() });
        let projects = StoredProjects::new(store.clone(), quotas);
        assert!(projects.may_limit_runs("") && !projects.may_limit_runs("demo"));
        let mut batch = Batch::default();
        batch.add(keys::project_counter(Project::default(), Counter::Runs), 1);
        store.commit(batch).await.unwrap();
        pause();
        projects.keep("", DatedValue::now(None));
        assert_eq!(projects.exceeded_quota("").await.unwrap(), None);
        advance(LIFETIME).await;
        let exceeded = projects.exceeded_quota("").await.unwrap().unwrap();
        assert_eq!(exceeded.kind(), QuotaKind::Runs);
        store.close().await.unwrap();
    }
}
