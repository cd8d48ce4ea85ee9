//! The limit of a project's blobs. The size of a project is measured by listing its folder, and counted from
//! then on, so that an upload costs no listing. Several frontiers count for themselves: together they may
//! exceed the limit until they measure the next time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::LimitReached;
use crate::{BlobKey, Blobs, Result, project_folder};

/// Time after which a measurement is outdated, because blobs are deleted and other frontiers write, too.
const MEASURED_AGAIN: Duration = Duration::from_secs(300);

/// The same for uploads that would be refused, so that deleting something soon helps.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);

/// Share of the time that listing one project may take.
const LISTING_SHARE: u32 = 20;

/// The first key after the keys of all projects except the default project.
const AFTER_PROJECTS: &str = ".projects0";

pub(super) struct ProjectQuota {
    blobs: Arc<dyn Blobs>,
    /// 0: no limit.
    max_bytes: u64,
    /// Limits of projects that have their own.
    of_projects: BTreeMap<String, u64>,
    projects: Mutex<HashMap<String, Arc<ProjectBytes>>>,
}

#[derive(Default)]
struct ProjectBytes {
    /// Held while the project is measured.
    measuring: AsyncMutex<()>,
    counted: Mutex<CountedBytes>,
}

#[derive(Clone, Copy, Default)]
struct CountedBytes {
    measured: Option<Measurement>,
    /// Bytes in the listing, plus later uploads.
    stored: u64,
    /// Bytes of uploads in progress, and of open uploads in parts.
    reserved: u64,
}

/// A listing of a project's blobs.
#[derive(Clone, Copy)]
struct Measurement {
    ended: Instant,
    took: Duration,
}

/// Room for an upload. Returned when it is dropped, unless the upload was stored.
pub(super) struct UploadRoom {
    max_bytes: u64,
    project: Option<Arc<ProjectBytes>>,
    bytes: u64,
}

impl ProjectQuota {
    pub(super) fn new(blobs: Arc<dyn Blobs>, max_bytes: u64) -> Self {
        Self { blobs, max_bytes, of_projects: BTreeMap::new(), projects: Mutex::default() }
    }

    /// Gives projects their own limits.
    pub(super) fn set_limits(&mut self, of_projects: BTreeMap<String, u64>) {
        self.of_projects = of_projects;
    }

    /// The limit of a project; 0: none.
    fn max_bytes(&self, project: &str) -> u64 {
        self.of_projects.get(project).copied().unwrap_or(self.max_bytes)
    }

    /// Reserves room in a project for an upload of this many bytes, and at least one.
    pub(super) async fn reserve(&self, project: &str, bytes: u64) -> Result<UploadRoom> {
        let max_bytes = self.max_bytes(project);
        let mut room = UploadRoom { max_bytes, project: None, bytes: 0 };
        if max_bytes == 0 {
            return Ok(room);
        }
        let counted = self.counted(project);
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

    /// Reserves room for an upload that exists already, whether or not the project has any left.
    pub(super) fn assume(&self, project: &str, bytes: u64) -> UploadRoom {
        let max_bytes = self.max_bytes(project);
        if max_bytes == 0 {
            return UploadRoom { max_bytes, project: None, bytes: 0 };
        }
        let counted = self.counted(project);
        counted.change(|counted| counted.reserved += bytes);
        UploadRoom { max_bytes, project: Some(counted), bytes }
    }

    fn counted(&self, project: &str) -> Arc<ProjectBytes> {
        self.projects.lock().entry(project.to_owned()).or_default().clone()
    }

    /// Lists the blobs of a project, unless another call has just done so.
    async fn measure(&self, project: &str, counted: &ProjectBytes, age: Duration) -> Result<()> {
        let _measuring = counted.measuring.lock().await;
        if !counted.is_older_than(age) {
            return Ok(());
        }
        let started = Instant::now();
        let before = counted.get().stored;
        let listed = self.listed(project).await?;
        counted.change(|counted| {
            // Uploads that ended during the listing may be in it or not, so they are counted in any case.
            counted.stored = listed + (counted.stored - before);
            counted.measured = Some(Measurement { ended: Instant::now(), took: started.elapsed() });
        });
        Ok(())
    }

    async fn listed(&self, project: &str) -> Result<u64> {
        let folder = if project.is_empty() { String::new() } else { project_folder(project)? };
        let mut bytes = 0_u64;
        let mut after = None;
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
    fn get(&self) -> CountedBytes {
        *self.counted.lock()
    }

    fn change<T>(&self, change: impl FnOnce(&mut CountedBytes) -> T) -> T {
        change(&mut self.counted.lock())
    }

    fn is_older_than(&self, age: Duration) -> bool {
        self.get().measured.is_none_or(|last| last.ended.elapsed() > age.max(last.took * LISTING_SHARE))
    }
}

impl UploadRoom {
    /// Reserves more.
    fn grow(&mut self, bytes: u64) -> Result<(), LimitReached> {
        let Some(project) = &self.project else { return Ok(()) };
        let limit = self.max_bytes;
        project.change(|counted| {
            let used = counted.stored.saturating_add(counted.reserved);
            // An open upload needs no more than it has reserved, even if the project is over its limit.
            if bytes > 0 && used.saturating_add(bytes) > limit {
                return Err(LimitReached::ProjectBytes { used, limit });
            }
            counted.reserved += bytes;
            Ok(())
        })?;
        self.bytes += bytes;
        Ok(())
    }

    /// Raises the reservation of a running upload to this total.
    pub(super) fn grow_to(&mut self, bytes: u64) -> Result<(), LimitReached> {
        self.grow(bytes.saturating_sub(self.bytes))
    }

    /// Counts the upload as stored. Only the first call has an effect.
    pub(super) fn keep(&mut self, bytes: u64) {
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
