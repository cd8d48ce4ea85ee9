//! Deletes the blob directory of a deleted run, page by page. Before each page it checks that
//! the run id still carries the tombstone of that same delete, because the id may have been
//! reused. A blob that cannot be deleted does not stop the others.

use matyan_blob::{BlobKey, Blobs, RunFolder};
use matyan_model::{
    ids::{NamedProject, Project, RunId, RunNumber},
    run::{Head, head_get},
};
use matyan_store::Store;

use crate::Error;

/// Result of deleting one page.
pub struct Deleted {
    pub count: u64,
    /// Blobs that could not be deleted, each with the reason.
    pub left: Vec<(BlobKey, matyan_blob::Error)>,
}

pub struct Folder<'s> {
    store: &'s dyn Store,
    blobs: &'s dyn Blobs,
    project: Project,
    id: &'s RunId,
    number: RunNumber,
    folder: RunFolder,
    after: Option<BlobKey>,
    is_over: bool,
}

impl<'s> Folder<'s> {
    pub fn new(
        store: &'s dyn Store,
        blobs: &'s dyn Blobs,
        project: &NamedProject,
        id: &'s RunId,
        number: RunNumber,
    ) -> Result<Self, Error> {
        let folder = RunFolder::new(&project.name, id.as_str())?;
        let project = project.number;
        Ok(Self { store, blobs, project, id, number, folder, after: None, is_over: false })
    }

    /// Deletes the next page. Returns `None` after the last page, and if the run is live
    /// again or was deleted another time.
    pub async fn delete_page(&mut self) -> Result<Option<Deleted>, Error> {
        let dead = tombstone_number(self.store, self.project, self.id).await?;
        if self.is_over || dead != Some(self.number) {
            return Ok(None);
        }
        let listing = self.blobs.list(self.folder.prefix(), self.after.as_ref()).await?;
        let keys: Vec<_> = listing.blobs.into_iter().map(|(key, _)| key).collect();
        let left = if keys.is_empty() { Vec::new() } else { self.blobs.delete(&keys).await? };
        self.after = listing.next;
        self.is_over = self.after.is_none();
        Ok(Some(Deleted { count: (keys.len() - left.len()) as u64, left }))
    }
}

/// The number of the deleted run; 0 if only its delete was ever recorded.
pub async fn tombstone_number(
    store: &dyn Store,
    project: Project,
    id: &RunId,
) -> Result<Option<RunNumber>, matyan_store::Error> {
    Ok(match head_get(&*store.snapshot().await?, project, id).await? {
        Some(Head::Tombstone(tombstone)) => Some(RunNumber(tombstone.number.unwrap_or_default())),
        Some(Head::Live(_)) | None => None,
    })
}
