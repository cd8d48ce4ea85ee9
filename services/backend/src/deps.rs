//! The dependencies of every handler: storage, the clock, and the two ways to wait until
//! written data is readable.

use std::{sync::Arc, time::Duration};

use matyan_blob::Blobs;
use matyan_log::{LogWriter, Topic};
use matyan_maintenance::{PartitionProgress, partition_progress};
use matyan_model::{
    ids::{RunId, RunNumber},
    keys::LogTopic,
    position::{LogPosition, applied_get, applied_wait, log_get, partition_log},
    run::{Document, Head, head_get, run_find},
};
use matyan_proto::{common::v1 as common, limits};
use matyan_record::ingestion::RecordFormat;
use matyan_store::{Snapshot, Store};

use crate::{
    Metrics, UriKey,
    call::Call,
    error::{Error, Result},
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
    pub clock: Clock,
    /// Makes an id for a new entity: UUID text.
    pub new_id: Arc<dyn Fn() -> String + Send + Sync>,
    /// Lifetime of cached params of a project.
    pub params_cache_ttl: Duration,
    pub metrics: Metrics,
}

/// The longest time a call waits for the worker to apply records.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// An existing run, with the snapshot in which it was found.
pub(crate) struct FoundRun {
    pub(crate) snapshot: Box<dyn Snapshot>,
    pub(crate) number: RunNumber,
    pub(crate) document: Document,
}

impl Deps {
    /// Waits until the record at `position` is applied.
    pub(crate) async fn wait_applied(&self, position: LogPosition) -> Result<()> {
        let waited = async {
            let position = self.resolve_log(position).await?;
            Ok(applied_wait(self.store.as_ref(), LogTopic::Ingestion, position).await?)
        };
        let waited = tokio::time::timeout(APPLY_TIMEOUT, waited).await;
        let late = || Error::NotYetApplied(format!("offset {} is not applied yet", position.offset));
        waited.unwrap_or_else(|_| Err(late()))
    }

    /// Resolves the log number of a position whose producer of the record could not know
    /// it.
    async fn resolve_log(&self, position: LogPosition) -> Result<LogPosition> {
        if position.log != common::LogPosition::UNKNOWN_LOG {
            return Ok(position);
        }
        // The snapshot comes first: otherwise records applied in between would seem to
        // be past the end.
        let snapshot = self.store.snapshot().await?;
        let info = self.log.describe(Topic::Ingestion).await?;
        let known = log_get(snapshot.as_ref(), LogTopic::Ingestion).await?;
        let applied = applied_get(snapshot.as_ref(), LogTopic::Ingestion, position.partition).await?;
        let end = info.partitions.get(position.partition as usize).map_or(0, |bounds| bounds.end);
        Ok(LogPosition { log: partition_log(known, applied, info.identity, end), ..position })
    }

    /// The run, if it exists once every record that was in the log when the call arrived is
    /// applied.
    pub(crate) async fn find_run(&self, call: &Call, run_id: &str) -> Result<FoundRun> {
        match self.lookup_run(call, run_id).await? {
            RunLookup::Found(found) => return Ok(*found),
            RunLookup::Deleted => return Err(Error::not_found("run", run_id)),
            RunLookup::Unknown => *call.log_end.get_or_try_init(|| self.wait_for_log_end()).await?,
        }
        match self.lookup_run(call, run_id).await? {
            RunLookup::Found(found) => Ok(*found),
            RunLookup::Deleted | RunLookup::Unknown => Err(Error::not_found("run", run_id)),
        }
    }

    /// Like `run`, but returns `None` for a missing run instead of an error.
    pub(crate) async fn try_find_run(&self, call: &Call, run_id: &str) -> Result<Option<FoundRun>> {
        match self.find_run(call, run_id).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The run in its current state, ignoring records still in the log.
    async fn lookup_run(&self, call: &Call, run_id: &str) -> Result<RunLookup> {
        if !is_run_id(run_id) {
            // No record can create a run with such an id, so there is nothing to
            // wait for.
            return Ok(RunLookup::Deleted);
        }
        let snapshot = self.store.snapshot().await?;
        let id = RunId::new(run_id);
        if let Some((number, document)) = run_find(snapshot.as_ref(), call.project, &id).await? {
            // The run is hidden until the worker applies its delete.
            if document.props.pending_delete {
                return Ok(RunLookup::Deleted);
            }
            return Ok(RunLookup::Found(Box::new(FoundRun { snapshot, number, document })));
        }
        // A tombstone is final, but the records that create an unknown run may still be in the log.
        match head_get(snapshot.as_ref(), call.project, &id).await? {
            Some(Head::Tombstone(_)) => Ok(RunLookup::Deleted),
            Some(Head::Live(_)) | None => Ok(RunLookup::Unknown),
        }
    }

    /// Waits for a bounded time until the records now in the log are applied. A timeout is
    /// not an error: the caller then uses the current state.
    async fn wait_for_log_end(&self) -> Result<()> {
        tokio::time::timeout(APPLY_TIMEOUT, self.log_end_applied()).await.unwrap_or(Ok(()))
    }

    async fn log_end_applied(&self) -> Result<()> {
        let partitions = partition_progress(self.store.as_ref(), self.log.as_ref()).await?;
        // An empty partition has no last record to wait for.
        let ends =
            (0..).zip(partitions).filter(|(_, PartitionProgress { bounds, .. })| bounds.end > bounds.first);
        let waits = ends.map(|(partition, PartitionProgress { bounds, log, .. })| {
            let position = LogPosition { log, partition, offset: bounds.end - 1 };
            applied_wait(self.store.as_ref(), LogTopic::Ingestion, position)
        });
        futures::future::try_join_all(waits).await?;
        Ok(())
    }
}

/// Whether a run can have this id: it is not empty and fits in a key.
pub(crate) fn is_run_id(run_id: &str) -> bool {
    !run_id.is_empty() && run_id.len() <= limits::RUN_ID_BYTES
}

enum RunLookup {
    Found(Box<FoundRun>),
    /// Deleted or about to be: no record in the log can recreate it.
    Deleted,
    Unknown,
}
