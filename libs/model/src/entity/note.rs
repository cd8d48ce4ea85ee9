//! Notes of a run or an experiment: each has a row by its owner, and is deleted with its owner.

use matyan_store::{Range, Result, Scan, Snapshot, Transaction};

use super::{Note, NoteOwner, entity_get};
use crate::{
    ids::{Project, RunNumber},
    keys::{self, EntityKind},
    rows,
};

/// Notes are read in small pages, because each may be as large as a document.
const PAGE: Scan = Scan { rows: 16, bytes: 1 << 20, reverse: false };

/// Maximum number of notes that one transaction clears: far from the store's limit.
const CLEARED: usize = 2_000;

/// The rows that list the notes of an owner, by note id.
pub fn notes_range(project: Project, owner: &NoteOwner) -> Range {
    match owner {
        NoteOwner::Run(number) => keys::run_notes(project, RunNumber(*number)),
        NoteOwner::Experiment(id) => keys::experiment_notes(project, id),
    }
}

/// One page of the notes of an owner by id, starting at `range` (`notes_range` for the first
/// page), and the range of the rest.
pub async fn notes_page(
    snapshot: &dyn Snapshot,
    project: Project,
    owner: &NoteOwner,
    range: &Range,
) -> Result<(Vec<(String, Note)>, Option<Range>)> {
    let prefix = notes_range(project, owner).start;
    let page = snapshot.scan(range, PAGE).await?;
    let mut notes = Vec::with_capacity(page.rows.len());
    for (key, _) in &page.rows {
        let (id,): (String,) = keys::tail(&prefix, key)?;
        let note: Option<Note> = entity_get(snapshot, project, &id).await?;
        notes.extend(note.map(|note| (id, note)));
    }
    let last = page.rows.last().filter(|_| page.more);
    Ok((notes, last.map(|(last, _)| range.after(last))))
}

pub async fn notes_count(snapshot: &dyn Snapshot, project: Project, owner: &NoteOwner) -> Result<usize> {
    Ok(rows::scan_all(snapshot, &notes_range(project, owner)).await?.len())
}

/// Clears one page of the notes of an owner. Returns `true` when none are left.
pub async fn notes_clear(transaction: &mut Transaction, project: Project, owner: &NoteOwner) -> Result<bool> {
    let range = notes_range(project, owner);
    let page = transaction.scan(&range, Scan { rows: CLEARED, ..Scan::default() }).await?;
    for (key, _) in &page.rows {
        let (id,): (String,) = keys::tail(&range.start, key)?;
        let batch = transaction.batch();
        batch.clear(key.clone());
        batch.clear_range(keys::entity(project, EntityKind::Note, &id));
    }
    Ok(!page.more)
}
