//! Writing state of a run: the next free numbers, and counts. Only ingestion writes it, in the
//! transactions that apply data, so it stays exact no matter how often a record is delivered.

use matyan_store::{Batch, Result, Snapshot, Store, Value};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunNumber},
    keys::{self, Counter},
    rows,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct WritingState {
    /// Number of metric series, which is also the next series number.
    #[n(0)]
    pub series: u32,
    #[n(1)]
    pub object_series: u32,
    #[n(2)]
    pub next_block: u64,
    #[n(3)]
    pub next_log_record: u64,
    /// Points written; a repeated step counts each time.
    #[n(4)]
    pub points: u64,
    /// Size of the blocks, objects, lines, and log records written. Every new kind of data adds to it; the
    /// document, the headers of series, and artifacts do not.
    #[n(5)]
    pub bytes: u64,
    /// Receive time of the last data.
    #[n(6)]
    pub last_data_us: i64,
    /// Number of writes to terminal lines.
    #[n(7)]
    #[cbor(default)]
    pub next_line: u64,
    /// Number of edits of series.
    #[n(8)]
    #[cbor(default)]
    pub series_edits: u64,
    /// Number of series of both kinds that were deleted. Their numbers are not reused.
    #[n(9)]
    #[cbor(default)]
    pub deleted_series: u32,
    /// Number of writes of objects.
    #[n(10)]
    #[cbor(default)]
    pub objects: u64,
}

impl WritingState {
    /// Increases with everything that is written to the run, except for its document.
    pub fn writes(&self) -> u64 {
        [
            u64::from(self.series),
            u64::from(self.object_series),
            self.next_log_record,
            self.points,
            self.next_line,
            self.series_edits,
            self.objects,
        ]
        .into_iter()
        .sum()
    }

    /// The share of this run in the counters of its project.
    pub fn project_counters(&self) -> [(Counter, i64); 3] {
        let created = i64::from(self.series) + i64::from(self.object_series);
        let series = created - i64::from(self.deleted_series);
        let points = i64::try_from(self.points).unwrap_or(i64::MAX);
        let bytes = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        [(Counter::Series, series), (Counter::Points, points), (Counter::Bytes, bytes)]
    }
}

pub async fn writing_get(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
) -> Result<WritingState> {
    Ok(rows::get(snapshot, &keys::writing(project, number)).await?.unwrap_or_default())
}

pub fn writing_put(batch: &mut Batch, project: Project, number: RunNumber, writing: &WritingState) {
    batch.set(keys::writing(project, number), rows::encode(writing));
}

/// The rows that change when ingestion or a control message touches a run, as last read.
pub struct RunVersion {
    document: Option<Value>,
    writing: Option<Value>,
}

pub async fn run_version(snapshot: &dyn Snapshot, project: Project, number: RunNumber) -> Result<RunVersion> {
    Ok(RunVersion {
        document: snapshot.get(&keys::document(project, number)).await?,
        writing: snapshot.get(&keys::writing(project, number)).await?,
    })
}

/// Waits until the run differs from `seen`. May also return without a change. The caller limits
/// the wait by dropping the future.
pub async fn run_change_wait(
    store: &dyn Store,
    project: Project,
    number: RunNumber,
    seen: &RunVersion,
) -> Result<()> {
    let document = keys::document(project, number);
    let writing = keys::writing(project, number);
    let documents = std::pin::pin!(store.changed(&document, seen.document.as_ref()));
    let writings = std::pin::pin!(store.changed(&writing, seen.writing.as_ref()));
    futures::future::select(documents, writings).await.factor_first().0
}
