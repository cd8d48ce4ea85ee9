//! Copies in a bucket: they are written to a temporary directory, and uploaded when they are complete.

use std::{
    collections::{BTreeMap, HashSet},
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
    Error, file_error,
    folder::{entries_of, is_copy},
    site::INDEX,
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
}

/// A copy that will be in a bucket.
pub(super) struct BucketFolder {
    place: Place,
    blobs: Arc<dyn Blobs>,
    folder: TempDir,
    /// The files of the earlier copy that this one replaces.
    earlier: Vec<BlobKey>,
}

impl BucketFolder {
    /// Fails if there is something in the folder, unless `replaces` is set and it is a copy that was published earlier.
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
        let earlier = earlier_copy(&*blobs, &place, replaces).await?;
        let folder = TempDir::with_prefix("matyan-publish-").map_err(file_error(&std::env::temp_dir()))?;
        Ok(Self { place, blobs, folder, earlier })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Uploads the files, the first index page last, and deletes those of the earlier copy that are gone.
    pub(super) async fn keep(self) -> Result<(), Error> {
        let names = files_of(self.path(), "")?;
        let (index, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| *name == INDEX);
        let uploads = stream::iter(others).map(|name| self.upload(name)).buffer_unordered(FILES_AT_A_TIME);
        uploads.try_collect::<()>().await?;
        for name in index {
            self.upload(name).await?;
        }
        let kept: HashSet<String> = names.iter().map(|name| format!("{}{name}", self.place.folder)).collect();
        let gone: Vec<_> = self.earlier.iter().filter(|key| !kept.contains(key.as_str())).cloned().collect();
        for keys in gone.chunks(DELETED_KEYS) {
            let failed = self.blobs.delete(keys).await.map_err(self.place.error())?;
            if let Some((_, error)) = failed.into_iter().next() {
                return Err(self.place.error()(error));
            }
        }
        Ok(())
    }

    async fn upload(&self, name: &str) -> Result<(), Error> {
        let path = self.path().join(name);
        let file = File::open(&path).map_err(file_error(&path))?;
        let size = file.metadata().map_err(file_error(&path))?.len();
        let key = self.place.key(name)?;
        let content_type = content_types::with_charset(content_types::of_name(name));
        let put = self.blobs.put(&key, &content_type, Some(size), content_of(file));
        put.await.map(drop).map_err(self.place.error())
    }
}

/// The files of an earlier copy in the folder.
async fn earlier_copy(blobs: &dyn Blobs, place: &Place, replaces: bool) -> Result<Vec<BlobKey>, Error> {
    let Place { bucket, folder } = place;
    let index = match blobs.read(&place.key(INDEX)?, Some(0..INDEX_BYTES)).await.map_err(place.error())? {
        Some((_, content)) => {
            let pieces: Vec<Bytes> = content.try_collect().await.map_err(place.error())?;
            String::from_utf8_lossy(&pieces.concat()).into_owned()
        }
        None => String::new(),
    };
    let refused = |what: &str| Error::Message(format!("{bucket}/{folder} {what}"));
    let mut keys = Vec::new();
    let mut after = None;
    loop {
        let page = blobs.list(folder, after.as_ref()).await.map_err(place.error())?;
        keys.extend(page.blobs.into_iter().map(|(key, _)| key));
        if !keys.is_empty() && !is_copy(&index) {
            return Err(refused("is not empty, and is not a published copy: choose another --output"));
        }
        if !keys.is_empty() && !replaces {
            return Err(refused(
                "contains an earlier copy: use --force to replace it, or choose another --output",
            ));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let entries = entries_of(&index);
    let is_of_copy = |key: &&BlobKey| {
        let name = key.as_str().strip_prefix(folder.as_str()).unwrap_or_default();
        entries.contains(&name.split('/').next().unwrap_or_default())
    };
    if let Some(other) = keys.iter().find(|key| !is_of_copy(key)) {
        return Err(refused(&format!(
            "contains {other}, which is not part of an earlier copy and would be lost: move it away, or choose another --output"
        )));
    }
    Ok(keys)
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
    use std::time::Duration;

    use matyan_blob::{UrlSigner, fs::FsBlobs};

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
        let earlier = earlier_copy(&**blobs, &place, replaces).await?;
        let folder = BucketFolder { place, blobs: blobs.clone(), folder: TempDir::new().unwrap(), earlier };
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder.keep().await
    }

    async fn names(blobs: &Arc<dyn Blobs>) -> Vec<String> {
        let listing = blobs.list("", None).await.unwrap();
        listing.blobs.iter().map(|(key, _)| key.as_str().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_bucket_gets_a_copy_and_only_copies_are_replaced() {
        let directory = TempDir::new().unwrap();
        let clock = clock::now_us();
        let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock.clone());
        let blobs: Arc<dyn Blobs> = Arc::new(FsBlobs::open(directory.path(), signer, clock).unwrap());
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

        let other = BlobKey::new("sweep/thesis.pdf").unwrap();
        let text = stream::once(async { Ok(Bytes::from("text")) }).boxed();
        blobs.put(&other, "", None, text).await.unwrap();
        let error = publish(&blobs, true, &files).await.unwrap_err().to_string();
        assert!(error.contains("contains sweep/thesis.pdf"), "{error}");
        blobs.delete(&[BlobKey::new("sweep/index.html").unwrap()]).await.unwrap();
        let error = publish(&blobs, true, &files).await.unwrap_err().to_string();
        assert!(error.contains("is not a published copy"), "{error}");
    }
}
