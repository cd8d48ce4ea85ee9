//! Copies in a bucket: they are written to a temporary directory, and uploaded when they are complete. An upload that was
//! interrupted is continued by the next one.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    iter,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use matyan_blob::{BlobKey, Blobs, Content};
use matyan_wire::content_types;
use tempfile::TempDir;

use super::{
    Error, Progress, file_error,
    folder::{entries_of, is_copy},
    notice,
    site::INDEX,
    upload_list::{CopyFile, CopyFiles, EarlierFiles, UPLOAD_LIST, UploadList},
};
use crate::{
    settings::{BlobStore, Environment, Settings},
    wire::clock,
};

const SCHEMES: [&str; 3] = ["s3://", "gs://", "azure://"];
/// Files that are uploaded at the same time, and the largest piece of a file in memory.
const FILES_AT_A_TIME: usize = 8;
const PIECE_BYTES: usize = 1 << 20;
/// An index page is shorter.
const INDEX_BYTES: u64 = 1 << 20;
/// The list of an upload with half a million files is shorter.
const LIST_BYTES: u64 = 64 << 20;
/// Keys that one call deletes.
const DELETED_KEYS: usize = 1_000;

/// A folder of a bucket, such as `s3://papers/sweep`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The scheme and the name of the bucket.
    bucket: String,
    /// With a slash at its end; empty: the bucket itself.
    folder: String,
}

impl Place {
    /// `None` for the path of a directory.
    pub(super) fn parse(output: &Path) -> Option<Self> {
        let text = output.to_str()?;
        let scheme = SCHEMES.into_iter().find(|scheme| text.starts_with(scheme))?;
        let (name, folder) = text[scheme.len()..].split_once('/').unwrap_or((&text[scheme.len()..], ""));
        let folder = folder.trim_matches('/');
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        Some(Self { bucket: format!("{scheme}{name}"), folder })
    }

    fn key(&self, name: &str) -> Result<BlobKey, Error> {
        BlobKey::new(format!("{}{name}", self.folder)).map_err(self.error())
    }

    fn error(&self) -> impl Fn(matyan_blob::Error) -> Error + '_ {
        move |error| {
            let Self { bucket, folder } = self;
            Error::Message(format!("{bucket}/{folder}: {error}"))
        }
    }

    fn upload_error(&self) -> impl Fn(matyan_blob::Error) -> Error + '_ {
        move |error| {
            let Self { bucket, folder } = self;
            let next = "run the same command again to complete the copy";
            Error::Message(format!("{bucket}/{folder}: {error}: {next}"))
        }
    }

    /// The beginning of a file.
    async fn read(&self, blobs: &dyn Blobs, name: &str, bytes: u64) -> Result<Option<Vec<u8>>, Error> {
        let found = blobs.read(&self.key(name)?, Some(0..bytes)).await.map_err(self.error())?;
        let Some((_, content)) = found else { return Ok(None) };
        let pieces: Vec<Bytes> = content.try_collect().await.map_err(self.error())?;
        Ok(Some(pieces.concat()))
    }
}

/// A copy that will be in a bucket.
pub(super) struct BucketFolder {
    place: Place,
    blobs: Arc<dyn Blobs>,
    folder: TempDir,
    /// The files of the earlier copy that this one replaces, or of an upload that this one continues.
    earlier: EarlierFiles,
}

impl BucketFolder {
    /// Fails if there is something in the folder, unless it is a copy whose upload was interrupted, or `replaces` is set
    /// and it is a copy that was published earlier.
    pub(super) async fn create(place: Place, replaces: bool) -> Result<Self, Error> {
        let Place { bucket, .. } = &place;
        if bucket.ends_with('/') {
            let message = format!("{bucket} names no bucket: choose --output s3://BUCKET/FOLDER");
            return Err(Error::Message(message));
        }
        let flags = BTreeMap::from([("blobs".to_owned(), bucket.clone())]);
        let settings = Settings::resolve_blobs(flags, Environment::of_process());
        let settings = settings.map_err(|violations| Error::Message(violations.to_string()))?;
        let BlobStore::Cloud(cloud) = settings else {
            return Err(Error::Message(format!(
                "{bucket} is not a bucket: choose --output s3://BUCKET/FOLDER"
            )));
        };
        let blobs = cloud.open(clock::now_us()).await.map_err(place.error())?.blobs;
        let earlier = earlier_files(&*blobs, &place, replaces).await?;
        let folder = TempDir::with_prefix("matyan-publish-").map_err(file_error(&std::env::temp_dir()))?;
        Ok(Self { place, blobs, folder, earlier })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Uploads the files that the bucket does not have, the first index page last, and deletes files that are gone.
    pub(super) async fn keep(self, is_quiet: bool) -> Result<(), Error> {
        let files = copy_files(self.path()).await?;
        self.upload_list(&self.earlier.list_of_upload(&files)).await?;
        let progress = Progress::new(files.len() as u64, "files uploaded", is_quiet);
        let uploaded = self.upload_files(&files, &progress).await;
        progress.finish();
        uploaded?;
        let gone = self.earlier.gone(&files).map(|name| self.place.key(name));
        let gone = gone.collect::<Result<Vec<_>, _>>()?;
        for keys in gone.chunks(DELETED_KEYS) {
            self.delete(keys).await?;
        }
        self.delete(&[self.place.key(UPLOAD_LIST)?]).await
    }

    async fn upload_list(&self, list: &UploadList) -> Result<(), Error> {
        let path = self.path().join(UPLOAD_LIST);
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        folder.and_then(|()| fs::write(&path, list.to_text())).map_err(file_error(&path))?;
        self.upload(UPLOAD_LIST).await.map(drop)
    }

    async fn upload_files(&self, files: &CopyFiles, progress: &Progress) -> Result<(), Error> {
        let is_missing = |(name, file): &(&String, &CopyFile)| !self.earlier.have(name, file);
        let missing: Vec<&String> = files.iter().filter(is_missing).map(|(name, _)| name).collect();
        let stored = files.len() - missing.len();
        if stored > 0 {
            let total = files.len();
            progress.suspend(|| {
                notice(format!(
                    "matyan: continuing an interrupted upload: the bucket has {stored} of {total} files"
                ));
            });
            progress.set(stored as u64, total as u64);
        }
        let (index, others): (Vec<_>, Vec<_>) = missing.into_iter().partition(|name| *name == INDEX);
        let upload = move |name: &String| {
            let name = name.clone();
            async move {
                let bytes = self.upload(&name).await?;
                progress.increment();
                progress.add_bytes(bytes);
                Ok::<_, Error>(())
            }
        };
        let uploads = stream::iter(others).map(upload).buffer_unordered(FILES_AT_A_TIME);
        uploads.try_collect::<()>().await?;
        for name in index {
            upload(name).await?;
        }
        Ok(())
    }

    /// Uploads a file, and returns its size.
    async fn upload(&self, name: &str) -> Result<u64, Error> {
        let path = self.path().join(name);
        let file = File::open(&path).map_err(file_error(&path))?;
        let size = file.metadata().map_err(file_error(&path))?.len();
        let key = self.place.key(name)?;
        let content_type = content_types::with_charset(content_types::of_name(name));
        let put = self.blobs.put(&key, &content_type, Some(size), content_of(file));
        put.await.map_err(self.place.upload_error())
    }

    async fn delete(&self, keys: &[BlobKey]) -> Result<(), Error> {
        let failed = self.blobs.delete(keys).await.map_err(self.place.upload_error())?;
        match failed.into_iter().next() {
            Some((_, error)) => Err(self.place.upload_error()(error)),
            None => Ok(()),
        }
    }
}

/// The files of an earlier copy in the folder, or of an upload that was interrupted.
async fn earlier_files(blobs: &dyn Blobs, place: &Place, replaces: bool) -> Result<EarlierFiles, Error> {
    let Place { bucket, folder } = place;
    let index = place.read(blobs, INDEX, INDEX_BYTES).await?.unwrap_or_default();
    let index = String::from_utf8_lossy(&index);
    let list = place.read(blobs, UPLOAD_LIST, LIST_BYTES).await?;
    let list = list.and_then(|list| UploadList::parse(&list));
    let replaces_copy = list.as_ref().map_or_else(|| is_copy(&index), |list| list.replaces_copy);
    let refused = |what: &str| Error::Message(format!("{bucket}/{folder} {what}"));
    if replaces_copy && !replaces {
        return Err(refused(
            "contains an earlier copy: use --force to replace it, or choose another --output",
        ));
    }
    let mut sizes = BTreeMap::new();
    let mut after = None;
    loop {
        let page = blobs.list(folder, after.as_ref()).await.map_err(place.error())?;
        for (key, listed) in page.blobs {
            let name = key.as_str().strip_prefix(folder.as_str()).unwrap_or_default();
            sizes.insert(name.to_owned(), listed.size);
        }
        if !sizes.is_empty() && !is_copy(&index) && list.is_none() {
            return Err(refused("is not empty, and is not a published copy: choose another --output"));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let entries = if is_copy(&index) { entries_of(&index) } else { Vec::new() };
    let list = list.unwrap_or_else(|| UploadList::new(replaces_copy));
    let is_of_copy = |name: &str| {
        let entry = name.split('/').next().unwrap_or_default();
        name == UPLOAD_LIST || list.contains(name) || entries.contains(&entry)
    };
    if let Some(other) = sizes.keys().find(|name| !is_of_copy(name.as_str())) {
        return Err(refused(&format!(
            "contains {folder}{other}, which is not part of an earlier copy and would be lost: move it away, or choose another --output"
        )));
    }
    Ok(EarlierFiles { sizes, list })
}

/// All files below a directory.
async fn copy_files(root: &Path) -> Result<CopyFiles, Error> {
    let mut files = CopyFiles::new();
    for name in files_of(root, "")? {
        let file = copy_file(&root.join(&name)).await?;
        files.insert(name, file);
    }
    Ok(files)
}

async fn copy_file(path: &Path) -> Result<CopyFile, Error> {
    let mut file = File::open(path).map_err(file_error(path))?;
    let mut hasher = blake3::Hasher::new();
    loop {
        let piece = read_piece(&mut file).map_err(file_error(path))?;
        if piece.is_empty() {
            return Ok(CopyFile { size: hasher.count(), hash: hasher.finalize().to_hex().to_string() });
        }
        hasher.update(&piece);
        // An interruption is noticed between two pieces.
        tokio::task::yield_now().await;
    }
}

/// Names of all files below a directory, with slashes between folders.
fn files_of(root: &Path, folder: &str) -> Result<Vec<String>, Error> {
    let path = root.join(folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(&path).map_err(file_error(&path))? {
        let entry = entry.map_err(file_error(&path))?;
        // The names of a copy are ours.
        let name = format!("{folder}{}", entry.file_name().to_string_lossy());
        if entry.file_type().map_err(file_error(&path))?.is_dir() {
            names.extend(files_of(root, &format!("{name}/"))?);
        } else {
            names.push(name);
        }
    }
    Ok(names)
}

fn content_of(mut file: File) -> Content {
    let pieces = iter::from_fn(move || match read_piece(&mut file) {
        Ok(piece) if piece.is_empty() => None,
        Ok(piece) => Some(Ok(Bytes::from(piece))),
        Err(error) => {
            Some(Err(matyan_blob::Error::unavailable(format!("a file of the copy cannot be read: {error}"))))
        }
    });
    stream::iter(pieces).boxed()
}

fn read_piece(file: &mut File) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    file.take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use std::{
        ops::Range,
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use async_trait::async_trait;
    use matyan_blob::{BlobMeta, Listing, PresignedUpload, UrlSigner, fs::FsBlobs};
    use parking_lot::Mutex;

    use super::*;
    use crate::client::publish::site::{MARK, PAGES_ATTRIBUTE};

    #[test]
    fn buckets_and_directories_are_distinguished() {
        let place =
            |bucket: &str, folder: &str| Some(Place { bucket: bucket.to_owned(), folder: folder.to_owned() });
        let parse = |output: &str| Place::parse(Path::new(output));
        assert_eq!(parse("s3://papers/sweep/one/"), place("s3://papers", "sweep/one/"));
        assert_eq!(parse("gs://papers"), place("gs://papers", ""));
        assert_eq!(parse("azure:///x"), place("azure://", "x/"));
        for path in ["site", "./s3", "/s3://a", "s3:a"] {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    /// A folder that a directory of blobs stands for.
    async fn publish(blobs: &Arc<dyn Blobs>, replaces: bool, files: &[(&str, &str)]) -> Result<(), Error> {
        let place = Place { bucket: "s3://papers".to_owned(), folder: "sweep/".to_owned() };
        let earlier = earlier_files(&**blobs, &place, replaces).await?;
        let folder = BucketFolder { place, blobs: blobs.clone(), folder: TempDir::new().unwrap(), earlier };
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder.keep(true).await
    }

    async fn names(blobs: &Arc<dyn Blobs>) -> Vec<String> {
        let listing = blobs.list("", None).await.unwrap();
        listing.blobs.iter().map(|(key, _)| key.as_str().to_owned()).collect()
    }

    fn bucket(directory: &TempDir) -> Arc<dyn Blobs> {
        let clock = clock::now_us();
        let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock.clone());
        Arc::new(FsBlobs::open(directory.path(), signer, clock).unwrap())
    }

    async fn text(blobs: &Arc<dyn Blobs>, name: &str) -> String {
        let key = BlobKey::new(name).unwrap();
        let (_, content) = blobs.read(&key, None).await.unwrap().unwrap();
        String::from_utf8(content.try_collect::<Vec<_>>().await.unwrap().concat()).unwrap()
    }

    async fn put(blobs: &Arc<dyn Blobs>, name: &str) {
        let key = BlobKey::new(name).unwrap();
        let text = stream::once(async { Ok(Bytes::from("text")) }).boxed();
        blobs.put(&key, "", None, text).await.unwrap();
    }

    /// Files that are stored before the connection is cut: the list, and two files of the copy.
    const STORED: usize = 3;

    /// A bucket whose connection is cut when the upload of one file begins.
    struct CutBlobs {
        blobs: Arc<dyn Blobs>,
        /// The end of the name of the file; `None`: the connection stays.
        cut_at: Mutex<Option<&'static str>>,
        /// Whether the connection is cut when files are deleted.
        cuts_deletes: AtomicBool,
        /// Keys of the blobs that were stored.
        stored: Mutex<Vec<String>>,
    }

    fn cut_bucket(directory: &TempDir, cut_at: Option<&'static str>) -> Arc<CutBlobs> {
        Arc::new(CutBlobs {
            blobs: bucket(directory),
            cut_at: Mutex::new(cut_at),
            cuts_deletes: AtomicBool::new(false),
            stored: Mutex::default(),
        })
    }

    fn cut_error() -> matyan_blob::Error {
        matyan_blob::Error::unavailable("the connection was cut")
    }

    #[async_trait]
    impl Blobs for CutBlobs {
        async fn presign(
            &self,
            key: &BlobKey,
            content_type: &str,
            size: Option<u64>,
        ) -> matyan_blob::Result<PresignedUpload> {
            self.blobs.presign(key, content_type, size).await
        }

        async fn put(
            &self,
            key: &BlobKey,
            content_type: &str,
            size: Option<u64>,
            content: Content,
        ) -> matyan_blob::Result<u64> {
            let cut_at = *self.cut_at.lock();
            if cut_at.is_some_and(|name| key.as_str().ends_with(name)) {
                while self.stored.lock().len() < STORED {
                    tokio::task::yield_now().await;
                }
                return Err(cut_error());
            }
            let size = self.blobs.put(key, content_type, size, content).await?;
            self.stored.lock().push(key.as_str().to_owned());
            Ok(size)
        }

        async fn read(
            &self,
            key: &BlobKey,
            range: Option<Range<u64>>,
        ) -> matyan_blob::Result<Option<(BlobMeta, Content)>> {
            self.blobs.read(key, range).await
        }

        async fn describe(&self, key: &BlobKey) -> matyan_blob::Result<Option<BlobMeta>> {
            self.blobs.describe(key).await
        }

        async fn delete(&self, keys: &[BlobKey]) -> matyan_blob::Result<Vec<(BlobKey, matyan_blob::Error)>> {
            if self.cuts_deletes.load(Ordering::Relaxed) {
                return Err(cut_error());
            }
            self.blobs.delete(keys).await
        }

        async fn list(&self, folder: &str, after: Option<&BlobKey>) -> matyan_blob::Result<Listing> {
            self.blobs.list(folder, after).await
        }
    }

    #[tokio::test]
    async fn an_interrupted_upload_is_continued() {
        let directory = TempDir::new().unwrap();
        let cut = cut_bucket(&directory, Some("d.bin"));
        let blobs: Arc<dyn Blobs> = cut.clone();
        let index = format!("{MARK}>");
        let mut files = [
            ("index.html", index.as_str()),
            ("data/a.bin", "aaaa"),
            ("data/b.bin", "bbbb"),
            ("data/c.bin", "cccc"),
            ("data/d.bin", "dddd"),
        ];
        let error = publish(&blobs, false, &files).await.unwrap_err().to_string();
        assert!(error.contains("run the same command again"), "{error}");
        let there = names(&blobs).await;
        assert!(there.iter().any(|name| name == "sweep/data/upload.json"), "{there:?}");
        assert!(there.iter().all(|name| name != "sweep/index.html"), "{there:?}");

        put(&blobs, "sweep/data/thesis.pdf").await;
        let error = publish(&blobs, true, &files).await.unwrap_err().to_string();
        assert!(error.contains("contains sweep/data/thesis.pdf"), "{error}");
        blobs.delete(&[BlobKey::new("sweep/data/thesis.pdf").unwrap()]).await.unwrap();

        // One file has changed since, and keeps its size.
        files[1].1 = "AAAA";
        *cut.cut_at.lock() = None;
        cut.stored.lock().clear();
        publish(&blobs, false, &files).await.unwrap();
        let stored = cut.stored.lock().clone();
        assert!(stored.iter().any(|name| name == "sweep/data/a.bin"), "{stored:?}");
        assert_eq!(stored.last().unwrap(), "sweep/index.html");
        let is_unchanged = |name: &&String| name.ends_with("b.bin") || name.ends_with("c.bin");
        let unchanged: Vec<&String> = there.iter().filter(is_unchanged).collect();
        assert!(!unchanged.is_empty() && unchanged.iter().all(|name| !stored.contains(name)), "{stored:?}");
        let copy: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| format!("sweep/data/{name}.bin")).collect();
        assert_eq!(names(&blobs).await, [copy, vec!["sweep/index.html".to_owned()]].concat());
        assert_eq!(text(&blobs, "sweep/data/a.bin").await, "AAAA");
    }

    /// An index page that an interrupted upload left is not an earlier copy, however often the upload is interrupted.
    #[tokio::test]
    async fn an_upload_that_was_interrupted_after_its_index_page_is_continued() {
        let directory = TempDir::new().unwrap();
        let cut = cut_bucket(&directory, None);
        let blobs: Arc<dyn Blobs> = cut.clone();
        let index = |time: u32| format!("{MARK} content=\"{time}\">");
        cut.cuts_deletes.store(true, Ordering::Relaxed);
        for time in 1..=3 {
            let index = index(time);
            let files = [("index.html", index.as_str()), ("data/a.bin", "aaaa")];
            let error = publish(&blobs, false, &files).await.unwrap_err().to_string();
            assert!(error.contains("run the same command again"), "{error}");
            assert_eq!(text(&blobs, "sweep/index.html").await, index);
        }
        cut.cuts_deletes.store(false, Ordering::Relaxed);
        let index = index(4);
        let files = [("index.html", index.as_str()), ("data/a.bin", "aaaa")];
        publish(&blobs, false, &files).await.unwrap();
        assert_eq!(text(&blobs, "sweep/index.html").await, index);
        assert_eq!(names(&blobs).await, ["sweep/data/a.bin", "sweep/index.html"]);
        let error = publish(&blobs, false, &files).await.unwrap_err().to_string();
        assert!(error.contains("use --force"), "{error}");
    }

    /// The earlier copy stays readable, and files that the list does not know for certain are uploaded again.
    #[tokio::test]
    async fn an_interrupted_replacement_is_continued() {
        let directory = TempDir::new().unwrap();
        let cut = cut_bucket(&directory, None);
        let blobs: Arc<dyn Blobs> = cut.clone();
        let index = format!("{MARK}>");
        let old = [("index.html", index.as_str()), ("data/a.bin", "aaaa"), ("data/old.bin", "old")];
        publish(&blobs, false, &old).await.unwrap();
        let new = [
            ("index.html", index.as_str()),
            ("data/a.bin", "AAAA"),
            ("data/b.bin", "bbbb"),
            ("data/d.bin", "dddd"),
        ];
        cut.stored.lock().clear();
        *cut.cut_at.lock() = Some("d.bin");
        publish(&blobs, true, &new).await.unwrap_err();
        assert!(names(&blobs).await.contains(&"sweep/data/old.bin".to_owned()));
        let error = publish(&blobs, false, &new).await.unwrap_err().to_string();
        assert!(error.contains("use --force"), "{error}");
        *cut.cut_at.lock() = None;
        cut.stored.lock().clear();
        publish(&blobs, true, &new).await.unwrap();
        let stored = cut.stored.lock().clone();
        assert!(stored.iter().any(|name| name == "sweep/data/a.bin"), "{stored:?}");
        assert!(stored.iter().all(|name| name != "sweep/data/b.bin"), "{stored:?}");
        let expected = ["sweep/data/a.bin", "sweep/data/b.bin", "sweep/data/d.bin", "sweep/index.html"];
        assert_eq!(names(&blobs).await, expected);
        assert_eq!(text(&blobs, "sweep/data/a.bin").await, "AAAA");
    }

    #[tokio::test]
    async fn a_bucket_gets_a_copy_and_only_copies_are_replaced() {
        let directory = TempDir::new().unwrap();
        let blobs = bucket(&directory);
        let index = format!("{MARK} {PAGES_ATTRIBUTE}report\">");
        let large = "x".repeat(PIECE_BYTES + 1);
        let files =
            [("index.html", index.as_str()), ("data/series/1.bin", &large), ("runs/a/index.html", &index)];
        publish(&blobs, false, &files).await.unwrap();
        let expected = ["sweep/data/series/1.bin", "sweep/index.html", "sweep/runs/a/index.html"];
        assert_eq!(names(&blobs).await, expected);
        let key = BlobKey::new("sweep/data/series/1.bin").unwrap();
        assert_eq!(blobs.describe(&key).await.unwrap().unwrap().size, large.len() as u64);

        let error = publish(&blobs, false, &files).await.unwrap_err().to_string();
        assert!(error.contains("use --force"), "{error}");
        publish(&blobs, true, &files[..1]).await.unwrap();
        assert_eq!(names(&blobs).await, ["sweep/index.html"]);

        put(&blobs, "sweep/thesis.pdf").await;
        let error = publish(&blobs, true, &files).await.unwrap_err().to_string();
        assert!(error.contains("contains sweep/thesis.pdf"), "{error}");
        blobs.delete(&[BlobKey::new("sweep/index.html").unwrap()]).await.unwrap();
        let error = publish(&blobs, true, &files).await.unwrap_err().to_string();
        assert!(error.contains("is not a published copy"), "{error}");
    }
}
