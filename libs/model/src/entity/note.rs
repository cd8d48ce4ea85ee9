//! Reading of the notes of a run or an experiment.

use matyan_store::{Range, Result, Scan, Snapshot};

use super::{Note, NoteOwner, entity_get, notes_range};
use crate::{ids::Project, keys, rows};

/// Notes are read in small pages, because each may be as large as a document.
const PAGE: Scan = Scan { rows: 16, bytes: 1 << 20, ..Scan::DEFAULT };

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
