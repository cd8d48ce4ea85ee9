//! Uploads in parts to a directory that were begun and neither completed nor aborted. Each keeps its room in
//! its project, and their number in a project is limited.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{LimitReached, project_quota::UploadRoom};
use crate::MultipartUpload;

/// Maximum number of open uploads of a project. More than training runs send at a time; each has a file in
/// a directory of blobs.
pub(super) const MAX_OPEN_UPLOADS: usize = 10_000;

#[derive(Default)]
pub(super) struct OpenUploads(Mutex<State>);

#[derive(Default)]
struct State {
    projects: HashMap<String, ProjectUploads>,
    /// Ids of uploads that have ended since the current sweep began: its listing may contain them.
    ended: HashSet<String>,
    is_sweeping: bool,
}

/// A sweep that is listing the directory.
pub(super) struct UploadSweep {
    began: Instant,
}

/// The open uploads of one project.
struct ProjectUploads {
    slots: Arc<Semaphore>,
    /// By id.
    uploads: HashMap<String, OpenUpload>,
}

/// A place for one more upload.
type UploadSlot = OwnedSemaphorePermit;

struct OpenUpload {
    size: u64,
    room: UploadRoom,
    since: Instant,
    /// `None` if the project had more than its limit when the process started.
    _slot: Option<UploadSlot>,
}

impl Default for ProjectUploads {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(MAX_OPEN_UPLOADS)), uploads: HashMap::new() }
    }
}

impl ProjectUploads {
    fn slot(&self) -> Option<UploadSlot> {
        self.slots.clone().try_acquire_owned().ok()
    }
}

impl OpenUploads {
    pub(super) fn slot(&self, project: &str) -> Result<UploadSlot, LimitReached> {
        let slot = self.0.lock().projects.entry(project.to_owned()).or_default().slot();
        slot.ok_or(LimitReached::OpenUploads { limit: MAX_OPEN_UPLOADS })
    }

    pub(super) fn add(&self, project: &str, id: String, size: u64, room: UploadRoom, slot: UploadSlot) {
        let mut state = self.0.lock();
        let project = state.projects.entry(project.to_owned()).or_default();
        let since = Instant::now();
        project.uploads.insert(id, OpenUpload { size, room, since, _slot: Some(slot) });
    }

    /// The size with which an upload was begun, if this process knows it.
    pub(super) fn size(&self, project: &str, id: &str) -> Option<u64> {
        Some(self.0.lock().projects.get(project)?.uploads.get(id)?.size)
    }

    /// Removes an upload, and returns its room if this process knows it.
    pub(super) fn remove(&self, project: &str, id: &str) -> Option<UploadRoom> {
        let state = &mut *self.0.lock();
        if state.is_sweeping {
            state.ended.insert(id.to_owned());
        }
        let known = state.projects.get_mut(project)?;
        let room = known.uploads.remove(id).map(|open| open.room);
        if known.uploads.is_empty() && known.slots.available_permits() == MAX_OPEN_UPLOADS {
            state.projects.remove(project);
        }
        room
    }

    /// Notes uploads that end from now on, until `reconcile`.
    pub(super) fn begin_sweep(&self) -> UploadSweep {
        self.0.lock().is_sweeping = true;
        UploadSweep { began: Instant::now() }
    }

    /// Follows the listing of a sweep: forgets uploads that ended elsewhere, and adds uploads that other
    /// processes began.
    pub(super) fn reconcile(
        &self,
        listed: Vec<MultipartUpload>,
        sweep: UploadSweep,
        room: impl Fn(&str, u64) -> UploadRoom,
    ) {
        let state = &mut *self.0.lock();
        state.is_sweeping = false;
        let ended = mem::take(&mut state.ended);
        let listed: HashMap<String, MultipartUpload> = listed
            .into_iter()
            .filter(|upload| !ended.contains(&upload.id))
            .map(|upload| (upload.id.clone(), upload))
            .collect();
        for project in state.projects.values_mut() {
            project.uploads.retain(|id, open| open.since >= sweep.began || listed.contains_key(id));
        }
        for (id, upload) in listed {
            let project = state.projects.entry(upload.key.project().to_owned()).or_default();
            if !project.uploads.contains_key(&id) {
                let room = room(upload.key.project(), upload.size);
                let _slot = project.slot();
                project.uploads.insert(id, OpenUpload { size: upload.size, room, since: sweep.began, _slot });
            }
        }
    }
}
