//! The dependencies of every handler: storage, the clock, and the two ways to wait until
//! written data is readable.

use std::{sync::Arc, time::Duration};

use matyan_access::{AccessToken, BrowserSecret, ProcessKey, SecretKind};
use matyan_blob::Blobs;
use matyan_log::{LogWriter, NewRecord, Position, Topic};
use matyan_maintenance::{PartitionProgress, partition_progress};
use matyan_model::{
    ids::{Project, RunId},
    keys::{self, LogTopic},
    position::{LogPosition, applied_get, applied_wait, cursor_get, cursor_wait, log_get, partition_log},
    project_quota::ProjectQuotas,
};
use matyan_proto::common::v1 as common;
use matyan_sign_in::{Providers, SignInKey};
use matyan_store::Store;
use matyan_wire::ingestion::RecordFormat;
use tokio::time::Instant;

use super::{
    error::{Error, Result},
    evaluation::Evaluation,
    live_readers::LiveReaders,
    metrics::Metrics,
    run_samples::RunSamples,
    uri_key::UriKey,
};

/// Microseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

pub struct Deps {
    pub store: Arc<dyn Store>,
    pub log: Arc<dyn LogWriter>,
    pub log_format: RecordFormat,
    pub blobs: Arc<dyn Blobs>,
    /// Prefix of artifact URIs as shown to users: `s3://bucket`, `blobs:/`.
    pub blob_uri: String,
    /// Makes and checks payload URIs.
    pub uri_key: UriKey,
    /// Checks the questions of processes without a store.
    pub process_key: ProcessKey,
    pub clock: Clock,
    /// Makes an id for a new entity: UUID text.
    pub new_id: Arc<dyn Fn() -> String + Send + Sync>,
    /// Makes an access token, which cannot be guessed.
    pub new_token: Arc<dyn Fn() -> AccessToken + Send + Sync>,
    /// Makes a secret for a browser, which cannot be guessed either.
    pub new_secret: Arc<dyn Fn(SecretKind) -> BrowserSecret + Send + Sync>,
    /// Encrypts what browsers keep while they sign in with a provider.
    pub sign_in_key: SignInKey,
    /// With whom people sign in.
    pub providers: Arc<Providers>,
    /// Lifetime of cached params of a project.
    pub params_cache_ttl: Duration,
    /// Limits on what projects store.
    pub quotas: Arc<ProjectQuotas>,
    /// Samples of projects, for the planner.
    pub run_samples: RunSamples,
    /// The readers that workers know of.
    pub live_readers: LiveReaders,
    pub evaluation: Evaluation,
    pub metrics: Metrics,
}

/// The end of the log as of some time, and how long to wait until everything before it is applied.
pub(crate) struct LogEnd {
    partitions: Vec<PartitionProgress>,
    deadline: Instant,
}

pub(crate) fn position_view(LogPosition { log, partition, offset }: LogPosition) -> common::LogPosition {
    common::LogPosition { log, partition, offset }
}

/// The longest time a call waits for the worker to apply records.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);

impl Deps {
    /// Notes that someone waits for new data of a project.
    pub(crate) async fn announce_reader(&self, project: Project) {
        self.live_readers.announce(self.store.as_ref(), (self.clock)(), project).await;
    }

    /// Appends records to the ingestion log, and returns the position of each.
    pub(crate) async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<LogPosition>> {
        let count = records.len();
        let positions = self.log.append(Topic::Ingestion, records).await?;
        if positions.len() < count {
            let source =
                matyan_store::Error::corrupt("the log returned fewer positions than it accepted records");
            return Err(Error::Internal(source));
        }
        // The log may have been recreated since a worker last checked it.
        let log = common::LogPosition::UNKNOWN_LOG;
        let position = |at: &Position| LogPosition { log, partition: at.partition, offset: at.offset };
        Ok(positions.iter().map(position).collect())
    }

    /// Waits until everything up to `position` is applied, or everything of one run: others of the
    /// partition may be late.
    pub(crate) async fn wait_applied(
        &self,
        position: LogPosition,
        run: Option<(Project, &RunId)>,
    ) -> Result<()> {
        let waited = async {
            let position = self.resolve_log(position).await?;
            let store = self.store.as_ref();
            let run_applied = async {
                let Some((project, id)) = run else { return std::future::pending().await };
                // At the same time, because the position is mostly applied already.
                let announced = async {
                    self.announce_reader(project).await;
                    std::future::pending().await
                };
                tokio::select! {
                    biased;
                    applied = cursor_wait(store, project, id, position) => applied,
                    never = announced => never,
                }
            };
            tokio::select! {
                applied = applied_wait(store, LogTopic::Ingestion, position) => applied?,
                applied = run_applied => applied?,
            }
            Ok(())
        };
        let waited = tokio::time::timeout(APPLY_TIMEOUT, waited).await;
        waited.unwrap_or_else(|_| {
            Err(Error::NotYetApplied(format!(
                "offset {} is not applied yet: retry; if it stays so, data is sent to another server than \
                 this one",
                position.offset
            )))
        })
    }

    /// Fails if the records of a run are parked: its cursor has then passed records that are not applied.
    pub(crate) async fn check_not_parked(&self, project: Project, id: &RunId) -> Result<()> {
        let cursor = cursor_get(self.store.snapshot().await?.as_ref(), project, id).await?;
        if cursor.is_some_and(|cursor| cursor.is_quarantined) {
            return Err(Error::NotYetApplied(format!(
                "the run `{id}` is in quarantine, and its records are parked: end this with `matyan runs resume {id}`, then retry"
            )));
        }
        Ok(())
    }

    /// Resolves the log number of a position whose producer of the record could not know
    /// it.
    async fn resolve_log(&self, position: LogPosition) -> Result<LogPosition> {
        if position.log != common::LogPosition::UNKNOWN_LOG {
            return Ok(position);
        }
        let snapshot = self.store.snapshot().await?;
        let info = self.log.describe_partition(Topic::Ingestion, position.partition).await?;
        let known = log_get(snapshot.as_ref(), LogTopic::Ingestion).await?;
        let applied = applied_get(snapshot.as_ref(), LogTopic::Ingestion, position.partition).await?;
        Ok(LogPosition { log: partition_log(known, applied, info.identity), ..position })
    }

    /// The end of the log as of now.
    pub(crate) async fn log_end(&self) -> Result<LogEnd> {
        let deadline = Instant::now() + APPLY_TIMEOUT;
        let partitions = partition_progress(self.store.as_ref(), self.log.as_ref());
        let partitions =
            tokio::time::timeout_at(deadline, partitions).await.unwrap_or_else(|_| Ok(Vec::new()));
        Ok(LogEnd { partitions: partitions?, deadline })
    }

    /// Waits for a bounded time until every record of a run that was in the log is applied, or until
    /// the run exists. A timeout is not an error: the caller then uses the current state.
    pub(crate) async fn wait_for_run(&self, project: Project, id: &RunId, end: &LogEnd) -> Result<()> {
        // Other partitions have no records of the run, and may be late.
        let partition = matyan_log::partition_of(id.as_str().as_bytes(), end.partitions.len());
        let Some(PartitionProgress { bounds, log, .. }) = end.partitions.get(partition as usize) else {
            return Ok(());
        };
        // An empty partition has no last record to wait for.
        if bounds.end == bounds.first {
            return Ok(());
        }
        let position = LogPosition { log: *log, partition, offset: bounds.end - 1 };
        // The other runs of the partition may be late as well.
        let store = self.store.as_ref();
        let head = keys::head(project, id);
        let waited = tokio::time::timeout_at(end.deadline, async {
            tokio::select! {
                applied = applied_wait(store, LogTopic::Ingestion, position) => applied,
                created = store.changed(&head, None) => created,
            }
        });
        Ok(waited.await.unwrap_or(Ok(()))?)
    }
}
