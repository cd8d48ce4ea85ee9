//! Files on disk of uploads that are not finished, in `uploads/` of a spool:
//!
//! | name | content |
//! |---|---|
//! | `N.json` | the manifest, which makes the upload exist: it appears and disappears in one step |
//! | `N.data` | content that the caller gave, or a copy of a small file |
//! | `N.encoded` | the content after encoding, written again after a crash |
//! | `N.parts` | the parts of a large file that have arrived |
//! | `N.failed` | exists if an upload has failed that a later one would announce, until that one ends |

use std::{
    fs::{self, File, Metadata},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use matyan_value::Value;
use serde::{Deserialize, Serialize};

use super::content_file::FileId;

/// Version of the manifest. One of another version is left alone.
const FORMAT: u32 = 1;

const MANIFEST_SUFFIX: &str = ".json";

/// Size of the pieces in which a file is copied.
const PIECE_BYTES: usize = 256 << 10;

/// Everything needed to upload a file and to announce it, in any process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    /// Path within the run.
    pub(super) path: String,
    pub(super) content_type: String,
    pub(super) source: Source,
    /// Digest of `N.data`. Absent for a file of the user, and in manifests of older versions.
    #[serde(default)]
    pub(super) data: Option<DataDigest>,
    pub(super) encoding: Encoding,
    pub(super) announcement: Announcement,
    /// Time of the event in microseconds since the Unix epoch.
    pub(super) time_us: i64,
    /// Uploads that the event has to wait for, because it describes their content too.
    #[serde(default)]
    pub(super) parts: Vec<u64>,
}

/// The content before encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    /// `N.data`.
    Data,
    /// A large file of the user.
    File {
        path: PathBuf,
        size: u64,
        /// Time of its last change in microseconds since the Unix epoch, if there is one.
        #[serde(default)]
        modified_us: Option<i64>,
        /// The only file that may be read there. Absent if any file may.
        #[serde(default)]
        id: Option<FileId>,
    },
}

/// Size and hash of content in the spool. Neither the content nor the manifest is synced, so after a power
/// failure there may be a manifest whose content is short or empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DataDigest {
    pub(super) size: u64,
    /// BLAKE3, in hexadecimal.
    blake3: String,
}

impl DataDigest {
    pub(super) fn of(content: &[u8]) -> Self {
        Self { size: content.len() as u64, blake3: blake3::hash(content).to_hex().to_string() }
    }

    /// Copies content to a new file, and returns the digest of the copy.
    pub(super) fn copying(mut source: impl io::Read, to: &Path) -> io::Result<Self> {
        let mut copied = blake3::Hasher::new();
        let mut target = File::create(to)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = source.read(&mut piece)?;
            if length == 0 {
                return Ok(Self { size: copied.count(), blake3: copied.finalize().to_hex().to_string() });
            }
            copied.update(&piece[..length]);
            target.write_all(&piece[..length])?;
        }
    }

    /// Checks that a file has the content. If it has not, the error has the kind `InvalidData`.
    pub(super) fn check(&self, path: &Path) -> io::Result<()> {
        let mut found = blake3::Hasher::new();
        found.update_reader(File::open(path)?)?;
        let size = found.count();
        let reason = if size != self.size {
            format!("its copy in the spool has {size} of {} bytes", self.size)
        } else if found.finalize().to_hex().as_str() != self.blake3 {
            "its copy in the spool has other content than at the call".to_owned()
        } else {
            return Ok(());
        };
        let reason = format!("{reason}, as after a power failure");
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

/// Conversion of the content before it is uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Encoding {
    Identity,
    Png { width: u32, height: u32, channels: u8 },
    Wav { rate: u32, channels: u16, samples: SampleKind },
}

impl Encoding {
    /// Members that describe the encoded content in the value of its object.
    pub(super) fn description(self, format: String) -> Vec<(&'static str, Value)> {
        let mut members = vec![("format", Value::Text(format))];
        match self {
            Self::Identity => {}
            Self::Png { width, height, .. } => {
                members.push(("width", Value::Integer(width.into())));
                members.push(("height", Value::Integer(height.into())));
            }
            Self::Wav { rate, .. } => members.push(("rate", Value::Integer(rate.into()))),
        }
        members
    }
}

/// Type of samples, in little-endian order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SampleKind {
    I16,
    F32,
}

/// The event that makes the content visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Announcement {
    /// A `BlobRef`, with the size and hash of the content.
    Artifact,
    /// An encoded `LogObject`, in hexadecimal.
    Object(String),
    /// None: another upload announces the content, after this one.
    Part,
}

impl Manifest {
    pub(super) fn new(
        path: String,
        content_type: String,
        source: Source,
        encoding: Encoding,
        announcement: Announcement,
        time_us: i64,
    ) -> Self {
        Self {
            format: FORMAT,
            path,
            content_type,
            source,
            data: None,
            encoding,
            announcement,
            time_us,
            parts: Vec::new(),
        }
    }

    /// Reports whether any of the uploads that the event waits for exists.
    pub(super) fn has_parts(&self, directory: &Path) -> bool {
        self.parts.iter().any(|part| manifest_path(directory, *part).exists())
    }

    /// Reports whether any of these uploads has failed, so that there is nothing to announce.
    pub(super) fn has_failed_parts(&self, directory: &Path) -> bool {
        self.parts.iter().any(|part| failed_path(directory, *part).exists())
    }

    /// Makes the upload exist. The data has to be complete.
    pub(super) fn write(&self, directory: &Path, number: u64) -> io::Result<()> {
        let new = new_path(directory, number);
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, manifest_path(directory, number))
    }

    /// Parses a manifest. An error has the kind `InvalidData`.
    pub(crate) fn parse(text: &[u8]) -> io::Result<Self> {
        match serde_json::from_slice(text) {
            Ok(manifest @ Self { format: FORMAT, .. }) => Ok(manifest),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "it has an unknown format")),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Reads a manifest. `None` if the upload does not exist; an error of the kind `InvalidData` if
    /// it can never be read.
    pub(super) fn read(directory: &Path, number: u64) -> io::Result<Option<Self>> {
        match fs::read(manifest_path(directory, number)) {
            Ok(text) => Self::parse(&text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Sets an upload aside whose manifest cannot be read, so that it is not tried again and again.
/// Returns the new path of the manifest.
pub(super) fn set_aside(directory: &Path, number: u64) -> io::Result<PathBuf> {
    let aside = directory.join(format!("{number}.damaged"));
    fs::rename(manifest_path(directory, number), &aside)?;
    Ok(aside)
}

fn manifest_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}{MANIFEST_SUFFIX}"))
}

fn new_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.new"))
}

pub(super) fn data_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.data"))
}

pub(super) fn encoded_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.encoded"))
}

/// Path of the record of the parts that have arrived.
pub(super) fn parts_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.parts"))
}

fn failed_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.failed"))
}

/// Size of the content that the upload has in the spool.
pub(super) fn data_bytes(directory: &Path, number: u64) -> u64 {
    fs::metadata(data_path(directory, number)).map_or(0, |metadata| metadata.len())
}

/// Notes that this upload has failed, for a later upload that would announce it.
pub(super) fn note_failure(directory: &Path, number: u64) -> io::Result<()> {
    fs::write(failed_path(directory, number), [])
}

/// Time of the last change of a file in microseconds since the Unix epoch, if it can be had.
pub(super) fn modified_us(metadata: &Metadata) -> Option<i64> {
    let modified = metadata.modified().ok()?;
    i64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()
}

/// Numbers of the uploads that exist, in the order of the calls.
pub(super) fn pending(directory: &Path) -> Vec<u64> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(MANIFEST_SUFFIX)?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the files that a failed call has written, as far as they exist.
pub(super) fn discard(directory: &Path, number: u64) {
    for path in [manifest_path, new_path, data_path] {
        fs::remove_file(path(directory, number)).ok();
    }
}

/// Ends the existence of an upload, and removes its files.
pub(super) fn remove(directory: &Path, number: u64) -> io::Result<()> {
    let parts = Manifest::read(directory, number).ok().flatten().map_or_else(Vec::new, |known| known.parts);
    fs::remove_file(manifest_path(directory, number))?;
    let files = [data_path, encoded_path, parts_path].map(|path| path(directory, number));
    for path in files.into_iter().chain(parts.into_iter().map(|part| failed_path(directory, part))) {
        remove_if_present(&path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    #[test]
    fn a_manifest_of_an_older_version_has_no_digest() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let older = r#"{"format":1,"path":"p","content_type":"c","source":"data","encoding":"identity",
            "announcement":"artifact","time_us":5,"parts":[]}"#;
        fs::write(manifest_path(directory, 7), older).unwrap();
        let manifest = Manifest::read(directory, 7).unwrap().unwrap();
        assert_eq!((manifest.source, manifest.data), (Source::Data, None));
    }

    #[test]
    fn a_digest_knows_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("to");
        let content: Vec<u8> = (0..PIECE_BYTES + 9).map(|at| (at * 7 % 251) as u8).collect();
        let digest = DataDigest::copying(content.as_slice(), &to).unwrap();
        assert_eq!(digest, DataDigest::of(&content));
        digest.check(&to).unwrap();
        for damaged in [Vec::new(), content[1..].to_vec(), vec![0; content.len()]] {
            fs::write(&to, damaged).unwrap();
            assert_eq!(digest.check(&to).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    proptest! {
        #[test]
        fn a_damaged_manifest_is_read_or_refused_for_good(at: Index, byte: u8, length: Index) {
            let directory = tempfile::tempdir().unwrap();
            let mut content = serde_json::to_vec(&manifest()).unwrap();
            let at = at.index(content.len());
            content[at] = byte;
            content.truncate(length.index(content.len() + 1));
            fs::write(manifest_path(directory.path(), 7), &content).unwrap();
            match Manifest::read(directory.path(), 7) {
                Ok(read) => {
                    let read = read.expect("the file exists");
                    read.write(directory.path(), 8).unwrap();
                    prop_assert_eq!(Manifest::read(directory.path(), 8).unwrap(), Some(read));
                }
                Err(error) => prop_assert_eq!(error.kind(), io::ErrorKind::InvalidData),
            }
        }
    }

    fn manifest() -> Manifest {
        let id = FileId::of(&fs::metadata("/").unwrap());
        let source = Source::File { path: "/a b".into(), size: 3, modified_us: Some(9), id };
        let encoding = Encoding::Wav { rate: 1, channels: 2, samples: SampleKind::F32 };
        Manifest::new("p".into(), "c".into(), source, encoding, Announcement::Object("00".into()), 5)
    }

    #[test]
    fn an_upload_exists_from_its_manifest_to_its_removal() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        fs::write(data_path(directory, 2), "x").unwrap();
        assert!(pending(directory).is_empty());
        for number in [10, 2] {
            manifest().write(directory, number).unwrap();
        }
        assert_eq!(pending(directory), [2, 10]);
        assert_eq!(Manifest::read(directory, 2).unwrap(), Some(manifest()));
        remove(directory, 2).unwrap();
        assert_eq!(pending(directory), [10]);
        assert_eq!(Manifest::read(directory, 2).unwrap(), None);
        assert!(!data_path(directory, 2).exists());
    }

    #[test]
    fn a_manifest_that_cannot_be_read_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let other = Manifest { format: FORMAT + 1, ..manifest() };
        other.write(directory.path(), 1).unwrap();
        fs::write(manifest_path(directory.path(), 3), "{").unwrap();
        for number in [1, 3] {
            let error = Manifest::read(directory.path(), number).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(set_aside(directory.path(), number).unwrap().exists());
        }
        assert!(pending(directory.path()).is_empty());
    }
}
