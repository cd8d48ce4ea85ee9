//! Maintenance jobs: cleanup after deletes, and removal of data with a limited lifetime.
//!
//! Workers run the jobs periodically, and operators request some of them through the backend.
//! The jobs are here because neither service may depend on the other. This crate decides what
//! is deleted, holds the locks, and reads and writes page by page; the worker decides when a
//! job runs, and the backend streams its progress.
//!
//! `PagedSweep` is the loop of the jobs that clear rows, `ProjectPages` the iteration of the jobs that look at runs, and
//! `Pace` the rest between the pages of both.
//!
//! Jobs under a lock (`JobLock`) need it because operators and workers run them concurrently.
//! The others may run in several processes at the same time, because each of their
//! transactions checks what it read.

mod cohort_round;
mod dead_entities;
mod dead_runs;
mod dead_studies;
mod deleted_projects;
mod expired_rows;
mod lock;
mod log_progress;
mod metric_cohorts;
mod orphaned_blobs;
mod pace;
mod paged_sweep;
mod param_cohorts;
mod pending_payloads;
mod project_pages;
mod run_bin;
mod run_blobs;
mod stale_runs;
mod store_format;
mod stray_blobs;
mod tombstones;

#[cfg(test)]
mod testing;

pub use dead_entities::sweep_dead_entities;
pub use dead_runs::sweep_dead_runs;
pub use dead_studies::sweep_dead_studies;
pub use deleted_projects::sweep_deleted_projects;
pub use expired_rows::{
    clear_garbage, drop_abandoned_restores, sweep_credentials, sweep_producers, trim_audit, trim_changes,
};
pub use lock::JobLock;
pub use log_progress::{PartitionProgress, lost_tail, oldest_unapplied_us, partition_progress};
pub use metric_cohorts::{IdleProjects, MetricCohorts, collect_metrics, merge_cohorts};
pub use orphaned_blobs::OrphanedBlobs;
pub use pace::Pace;
pub use param_cohorts::{ParamCohorts, ParamRound, WaitingProjects, collect_params, merge_param_cohorts};
pub use pending_payloads::{PendingUploads, pending_payload_bytes};
pub use run_bin::{DeletionLog, empty_bins};
pub use run_blobs::{BlobPage, DeletedRunBlobs, LeftoverBlobs, deleted_run_number};
pub use stale_runs::{StaleRuns, StaleRunsPage, finish_stale_runs};
pub use store_format::StoreMigration;
pub use stray_blobs::sweep_stray_blobs;
pub use tombstones::{LONGEST_SPOOL_US, TombstonePage, TombstoneSweep};

use matyan_blob::{BlobKey, Blobs};
use matyan_log::LogInspector;
use matyan_model::{ids::NamedProject, project::projects_list};
use matyan_store::Store;

/// Names of jobs, which are also the names of their locks.
pub const FINISH_STALE: &str = "finish-stale";
pub const EMPTY_BIN: &str = "empty-bin";
pub const COLLECT_METRICS: &str = "collect-metrics";
pub const COLLECT_PARAMS: &str = "collect-params";
pub const CLEANUP_TOMBSTONES: &str = "cleanup-tombstones";
pub const CLEANUP_ORPHAN_BLOBS: &str = "cleanup-orphan-blobs";

/// Microseconds since the Unix epoch.
type Clock = dyn Fn() -> i64 + Send + Sync;

/// Dependencies of the jobs.
#[derive(Clone, Copy)]
pub struct Deps<'d> {
    pub store: &'d dyn Store,
    pub log: &'d dyn LogInspector,
    pub blobs: &'d dyn Blobs,
    pub clock: &'d Clock,
}

impl Deps<'_> {
    fn now_us(&self) -> i64 {
        (self.clock)()
    }

    pub async fn projects(&self) -> Result<Vec<NamedProject>, Error> {
        Ok(projects_list(&*self.store.snapshot().await?).await?)
    }
}

/// Outcome of a job for a blob or a run. It is reported immediately, so that an interrupted job
/// loses no counts.
pub enum BlobEvent<'e> {
    /// An orphaned blob was found in a dry run.
    Found {
        key: &'e BlobKey,
    },
    Deleted {
        key: &'e BlobKey,
        bytes: u64,
    },
    /// A blob could not be deleted.
    BlobFailed,
    /// The blobs of a run could not be listed or read.
    RunFailed,
}

/// Receives the events of a job.
pub type BlobObserver<'o> = dyn FnMut(BlobEvent<'_>) + Send + 'o;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] matyan_store::Error),
    #[error(transparent)]
    Log(#[from] matyan_log::Error),
    #[error(transparent)]
    Blobs(#[from] matyan_blob::Error),
    #[error("job {job} is already running elsewhere: retry later")]
    Busy { job: &'static str, holder: Option<[u8; 16]> },
}
