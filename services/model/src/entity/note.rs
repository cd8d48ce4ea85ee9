//! Notes of an owner: found by a row for each, and gone with the owner.

use matyan_store::{Range, Result, Scan, Snapshot, Transaction};

use super::{Note, NoteOwner, entity_get};
use crate::{
    ids::{Project, RunNumber},
    keys::{self, EntityKind},
    rows,
};

fn links(project: Project, owner: &NoteOwner) -> Range {
    match owner {
        NoteOwner::Run(number) => keys::run_notes(project, RunNumber(*number)),
        NoteOwner::Experiment(id) => keys::experiment_notes(project, id),
    }
}

/// The notes of an owner with their ids, oldest first.
pub async fn notes_list(
    snapshot: &dyn Snapshot,
    project: Project,
    owner: &NoteOwner,
) -> Result<Vec<(String, Note)>> {
    let range = links(project, owner);
    let mut notes = Vec::new();
    for (key, _) in rows::scan_all(snapshot, &range).await? {
        let (id,): (String,) = keys::tail(&range.start, &key)?;
        let note: Option<Note> = entity_get(snapshot, project, &id).await?;
        notes.extend(note.map(|note| (id, note)));
    }
    notes.sort_by(|(left_id, left), (right_id, right)| {
        (left.created_us, left_id).cmp(&(right.created_us, right_id))
    });
    Ok(notes)
}

pub async fn notes_count(snapshot: &dyn Snapshot, project: Project, owner: &NoteOwner) -> Result<usize> {
    Ok(rows::scan_all(snapshot, &links(project, owner)).await?.len())
}

/// Clears up to `rows` notes of an owner; true when there is none left.
pub(crate) async fn notes_clear(
    transaction: &mut Transaction,
    project: Project,
    owner: &NoteOwner,
    rows: usize,
) -> Result<bool> {
    let range = links(project, owner);
    let page = transaction.scan(&range, Scan { rows, ..Scan::default() }).await?;
    for (key, _) in &page.rows {
        let (id,): (String,) = keys::tail(&range.start, key)?;
        let batch = transaction.batch();
        batch.clear(key.clone());
        batch.clear_range(keys::entity(project, EntityKind::Note, &id));
    }
    Ok(!page.more)
}
