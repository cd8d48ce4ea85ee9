//! Whether someone waits for new data of a project. In a store on other machines, workers let the runs of other
//! projects rest between transactions.
//!
//! Processes with such readers write a time until which workers count on them, and write it again before that time. All
//! of them write the same row, so the readers of each process count until the time that was written last.

use matyan_store::{Batch, Result, Snapshot, Value};
use minicbor::{Decode, Encode};

use crate::{ids::Project, keys, rows};

/// Time for which a reader counts after it was announced, in microseconds: much longer than clocks of machines differ.
pub const COUNTED_US: i64 = 60_000_000;

#[derive(Encode, Decode)]
#[cbor(array)]
struct LiveReadersRow {
    #[n(0)]
    until_us: i64,
}

/// The row of a project, as last read.
#[derive(Clone, Debug, Default)]
pub struct LiveReaders {
    /// The row, for a watch.
    pub row: Option<Value>,
    /// Time until which the project has readers, in microseconds since the Unix epoch.
    pub until_us: i64,
}

/// Announces that someone waits for new data of a project.
pub fn live_readers_put(batch: &mut Batch, project: Project, now_us: i64) {
    let row = LiveReadersRow { until_us: now_us.saturating_add(COUNTED_US) };
    batch.set(keys::live_readers(project), rows::encode(&row));
}

pub async fn live_readers_get(snapshot: &dyn Snapshot, project: Project) -> Result<LiveReaders> {
    let key = keys::live_readers(project);
    let row = snapshot.get(&key).await?;
    let Some(value) = &row else { return Ok(LiveReaders::default()) };
    let LiveReadersRow { until_us } = rows::decode(&key, value)?;
    Ok(LiveReaders { row, until_us })
}
