//! Rows that list the notes of a run or an experiment. Notes are deleted with their owner.

use matyan_store::{Range, Result, Scan, Transaction};

use super::NoteOwner;
use crate::{
    ids::{Project, RunNumber},
    keys::{self, EntityKind},
};

/// Maximum number of notes that one transaction clears: far from the store's limit.
const CLEARED: usize = 2_000;

/// The rows that list the notes of an owner, by note id.
pub fn notes_range(project: Project, owner: &NoteOwner) -> Range {
    match owner {
        NoteOwner::Run(number) => keys::run_notes(project, RunNumber(*number)),
        NoteOwner::Experiment(id) => keys::experiment_notes(project, id),
    }
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
