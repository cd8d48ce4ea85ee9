//! Blobs in a local directory: one file per blob, visible completely or not at all, durable
//! once acknowledged. Uploads arrive through a signed URL of our own edge, because a directory
//! has no network address.
//!
//! ```text
//! {root}/format    version number of this layout
//! {root}/tmp/      uploads in progress, each locked by its process; opening removes unlocked
//! files
//! {root}/uploads/  uploads in parts, kept for a week: see `multipart`
//! {root}/data/     blobs: see `path` for the mapping of keys to files, `trailer` for the
//! metadata
//! ```
//!
//! A blob is written to `tmp`, synced, and renamed over the old one; then every folder up to
//! the root is synced. All paths are resolved beneath the open directory (`cap-std`), so that
//! no symbolic link leads out of it. The file system must be case-sensitive. Deliberately
//! absent: a lock on the directory (processes may share it) and an index (the folders serve as
//! one).

mod disk_threads;
mod list;
mod multipart;
mod path;
mod read;
#[cfg(test)]
mod tests;
mod trailer;
mod write;

use std::{fs::File, io, ops::Range, path::Path, sync::Arc};

use async_trait::async_trait;
use cap_std::{ambient_authority, fs::Dir};
use futures::StreamExt;

use crate::{
    BlobKey, BlobMeta, Blobs, Clock, Content, Error, Listing, MultipartUpload, MultipartUploads, Part,
    PresignedUpload, Result, UrlSigner, content_type as types, multipart::new_id,
};
use disk_threads::{DiskThreads, DroppedOnDiskThread};
use multipart::{Completion, OpenedPart};
use write::Draft;

/// Layout version that this code reads and writes.
const FORMAT: &str = "1\n";

/// Pieces of an upload that are written together if they have already arrived: an HTTP body
/// comes in pieces of 16 KiB.
const PIECES_PER_WRITE: usize = 32;

pub struct FsBlobs {
    folders: Arc<Folders>,
    threads: Arc<DiskThreads>,
    signer: UrlSigner,
    clock: Clock,
}

/// Bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Available to this process.
    pub free: u64,
    pub total: u64,
}

/// The open directories; all blocking calls go through them.
struct Folders {
    tmp: Arc<Dir>,
    uploads: Dir,
    data: Dir,
}

impl FsBlobs {
    /// Opens the store in `root`, creating it if necessary, and removes the remains of a crash.
    /// Blocks.
    pub fn open(root: &Path, signer: UrlSigner, clock: Clock) -> Result<Self> {
        let opened = Folders::open(root).and_then(|folders| Ok((folders, DiskThreads::new()?)));
        let (folders, threads) = opened.map_err(|source| Error::Setup {
            reason: format!("failed to open the blob directory `{}`: {source}", root.display()),
        })?;
        Ok(Self { folders: Arc::new(folders), threads: Arc::new(threads), signer, clock })
    }

    /// Returns the space of the disk with the blobs.
    pub async fn disk_space(&self) -> Result<DiskSpace> {
        self.blocking("looking at the disk", |folders| {
            let status = rustix::fs::fstatvfs(&folders.data)?;
            Ok(DiskSpace {
                free: status.f_bavail.saturating_mul(status.f_frsize),
                total: status.f_blocks.saturating_mul(status.f_frsize),
            })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Folders) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let folders = self.folders.clone();
        self.threads.run(action, move || work(&folders)).await
    }
}

impl Folders {
    fn open(root: &Path) -> io::Result<Self> {
        Dir::create_ambient_dir_all(root, ambient_authority())?;
        sync_parent(root)?;
        let root = Dir::open_ambient_dir(root, ambient_authority())?;
        for folder in ["tmp", "uploads", "data"] {
            root.create_dir_all(folder)?;
        }
        let folders = Self {
            tmp: Arc::new(root.open_dir("tmp")?),
            uploads: root.open_dir("uploads")?,
            data: root.open_dir("data")?,
        };
        write::sweep(&folders.tmp)?;
        multipart::sweep(&folders.uploads)?;
        check_format(&root, &folders.tmp)?;
        Ok(folders)
    }
}

/// Syncs the parent of a directory that may be new: a power failure could lose the directory with all
/// of its blobs.
fn sync_parent(root: &Path) -> io::Result<()> {
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn check_format(root: &Dir, tmp: &Arc<Dir>) -> io::Result<()> {
    match root.read_to_string("format") {
        Ok(format) if format == FORMAT => Ok(()),
        Ok(format) => Err(io::Error::other(format!(
            "its layout has version {}, but this program supports version {}: use the program version that wrote it",
            format.trim(),
            FORMAT.trim(),
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Written like a blob, so that a crash leaves no incomplete file.
            let mut draft = Draft::create(tmp)?;
            draft.write(&[FORMAT.into()])?;
            draft.publish(root, Path::new("format"))
        }
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Blobs for FsBlobs {
    async fn presign(&self, key: &BlobKey, _: &str, size: Option<u64>) -> Result<PresignedUpload> {
        Ok(self.signer.upload(key, size))
    }

    async fn put(
        &self,
        key: &BlobKey,
        content_type: &str,
        size: Option<u64>,
        content: Content,
    ) -> Result<u64> {
        types::check(content_type)?;
        let max_size = size.unwrap_or(u64::MAX);
        let mut content = content.ready_chunks(PIECES_PER_WRITE);
        // Created with the first pieces: a client that sends nothing holds no file.
        let mut open = None;
        let mut received = 0;
        while let Some(pieces) = content.next().await {
            let pieces = pieces.into_iter().collect::<Result<Vec<_>>>()?;
            let threads = self.threads.clone();
            let written = self.blocking("writing", move |folders| {
                let mut draft = match open {
                    Some(draft) => draft,
                    None => DroppedOnDiskThread::new(Draft::create(&folders.tmp)?, threads),
                };
                draft.write(&pieces).map(|()| draft)
            });
            let draft = written.await?;
            received = draft.size();
            open = Some(draft);
            // Longer than announced: there is no point in receiving the remainder.
            if received > max_size {
                break;
            }
        }
        if let Some(announced) = size
            && announced != received
        {
            return Err(Error::WrongLength { announced, received });
        }

        let trailer = trailer::encode(content_type, (self.clock)());
        let path = path::blob_path(key);
        self.blocking("publishing", move |folders| {
            let mut draft = match open {
                Some(draft) => draft.into_inner(),
                None => Draft::create(&folders.tmp)?,
            };
            draft.write(&[trailer])?;
            draft.publish(&folders.data, &path)
        })
        .await?;
        Ok(received)
    }

    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<Option<(BlobMeta, Content)>> {
        let path = path::blob_path(key);
        let threads = self.threads.clone();
        self.blocking("reading", move |folders| read::open(&folders.data, &path, range, threads)).await
    }

    async fn describe(&self, key: &BlobKey) -> Result<Option<BlobMeta>> {
        let path = path::blob_path(key);
        self.blocking("describing", move |folders| read::describe(&folders.data, &path)).await
    }

    async fn delete(&self, keys: &[BlobKey]) -> Result<Vec<(BlobKey, Error)>> {
        let keys = keys.to_vec();
        let failed = self.blocking("deleting", |folders| Ok(write::delete(&folders.data, keys))).await?;
        Ok(failed.into_iter().map(|(key, source)| (key, failure("deleting", source))).collect())
    }

    async fn list(&self, folder: &str, after: Option<&BlobKey>) -> Result<Listing> {
        let folder = folder.to_owned();
        let after = after.cloned();
        self.blocking("listing", move |folders| list::page(&folders.data, &folder, after.as_ref())).await
    }
}

impl FsBlobs {
    /// Writes a part of the upload of a key, and returns its receipt.
    pub async fn put_part(
        &self,
        key: &BlobKey,
        id: &str,
        offset: u64,
        length: u64,
        content: Content,
    ) -> Result<String> {
        multipart::check_id(id)?;
        // Opened with the first pieces, like the file of a whole blob.
        let mut opened: Option<DroppedOnDiskThread<File>> = None;
        let mut received = 0;
        let mut content = content.ready_chunks(PIECES_PER_WRITE);
        while let Some(pieces) = content.next().await {
            let pieces = pieces.into_iter().collect::<Result<Vec<_>>>()?;
            let start = offset + received;
            received += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
            if received > length {
                break;
            }
            let file = match opened {
                Some(file) => file,
                None => self.open_part(key, id, offset + length).await?,
            };
            let written = self
                .threads
                .run("writing", move || multipart::write_at(&file, start, &pieces).map(|()| file));
            opened = Some(written.await?);
        }
        if received != length {
            return Err(Error::WrongLength { announced: length, received });
        }
        let file = match opened {
            Some(file) => file,
            None => self.open_part(key, id, offset + length).await?,
        };
        self.threads.run("writing", move || file.into_inner().sync_data()).await?;
        Ok(self.signer.receipt(key, id, offset, length))
    }

    /// Opens the file of the upload of a key to write a part that ends at this offset.
    async fn open_part(&self, key: &BlobKey, id: &str, end: u64) -> Result<DroppedOnDiskThread<File>> {
        let name = id.to_owned();
        let key = key.clone();
        let threads = self.threads.clone();
        let opened = self.blocking("opening an upload", move |folders| {
            Ok(match multipart::open_part(&folders.uploads, &name, &key, end)? {
                OpenedPart::Open(file) => Ok(DroppedOnDiskThread::new(file, threads)),
                OpenedPart::TooLong { size } => Err(Error::WrongLength { announced: size, received: end }),
                OpenedPart::Missing => Err(Error::NoUpload),
            })
        });
        opened.await?
    }

    /// Removes uploads in parts that have been silent for too long, and returns the others, without
    /// their content types.
    pub async fn sweep_uploads(&self) -> Result<Vec<MultipartUpload>> {
        self.blocking("sweeping uploads", |folders| multipart::sweep(&folders.uploads)).await
    }
}

/// Reads the description at the end of a file that is being uploaded in parts: its key, and the size of its
/// parts. `None` if there is none.
#[cfg(feature = "fuzzing")]
pub fn upload_description(file: &File) -> io::Result<Option<(BlobKey, u64)>> {
    multipart::described(file)
}

#[async_trait]
impl MultipartUploads for FsBlobs {
    fn is_sequential(&self) -> bool {
        false
    }

    async fn begin(&self, key: &BlobKey, content_type: &str, size: u64) -> Result<String> {
        types::check(content_type)?;
        let id = new_id()?;
        let name = id.clone();
        let key = key.clone();
        self.blocking("beginning an upload", move |folders| {
            multipart::create(&folders.uploads, &name, &key, size)
        })
        .await?;
        Ok(id)
    }

    async fn presign_part(&self, upload: &MultipartUpload, part: &Part) -> Result<PresignedUpload> {
        multipart::check_id(&upload.id)?;
        Ok(self.signer.upload_part(upload, part))
    }

    async fn complete(&self, upload: &MultipartUpload, etags: &[String]) -> Result<()> {
        types::check(&upload.content_type)?;
        multipart::check_id(&upload.id)?;
        for part in upload.parts() {
            let expected = self.signer.receipt(&upload.key, &upload.id, part.offset, part.length);
            // Clients return the header as it is, in quotes.
            let etag = etags.get(part.number as usize - 1).map(|etag| etag.trim_matches('"'));
            if etag != Some(expected.as_str()) {
                let reason = format!("part {} was not received", part.number);
                return Err(Error::PartsMissing { reason });
            }
        }
        let MultipartUpload { key, id, content_type, size } = upload.clone();
        let trailer = trailer::encode(&content_type, (self.clock)());
        let path = path::blob_path(&key);
        match self
            .blocking("publishing", move |folders| {
                multipart::complete(&folders.uploads, &id, &key, size, &trailer, &folders.data, &path)
            })
            .await?
        {
            Completion::Published => Ok(()),
            Completion::InUse => Err(Error::unavailable("a part of the upload is still being written")),
            Completion::Missing => Err(Error::NoUpload),
        }
    }

    async fn abort(&self, upload: &MultipartUpload) -> Result<()> {
        multipart::check_id(&upload.id)?;
        let MultipartUpload { key, id, .. } = upload.clone();
        let is_of_key = self
            .blocking("discarding an upload", move |folders| multipart::abort(&folders.uploads, &id, &key))
            .await?;
        if is_of_key { Ok(()) } else { Err(Error::NoUpload) }
    }
}

/// Maps an I/O error. `cap-std` reports "permission denied" also for a link that leads outside;
/// that and corrupt data need an operator, while all other errors may be temporary.
fn failure(doing: &'static str, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData => {
            Error::Setup { reason: format!("{doing} failed: {source}") }
        }
        _ => {
            let reason = format!("{doing} failed: {source}");
            Error::Unavailable { reason, is_doubtful: false, source: Some(Arc::new(source)) }
        }
    }
}
