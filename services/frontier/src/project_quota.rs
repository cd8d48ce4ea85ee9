//! The limit of a project's blobs. What a project has is measured by listing its folder, and counted from
//! then on, so that an upload costs no listing. Several frontiers count for themselves: together they may
//! exceed the limit until they measure again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use matyan_blob::{BlobKey, Blobs, project_folder};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use crate::error::{Error, Result};

/// Time after which a project is measured again: blobs are deleted, and others write, too.
const MEASURED_AGAIN: Duration = Duration::from_secs(300);

/// The same for uploads that would be refused, so that deleting something soon helps.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);

/// Share of the time that listing one project may take.
const LISTING_SHARE: u32 = 20;

/// The first key after those of all projects but the default one.
const AFTER_PROJECTS: &str = ".projects0";

pub(crate) struct ProjectQuota {
    blobs: Arc<dyn Blobs>,
    /// 0: no limit.
    max_bytes: u64,
    projects: Mutex<HashMap<String, Arc<ProjectBytes>>>,
}

#[derive(Default)]
struct ProjectBytes {
    /// Held while the project is measured.
    measuring: AsyncMutex<()>,
    counted: Mutex<Counted>,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    /// When the last listing ended, and how long it took.
    measured: Option<(Instant, Duration)>,
    /// As of the listing, and what was uploaded since.
    stored: u64,
    /// Bytes of uploads in progress.
    reserved: u64,
}

/// Room for an upload. Returned when it is dropped, unless the upload was stored.
pub(crate) struct UploadRoom {
    max_bytes: u64,
    project: Option<Arc<ProjectBytes>>,
    bytes: u64,
}

impl ProjectQuota {
    pub(crate) fn new(blobs: Arc<dyn Blobs>, max_bytes: u64) -> Self {
        Self { blobs, max_bytes, projects: Mutex::default() }
    }

    /// Reserves room in a project for an upload of this many bytes, and at least one.
    pub(crate) async fn reserve(&self, project: &str, bytes: u64) -> Result<UploadRoom> {
        let mut room = UploadRoom { max_bytes: self.max_bytes, project: None, bytes: 0 };
        if self.max_bytes == 0 {
            return Ok(room);
        }
        let counted = {
            let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
            projects.entry(project.to_owned()).or_default().clone()
        };
        if counted.is_older_than(MEASURED_AGAIN) {
            self.measure(project, &counted, MEASURED_AGAIN).await?;
        }
        room.project = Some(counted.clone());
        let refused = room.grow(bytes.max(1));
        if refused.is_err() && counted.is_older_than(REFUSED_AGAIN) {
            self.measure(project, &counted, REFUSED_AGAIN).await?;
            room.grow(bytes.max(1))?;
        } else {
            refused?;
        }
        Ok(room)
    }

    /// Lists the blobs of a project, unless another call has just done so.
    async fn measure(&self, project: &str, counted: &ProjectBytes, age: Duration) -> Result<()> {
        let _measuring = counted.measuring.lock().await;
        if !counted.is_older_than(age) {
            return Ok(());
        }
        let begun = Instant::now();
        let before = counted.get().stored;
        let listed = self.listed(project).await?;
        counted.change(|counted| {
            // Uploads that ended during the listing may be in it or not, so they are counted in any case.
            counted.stored = listed + (counted.stored - before);
            counted.measured = Some((Instant::now(), begun.elapsed()));
        });
        Ok(())
    }

    async fn listed(&self, project: &str) -> Result<u64> {
        let folder = if project.is_empty() { String::new() } else { project_folder(project)? };
        let (mut bytes, mut after) = (0_u64, None);
        loop {
            let page = self.blobs.list(&folder, after.as_ref()).await?;
            let own = page.blobs.iter().filter(|(key, _)| key.is_in_project(project));
            bytes = own.fold(bytes, |bytes, (_, blob)| bytes.saturating_add(blob.size));
            after = match page.next {
                None => return Ok(bytes),
                Some(next) if !next.is_in_project(project) => Some(BlobKey::new(AFTER_PROJECTS)?),
                next => next,
            };
        }
    }
}

impl ProjectBytes {
    fn get(&self) -> Counted {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Counted) -> T) -> T {
        change(&mut self.counted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_older_than(&self, age: Duration) -> bool {
        self.get().measured.is_none_or(|(at, took)| at.elapsed() > age.max(took * LISTING_SHARE))
    }
}

impl UploadRoom {
    /// Reserves more.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<()> {
        let Some(project) = &self.project else { return Ok(()) };
        let limit = self.max_bytes;
        project.change(|counted| {
            let used = counted.stored.saturating_add(counted.reserved);
            if used.saturating_add(bytes) > limit {
                return Err(Error::ProjectFull { used, limit });
            }
            counted.reserved += bytes;
            Ok(())
        })?;
        self.bytes += bytes;
        Ok(())
    }

    /// Reserves what a running upload needs in all.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> Result<()> {
        self.grow(bytes.saturating_sub(self.bytes))
    }

    /// Counts the upload as stored.
    pub(crate) fn keep(mut self, bytes: u64) {
        if let Some(project) = self.project.take() {
            project.change(|counted| {
                counted.reserved -= self.bytes;
                counted.stored = counted.stored.saturating_add(bytes);
            });
        }
    }
}

impl Drop for UploadRoom {
    fn drop(&mut self) {
        if let Some(project) = &self.project {
            project.change(|counted| counted.reserved -= self.bytes);
        }
    }
}
