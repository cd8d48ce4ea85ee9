//! Uploads in parts whose sizes nobody knows before they arrive: clients of other trackers only say how many
//! parts they send. Each part is its own blob, with a URL like any blob, in every store and in any order, and
//! counts for its project. Completing the upload joins the parts, which reads and writes their content once
//! more: stores that can join blobs by themselves take only parts of at least 5 MiB (S3), or 32 parts at a
//! time (GCS), and a directory would copy them as well. So all other uploads in parts announce their size.
//!
//! Joining goes on if its caller leaves, because large content takes longer than clients wait: a repeated call waits
//! for the same result. Parts that are never joined are blobs without a reference, which a daily job deletes.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc};

use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::{BoxFuture, Shared},
    stream,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::LimitedBlobs;
use crate::{BlobKey, Blobs as _, Content, Error, MAX_PAGE, PresignedUpload, Result, multipart};

/// Maximum number of parts.
pub const MAX_UNSIZED_PARTS: u32 = 10_000;

/// Uploads that are joined at the same time; others wait.
const JOINED_AT_A_TIME: usize = 4;

/// Maximum number of uploads that are joined or wait for it.
const MAX_JOININGS: usize = 1_000;

/// Name of the empty blob in the folder of the parts that says that they were joined.
const JOINED: &str = "joined";

/// An upload in parts of unknown sizes, described by its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsizedUpload {
    pub key: BlobKey,
    /// Folder of the parts, from `RunFolder::parts_reference`.
    pub folder: BlobKey,
    pub content_type: String,
    /// From one to `MAX_UNSIZED_PARTS`.
    pub part_count: u32,
}

impl UnsizedUpload {
    /// The key of a part; their order is the order of the parts.
    fn part_key(&self, number: u32) -> Result<BlobKey> {
        BlobKey::new(format!("{}/{number:05}", self.folder))
    }

    fn joined_key(&self) -> Result<BlobKey> {
        BlobKey::new(format!("{}/{JOINED}", self.folder))
    }

    /// Uploads to other keys are other uploads, also if their clients say that they have the same parts.
    fn id(&self) -> (BlobKey, BlobKey) {
        (self.folder.clone(), self.key.clone())
    }
}

/// The result of joining an upload, for all callers that wait for it.
type Joining = Shared<BoxFuture<'static, Result<u64>>>;

/// The uploads of clients to a blob store. All clones share the same uploads.
#[derive(Clone)]
pub struct UnsizedUploads {
    blobs: Arc<LimitedBlobs>,
    /// Uploads that are being joined, by the folders of their parts and the keys of their blobs.
    running: Arc<Mutex<HashMap<(BlobKey, BlobKey), Joining>>>,
    turns: Arc<Semaphore>,
}

impl UnsizedUploads {
    pub fn new(blobs: Arc<LimitedBlobs>) -> Self {
        Self { blobs, running: Arc::default(), turns: Arc::new(Semaphore::new(JOINED_AT_A_TIME)) }
    }

    /// Starts an upload to a project, and returns its id.
    pub async fn begin(&self, key: &BlobKey) -> Result<String> {
        self.blobs.check_room(key).await?;
        multipart::new_id()
    }

    /// Returns a URL for one PUT of a part, from one.
    pub async fn presign_part(&self, upload: &UnsizedUpload, number: u32) -> Result<PresignedUpload> {
        self.blobs.presign(&upload.part_key(number)?, &upload.content_type, None).await
    }

    /// Makes a blob of all parts, and returns its size. A repeated call gets the same answer.
    pub async fn join(&self, upload: UnsizedUpload) -> Result<u64> {
        let id = upload.id();
        let joining = {
            let mut running = self.running.lock();
            if running.len() >= MAX_JOININGS && !running.contains_key(&id) {
                return Err(Error::unavailable("too many uploads are being joined: try again later"));
            }
            running.entry(id).or_insert_with(|| self.spawn_joining(upload)).clone()
        };
        joining.await
    }

    fn spawn_joining(&self, upload: UnsizedUpload) -> Joining {
        let uploads = self.clone();
        let task = tokio::spawn(async move {
            let joined = AssertUnwindSafe(uploads.join_in_turn(&upload)).catch_unwind().await;
            uploads.running.lock().remove(&upload.id());
            joined
        });
        let ended = task.map(|ended| match ended {
            Ok(Ok(joined)) => joined,
            _ => Err(Error::unavailable("joining the parts was interrupted")),
        });
        ended.boxed().shared()
    }

    /// Discards the parts.
    pub async fn abort(&self, upload: &UnsizedUpload) -> Result<()> {
        let parts = self.parts(upload).await?;
        self.delete_parts(parts.into_iter().map(|(key, _)| key).collect()).await
    }

    async fn join_in_turn(&self, upload: &UnsizedUpload) -> Result<u64> {
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let marker = upload.joined_key()?;
        if self.blobs.describe(&marker).await?.is_some() {
            let stored = self.blobs.describe(&upload.key).await?.ok_or(Error::NoUpload)?;
            return Ok(stored.size);
        }
        let mut parts = self.parts(upload).await?;
        if parts.is_empty() {
            return Err(Error::NoUpload);
        }
        for number in 1..=upload.part_count {
            let index = number as usize - 1;
            if parts.get(index).map(|(key, _)| key) != Some(&upload.part_key(number)?) {
                return Err(Error::PartsMissing { reason: format!("part {number} was not received") });
            }
        }
        let others = parts.split_off(upload.part_count as usize);
        let size = parts.iter().map(|(_, size)| *size).sum();
        let keys: Vec<BlobKey> = parts.into_iter().map(|(key, _)| key).collect();
        let stored =
            self.blobs.put(&upload.key, &upload.content_type, Some(size), self.content(&keys)).await?;
        // A daily job deletes the marker.
        self.blobs.put(&marker, "", Some(0), stream::empty().boxed()).await?;
        let keys = keys.into_iter().chain(others.into_iter().map(|(key, _)| key)).collect();
        if let Err(error) = self.delete_parts(keys).await {
            tracing::warn!(upload = %upload.folder, %error, "failed to delete the parts of an upload; a daily job will");
        }
        Ok(stored)
    }

    /// The content of several blobs, one after another.
    fn content(&self, keys: &[BlobKey]) -> Content {
        let blobs = Arc::clone(&self.blobs);
        let contents = stream::iter(keys.to_vec()).then(move |key| {
            let blobs = Arc::clone(&blobs);
            async move {
                let found = blobs.read(&key, None).await?;
                let Some((_, content)) = found else {
                    return Err(Error::PartsMissing { reason: format!("`{key}` was deleted meanwhile") });
                };
                Ok(content)
            }
        });
        contents.try_flatten().boxed()
    }

    /// The parts that have arrived, with their sizes, in order.
    async fn parts(&self, upload: &UnsizedUpload) -> Result<Vec<(BlobKey, u64)>> {
        let folder = format!("{}/", upload.folder);
        let mut parts = Vec::new();
        let mut after = None;
        loop {
            let page = self.blobs.list(&folder, after.as_ref()).await?;
            parts.extend(page.blobs.into_iter().map(|(key, blob)| (key, blob.size)));
            after = page.next;
            if after.is_none() || parts.len() > MAX_UNSIZED_PARTS as usize {
                return Ok(parts);
            }
        }
    }

    async fn delete_parts(&self, keys: Vec<BlobKey>) -> Result<()> {
        for page in keys.chunks(MAX_PAGE) {
            if let Some((_, error)) = self.blobs.delete(page).await?.into_iter().next() {
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use bytes::Bytes;

    use super::*;
    use crate::{Clock, RunFolder, UploadLimits, UrlSigner, fs::FsBlobs};

    fn open(root: &Path, max_project_bytes: u64) -> UnsizedUploads {
        let clock: Clock = Arc::new(|| 1_700_000_000_000_000);
        let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock.clone());
        let blobs = Arc::new(FsBlobs::open(root, signer, clock).unwrap());
        let limits = UploadLimits { max_project_bytes, ..UploadLimits::default() };
        UnsizedUploads::new(Arc::new(LimitedBlobs::directory(blobs, limits)))
    }

    async fn begin(uploads: &UnsizedUploads, part_count: u32) -> UnsizedUpload {
        let key = BlobKey::new("run/model.bin").unwrap();
        let id = uploads.begin(&key).await.unwrap();
        let folder = RunFolder::new("", "run").unwrap().parts_reference(&id);
        UnsizedUpload { key, folder: BlobKey::new(folder).unwrap(), content_type: String::new(), part_count }
    }

    async fn send(
        uploads: &UnsizedUploads,
        upload: &UnsizedUpload,
        number: u32,
        text: &'static str,
    ) -> Result<u64> {
        let content = stream::iter([Ok(Bytes::from_static(text.as_bytes()))]).boxed();
        uploads.blobs.put(&upload.part_key(number).unwrap(), "", None, content).await
    }

    async fn content(uploads: &UnsizedUploads, key: &BlobKey) -> Option<Vec<u8>> {
        let (_, content) = uploads.blobs.read(key, None).await.unwrap()?;
        Some(content.try_collect::<Vec<_>>().await.unwrap().concat())
    }

    #[tokio::test]
    async fn parts_of_any_size_are_joined_in_order() {
        let root = tempfile::tempdir().unwrap();
        let uploads = open(root.path(), 0);
        let upload = begin(&uploads, 3).await;
        assert!(matches!(uploads.join(upload.clone()).await, Err(Error::NoUpload)));
        for (number, text) in [(3, "!"), (1, "old"), (1, "hello")] {
            send(&uploads, &upload, number, text).await.unwrap();
        }
        let incomplete = uploads.join(upload.clone()).await;
        assert!(
            matches!(&incomplete, Err(Error::PartsMissing { reason }) if reason.contains("part 2")),
            "{incomplete:?}"
        );
        assert_eq!(content(&uploads, &upload.key).await, None);
        send(&uploads, &upload, 2, ", world").await.unwrap();
        // Both callers wait for the same work.
        let (one, other) = tokio::join!(uploads.join(upload.clone()), uploads.join(upload.clone()));
        assert_eq!((one.unwrap(), other.unwrap()), (13, 13));
        assert_eq!(content(&uploads, &upload.key).await.unwrap(), b"hello, world!");
        let left = uploads.blobs.list("run/.matyan/", None).await.unwrap().blobs;
        assert_eq!(left.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [upload.joined_key().unwrap()]);
        // The answer may have been lost, also by a restart.
        for uploads in [uploads, open(root.path(), 0)] {
            assert_eq!(uploads.join(upload.clone()).await.unwrap(), 13);
        }
    }

    #[tokio::test]
    async fn a_bounded_number_of_uploads_waits_to_be_joined() {
        let root = tempfile::tempdir().unwrap();
        let uploads = open(root.path(), 0);
        let upload = begin(&uploads, 1).await;
        let numbered = |number: usize| UnsizedUpload {
            key: BlobKey::new(format!("run/{number}")).unwrap(),
            ..upload.clone()
        };
        let turns = uploads.turns.acquire_many(JOINED_AT_A_TIME as u32).await.unwrap();
        let mut waiting: Vec<_> =
            (0..MAX_JOININGS).map(|number| Box::pin(uploads.join(numbered(number)))).collect();
        for joining in &mut waiting {
            assert!(futures::poll!(joining).is_pending());
        }
        let further = uploads.join(numbered(MAX_JOININGS)).await;
        assert!(matches!(further, Err(Error::Unavailable { .. })), "{further:?}");
        let mut repeated = Box::pin(uploads.join(numbered(0)));
        assert!(futures::poll!(&mut repeated).is_pending(), "it waits with the first call");
        drop(turns);
        for joining in waiting.into_iter().chain([repeated]) {
            assert!(matches!(joining.await, Err(Error::NoUpload)));
        }
        assert!(
            matches!(uploads.join(numbered(MAX_JOININGS)).await, Err(Error::NoUpload)),
            "there is room again"
        );
    }

    #[tokio::test]
    async fn a_discarded_upload_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let uploads = open(root.path(), 0);
        let upload = begin(&uploads, 2).await;
        send(&uploads, &upload, 2, "part").await.unwrap();
        for _ in 0..2 {
            uploads.abort(&upload).await.unwrap();
        }
        assert!(uploads.blobs.list("", None).await.unwrap().blobs.is_empty());
    }

    /// The parts count until they are joined, and the blob counts as well.
    #[tokio::test]
    async fn rule_57_parts_of_unknown_size_count_for_their_project() {
        let root = tempfile::tempdir().unwrap();
        let uploads = open(root.path(), 10);
        let upload = begin(&uploads, 1).await;
        assert!(matches!(send(&uploads, &upload, 1, "12345678901").await, Err(Error::Limit(_))));
        send(&uploads, &upload, 1, "123456").await.unwrap();
        assert!(matches!(uploads.join(upload.clone()).await, Err(Error::Limit(_))));
        assert_eq!(content(&uploads, &upload.key).await, None);
        send(&uploads, &upload, 1, "1234").await.unwrap();
        let full = open(root.path(), 4);
        assert!(matches!(full.begin(&upload.key).await, Err(Error::Limit(_))));
        assert_eq!(open(root.path(), 10).join(upload).await.unwrap(), 4);
    }
}
