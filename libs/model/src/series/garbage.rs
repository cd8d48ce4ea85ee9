//! Clearing of replaced chunks once no reader can still need them.
//!
//! The key of a garbage row names the chunk and when it is due; the value is empty. Rows of
//! runs that have been swept name chunks that no longer exist, which is harmless.

use matyan_store::{Batch, Commit, Result, Scan, Store};

use crate::ids::{Project, RunNumber, SeriesNumber};
use crate::keys;

/// Number of chunks cleared in one transaction.
const CHUNKS: usize = 4096;

/// Clears replaced chunks that were due before `now_us`, and returns how many. Repeat the call
/// immediately unless it returned 0.
pub async fn garbage_clear(store: &dyn Store, project: Project, now_us: i64) -> Result<usize> {
    let snapshot = store.snapshot().await?;
    let due = keys::garbage_due(project, now_us);
    let page = snapshot.scan(&due, Scan { rows: CHUNKS, ..Scan::default() }).await?;
    let mut batch = Batch::buffered();
    if page.rows.is_empty() {
        return Ok(0);
    }
    for (key, _) in &page.rows {
        let (_, run, series, chunk): (i64, u64, u32, u64) = keys::tail(&keys::garbage_prefix(project), key)?;
        batch.clear(keys::chunk(project, RunNumber(run), SeriesNumber(series), chunk));
        batch.clear(key.clone());
    }
    match store.commit(batch).await? {
        Commit::Done { .. } => Ok(page.rows.len()),
        Commit::Conflict => Ok(0),
    }
}
