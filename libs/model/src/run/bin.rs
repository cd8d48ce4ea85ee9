//! The bin: runs that someone has deleted, and may bring back for a week. A run in the bin is hidden like a
//! run whose deletion is in the log, so readers need not know the bin; only its props and one index row say
//! that it is in the bin. Its rows, its counts of space and its blobs stay until it is purged, and so does data
//! that its client still sends.

use matyan_store::{Range, Result, Snapshot, Transaction};

use super::{Document, Head, PURGE_BEGUN_US, RunEdit, documents_get, head::head_checked, pending_delete_put};
use crate::{
    ids::{Project, RunId, RunNumber},
    index::{index_page, index_runs_page_reverse},
    keys::{self, EntityKind},
    quarantine::quarantine_delete,
};

/// Time for which a run stays in the bin.
pub const BIN_KEPT_US: i64 = 7 * 24 * 3_600_000_000;

/// Moves a visible run to the bin. Returns false if the run is not visible.
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

/// Makes a run in the bin visible again, without links to tags and experiments that were deleted while it was in the
/// bin: their sweep finds linked runs by index rows, which a run in the bin does not have. Returns false if the run is
/// not in the bin.
pub async fn bin_restore(
    transaction: &mut Transaction,
    project: Project,
    number: RunNumber,
    now_us: i64,
) -> Result<bool> {
    let edit = RunEdit::load(transaction, project, number).await?;
    let Some(mut edit) = edit.filter(|edit| edit.props.is_in_bin()) else { return Ok(false) };
    edit.props.pending_delete = false;
    edit.props.binned_us = None;
    let mut tags = Vec::with_capacity(edit.props.tags.len());
    for tag in std::mem::take(&mut edit.props.tags) {
        if exists(transaction, project, EntityKind::Tag, &tag).await? {
            tags.push(tag);
        }
    }
    edit.props.tags = tags;
    if let Some(experiment) = edit.props.experiment.take()
        && exists(transaction, project, EntityKind::Experiment, &experiment).await?
    {
        edit.props.experiment = Some(experiment);
    }
    edit.touch(now_us);
    edit.write(transaction.batch());
    Ok(true)
}

/// Whether there is an entity with this id. The transaction fails if the entity is deleted before the commit.
async fn exists(transaction: &Transaction, project: Project, kind: EntityKind, id: &str) -> Result<bool> {
    Ok(transaction.get(&keys::entity_piece(project, kind, id, 0)).await?.is_some())
}

/// One page of the runs in the bin, the latest first, and the range of the rest. Damaged runs are left out.
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
        document.filter(|document| document.props.is_in_bin()).map(|document| (number, document))
    });
    Ok((binned.collect(), rest))
}

/// A row of the index of the bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BinRow {
    pub binned_us: i64,
    pub number: RunNumber,
}

/// One page of the index of the bin in the order of time, and the range of the rest. Rows that need no action are left
/// out: rows of runs that were not moved to the bin before `before_us`, and whose documents agree.
pub async fn bin_due_page(
    snapshot: &dyn Snapshot,
    project: Project,
    range: &Range,
    rows: usize,
    before_us: i64,
) -> Result<(Vec<BinRow>, Option<Range>)> {
    let (page, rest) = index_page(snapshot, range, rows).await?;
    let prefix = keys::index_binned_all(project).start;
    let mut listed = Vec::with_capacity(page.len());
    for (key, _) in &page {
        let (binned_us, number) = keys::tail(&prefix, key)?;
        listed.push(BinRow { binned_us, number: RunNumber(number) });
    }
    let numbers: Vec<RunNumber> = listed.iter().map(|row| row.number).collect();
    let documents = documents_get(snapshot, project, &numbers).await?;
    let due = listed.into_iter().zip(&documents).filter_map(|(row, document)| {
        let binned_us = document.as_ref().and_then(|document| document.props.binned_us);
        (row.binned_us < before_us || binned_us != Some(row.binned_us)).then_some(row)
    });
    Ok((due.collect(), rest))
}

/// Starts the purge of a run that was moved to the bin before `before_us`, and returns its id. From now on, the
/// run cannot be brought back. The caller appends the deletion to the log, and ends the purge with
/// [`bin_purge_end`]. After an interruption, the index still lists the run, and the purge starts over.
///
/// A row that the document contradicts is corrected: an older program that changes a run in the bin drops the time
/// from the document, and leaves the row.
pub async fn bin_purge_begin(
    transaction: &mut Transaction,
    project: Project,
    row: BinRow,
    before_us: i64,
) -> Result<Option<RunId>> {
    let BinRow { binned_us: listed_us, number } = row;
    let edit = RunEdit::load(transaction, project, number).await?;
    let listed = edit.filter(|edit| match edit.props.binned_us {
        Some(binned_us) => binned_us == listed_us,
        None => edit.props.pending_delete,
    });
    let Some(mut edit) = listed else {
        transaction.batch().clear(keys::index_binned(project, listed_us, number));
        return Ok(None);
    };
    edit.props.binned_us = Some(listed_us);
    let mut purged = None;
    if listed_us < before_us {
        let id = RunId::new(edit.props.run_id.as_str());
        if head_checked(transaction, project, &id).await? != Some(Head::Live(number)) {
            return Ok(None);
        }
        edit.props.binned_us = Some(PURGE_BEGUN_US);
        purged = Some(id);
    }
    edit.write(transaction.batch());
    Ok(purged)
}

/// Ends the purge of a run whose deletion is in the log: from now on, the run is like every deleted run.
pub async fn bin_purge_end(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    number: RunNumber,
) -> Result<()> {
    pending_delete_put(transaction, project, id, number).await?;
    quarantine_delete(transaction, project, id).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
