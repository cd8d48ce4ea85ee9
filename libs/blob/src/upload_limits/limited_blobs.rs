//! The blob store as clients may use it: every write is checked against the limits of uploads.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{
    LimitReached, UploadLimits,
    free_space::{Disk, DiskRoom},
    metered_content::ContentMeter,
    open_uploads::OpenUploads,
    project_quota::{ProjectQuota, UploadRoom},
};
use crate::{
    BlobKey, BlobMeta, Blobs, Content, Error, Listing, MultipartUpload, MultipartUploads, OpenBucket, Part,
    PresignedUpload, Result, fs::FsBlobs,
};

pub struct LimitedBlobs {
    bucket: OpenBucket,
    /// `None` for a cloud.
    pub(super) directory: Option<Directory>,
    limits: UploadLimits,
    quota: ProjectQuota,
}

pub(super) struct Directory {
    blobs: Arc<FsBlobs>,
    disk: Arc<Disk>,
    pub(super) open: OpenUploads,
}

impl LimitedBlobs {
    /// Limits uploads to a bucket of a cloud, which has its own limit for a blob, and no disk that fills up.
    /// Uploads in parts are not counted until they are completed: another process may complete or abort
    /// them, and the cloud does not tell.
    pub fn cloud(bucket: OpenBucket, limits: UploadLimits) -> Self {
        Self {
            quota: ProjectQuota::new(bucket.blobs.clone(), limits.max_project_bytes),
            bucket,
            directory: None,
            limits,
        }
    }

    /// Limits uploads to a directory.
    pub fn directory(blobs: Arc<FsBlobs>, limits: UploadLimits) -> Self {
        let bucket = OpenBucket { blobs: blobs.clone(), multipart: blobs.clone() };
        let disk = Arc::new(Disk::new(blobs.clone(), limits.min_free_bytes));
        let directory = Directory { blobs, disk, open: OpenUploads::default() };
        Self { directory: Some(directory), ..Self::cloud(bucket, limits) }
    }

    /// Gives projects their own limits, by their names, instead of `max_project_bytes`. The default project
    /// has no name.
    #[must_use]
    pub fn with_project_limits(mut self, of_projects: BTreeMap<String, u64>) -> Self {
        self.quota.set_limits(of_projects);
        self
    }

    /// Returns why no upload is accepted, for readiness.
    pub async fn problem(&self) -> Option<String> {
        match &self.directory {
            Some(directory) => directory.disk.problem().await,
            None => None,
        }
    }

    fn max_bytes(&self) -> u64 {
        if self.directory.is_some() { self.limits.max_bytes } else { u64::MAX }
    }

    fn check_size(&self, size: u64) -> Result<()> {
        let limit = self.max_bytes();
        if size > limit { Err(LimitReached::Size { limit }.into()) } else { Ok(()) }
    }

    /// Refuses uploads to a project or a disk that is full.
    pub(super) async fn check_room(&self, key: &BlobKey) -> Result<()> {
        self.disk_room(Some(0)).await?;
        self.quota.reserve(key.project(), 0).await.map(drop)
    }

    /// Takes space on the disk; `None` for a cloud.
    async fn disk_room(&self, announced: Option<u64>) -> Result<Option<DiskRoom>> {
        match &self.directory {
            Some(directory) => directory.disk.reserve(announced).await.map(Some),
            None => Ok(None),
        }
    }

    /// The size with which an upload in parts was begun, if this process knows it.
    fn begun_size(&self, upload: &MultipartUpload) -> Option<u64> {
        self.directory.as_ref()?.open.size(upload.key.project(), &upload.id)
    }

    /// Notes that an upload in parts has ended, and returns its room if this process knows it.
    fn end(&self, upload: &MultipartUpload) -> Option<UploadRoom> {
        self.directory.as_ref()?.open.remove(upload.key.project(), &upload.id)
    }

    /// Writes a part of an upload through this process, and returns its receipt.
    pub async fn put_part(
        &self,
        key: &BlobKey,
        id: &str,
        offset: u64,
        length: u64,
        content: Content,
    ) -> Result<String> {
        let directory = self.directory.as_ref().ok_or(Error::NoUpload)?;
        let disk = directory.disk.reserve(Some(length)).await?;
        let meter = ContentMeter {
            // The directory notices content that is longer than the part.
            limit: u64::MAX,
            received: 0,
            disk: Some(disk),
            room: None,
        };
        directory.blobs.put_part(key, id, offset, length, meter.meter(content)).await
    }

    /// Removes uploads in parts to a directory that have been silent for too long, and counts the others.
    pub async fn sweep(&self) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let sweep = directory.open.begin_sweep();
        let listed = directory.blobs.sweep_uploads().await?;
        directory.open.reconcile(listed, sweep, |project, bytes| self.quota.assume(project, bytes));
        Ok(())
    }
}

#[async_trait]
impl Blobs for LimitedBlobs {
    async fn presign(&self, key: &BlobKey, content_type: &str, size: Option<u64>) -> Result<PresignedUpload> {
        let announced = size.unwrap_or_default();
        self.check_size(announced)?;
        // Room is taken when the content arrives, or measured later if it bypasses this process.
        self.quota.reserve(key.project(), announced).await?;
        self.bucket.blobs.presign(key, content_type, size).await
    }

    async fn put(
        &self,
        key: &BlobKey,
        content_type: &str,
        size: Option<u64>,
        content: Content,
    ) -> Result<u64> {
        let announced = size.unwrap_or_default();
        self.check_size(announced)?;
        let disk = self.disk_room(size).await?;
        let room = Arc::new(Mutex::new(self.quota.reserve(key.project(), announced).await?));
        let meter = ContentMeter { limit: self.max_bytes(), received: 0, disk, room: Some(room.clone()) };
        let stored = self.bucket.blobs.put(key, content_type, size, meter.meter(content)).await?;
        room.lock().keep(stored);
        Ok(stored)
    }

    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<Option<(BlobMeta, Content)>> {
        self.bucket.blobs.read(key, range).await
    }

    async fn describe(&self, key: &BlobKey) -> Result<Option<BlobMeta>> {
        self.bucket.blobs.describe(key).await
    }

    async fn delete(&self, keys: &[BlobKey]) -> Result<Vec<(BlobKey, Error)>> {
        self.bucket.blobs.delete(keys).await
    }

    async fn list(&self, folder: &str, after: Option<&BlobKey>) -> Result<Listing> {
        self.bucket.blobs.list(folder, after).await
    }
}

#[async_trait]
impl MultipartUploads for LimitedBlobs {
    fn is_sequential(&self) -> bool {
        self.bucket.multipart.is_sequential()
    }

    async fn begin(&self, key: &BlobKey, content_type: &str, size: u64) -> Result<String> {
        self.check_size(size)?;
        let _free_now = self.disk_room(Some(size)).await?;
        let Some(Directory { open, .. }) = &self.directory else {
            let _room = self.quota.reserve(key.project(), size).await?;
            return self.bucket.multipart.begin(key, content_type, size).await;
        };
        let slot = open.slot(key.project())?;
        let room = self.quota.reserve(key.project(), size).await?;
        let id = self.bucket.multipart.begin(key, content_type, size).await?;
        open.add(key.project(), id.clone(), size, room, slot);
        Ok(id)
    }

    async fn presign_part(&self, upload: &MultipartUpload, part: &Part) -> Result<PresignedUpload> {
        self.check_size(upload.size)?;
        // Another process may have begun it.
        match self.begun_size(upload) {
            Some(announced) if announced != upload.size => {
                Err(Error::WrongLength { announced, received: upload.size })
            }
            _ => self.bucket.multipart.presign_part(upload, part).await,
        }
    }

    async fn complete(&self, upload: &MultipartUpload, etags: &[String]) -> Result<()> {
        let other_room = match self.begun_size(upload) {
            Some(_) => None,
            None => Some(self.quota.reserve(upload.key.project(), upload.size).await?),
        };
        let completed = self.bucket.multipart.complete(upload, etags).await;
        if matches!(completed, Ok(()) | Err(Error::NoUpload))
            && let Some(mut room) = self.end(upload).or(other_room)
            && completed.is_ok()
        {
            room.keep(upload.size);
        }
        completed
    }

    async fn abort(&self, upload: &MultipartUpload) -> Result<()> {
        self.bucket.multipart.abort(upload).await?;
        self.end(upload);
        Ok(())
    }
}
