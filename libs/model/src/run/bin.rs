//! The bin: runs that somebody has deleted, and may bring back for a week. A run in the bin is hidden like a
//! run whose delete is in the log, so no reader has to know the bin; only its props and one index row say
//! that it is there. Its rows, its counts of space and its blobs stay until it is purged, and so does what its
//! client still sends.

use matyan_store::{Range, Result, Snapshot, Transaction};

use super::{Deletion, Document, Head, RunEdit, documents_get, head::head_checked, run_delete};
use crate::{
    ids::{NamedProject, Project, RunId, RunNumber},
    index::index_runs_page_reverse,
    keys,
    position::Cursor,
};

/// Time for which a run stays in the bin.
pub const BIN_KEPT_US: i64 = 7 * 24 * 3_600_000_000;

/// Moves a visible run to the bin. Returns false if it is not visible.
pub async fn bin_put(
    transaction: &mut Transaction,
    project: Project,
    number: RunNumber,
    now_us: i64,
) -> Result<bool> {
    let edit = RunEdit::load(transaction, project, number).await?;
    let Some(mut edit) = edit.filter(|edit| !edit.props.pending_delete) else { return Ok(false) };
    edit.props.pending_delete = true;
    edit.props.binned_us = Some(now_us);
    edit.touch(now_us);
    edit.write(transaction.batch());
    Ok(true)
}

/// Makes a run in the bin visible again. Returns false if it is not in the bin.
pub async fn bin_restore(
    transaction: &mut Transaction,
    project: Project,
    number: RunNumber,
    now_us: i64,
) -> Result<bool> {
    let edit = RunEdit::load(transaction, project, number).await?;
    let Some(mut edit) = edit.filter(|edit| edit.props.binned_us.is_some()) else { return Ok(false) };
    edit.props.pending_delete = false;
    edit.props.binned_us = None;
    edit.touch(now_us);
    edit.write(transaction.batch());
    Ok(true)
}

/// One page of the runs in the bin, the last that was moved there first, and the range of the rest. Damaged
/// ones are left out.
pub async fn binned_list(
    snapshot: &dyn Snapshot,
    project: Project,
    range: &Range,
    rows: usize,
) -> Result<(Vec<(RunNumber, Document)>, Option<Range>)> {
    let (numbers, rest) = index_runs_page_reverse(snapshot, range, rows).await?;
    let documents = documents_get(snapshot, project, &numbers).await?;
    let found = numbers.into_iter().zip(documents);
    let binned = found.filter_map(|(number, document)| {
        document.filter(|document| document.props.binned_us.is_some()).map(|document| (number, document))
    });
    Ok((binned.collect(), rest))
}

/// Deletes a run that was moved to the bin before `before_us`, and returns its id. A run in quarantine stays:
/// only a delete in the log ends the quarantine.
///
/// The log has no record of this deletion. It needs none: the rows that say that the run is in the bin are in
/// every backup, and after a restore the run is purged again.
pub async fn bin_purge(
    transaction: &mut Transaction,
    project: &NamedProject,
    number: RunNumber,
    before_us: i64,
    now_us: i64,
) -> Result<Option<RunId>> {
    let NamedProject { number: project, name } = project;
    let Some(edit) = RunEdit::load(transaction, *project, number).await? else { return Ok(None) };
    if edit.props.binned_us.is_none_or(|binned_us| binned_us >= before_us) {
        return Ok(None);
    }
    let id = RunId::new(edit.props.run_id.as_str());
    let head = head_checked(transaction, *project, &id).await?;
    if head != Some(Head::Live(number)) {
        return Ok(None);
    }
    // A checked read, because a worker may put the run in quarantine now.
    let key = keys::cursor(*project, &id);
    let cursor = transaction.get(&key).await?;
    let cursor = cursor.map(|value| Cursor::decode(&key, &value)).transpose()?.unwrap_or_default();
    if cursor.is_quarantined {
        return Ok(None);
    }
    let deletion = Deletion { at: cursor.position, time_us: now_us, now_us, caller: "", project_name: name };
    run_delete(transaction, *project, &id, head.as_ref(), deletion).await?;
    Ok(Some(id))
}

#[cfg(test)]
mod tests;
