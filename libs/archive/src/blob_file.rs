//! Blobs as files, each under its own path so that any tool can find it. A path that cannot be
//! used, because another blob occupies a folder that it needs or one of its segments is too
//! long, is replaced by its digest and recorded in `blobs.jsonl`.

use std::{collections::BTreeSet, fs, path::Path};

use matyan_proto::backup::v1 as pb;

use super::{BLOBS, Result, checksums::SummedFile, damaged, digest_name, file_error};

/// Longest file name that file systems accept.
const NAME_BYTES: usize = 255;
/// Length of `~` followed by a SHA-256 in hexadecimal.
const DIGEST_NAME_BYTES: usize = 65;

/// Returns the file name of a blob below `blobs`, given the paths of `all` blobs of its run.
fn file_name(path: &str, all: &BTreeSet<String>) -> String {
    // No other blob is a file where this path needs a folder.
    let is_free = || path.match_indices('/').all(|(end, _)| !all.contains(&path[..end]));
    let first = path.split('/').next().unwrap_or_default();
    let is_plain = path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= NAME_BYTES)
        && !path.chars().any(char::is_control)
        // Reserved for digests.
        && !(first.starts_with('~') && first.len() == DIGEST_NAME_BYTES)
        && is_free();
    if is_plain { path.to_owned() } else { digest_name(path) }
}

/// A blob that is being received into its file.
pub struct BlobFile {
    file: SummedFile,
    /// Path below `blobs`.
    pub(super) name: String,
    pub(super) blob: pb::Blob,
    left: u64,
}

impl BlobFile {
    /// Creates the file in the folder of its run, given the paths of `all` blobs of the
    /// run.
    pub fn create(folder: &Path, blob: pb::Blob, all: &BTreeSet<String>) -> Result<Self> {
        let name = file_name(&blob.path, all);
        let path = folder.join(BLOBS).join(&name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(file_error(parent))?;
        Ok(Self { file: SummedFile::create(&path)?, name, left: blob.size, blob })
    }

    pub fn write(&mut self, chunk: &[u8]) -> Result<()> {
        let left = self.left.checked_sub(chunk.len() as u64);
        self.left = left.ok_or_else(|| {
            damaged(&self.blob.path, "the server sent more bytes than announced: try again")
        })?;
        self.file.write(chunk)
    }

    /// Closes the file and returns its checksum.
    pub(super) fn finish(self) -> Result<String> {
        if self.left > 0 {
            return Err(damaged(self.blob.path, "the server sent fewer bytes than announced: try again"));
        }
        self.file.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_path_is_used_as_the_file_name() {
        let all: BTreeSet<_> = ["a", "a/b", "a.b/c", "d/e/f", "d/e"].map(str::to_owned).into();
        for plain in ["a", "a.b/c", "d/e", "~x/y", "ü b/c", &"x".repeat(255)] {
            assert_eq!(file_name(plain, &all), plain);
        }
        let digest = format!("~{}", "0".repeat(64));
        let long = format!("a.b/{}", "x".repeat(256));
        let odd = ["a/b", "d/e/f", "", "../x", "x/./y", "/x", "x//y", "x/", "x\ny", &digest, &long];
        let names: BTreeSet<_> = odd.iter().map(|path| file_name(path, &all)).collect();
        assert_eq!(names.len(), odd.len(), "the names are distinct");
        assert!(names.iter().all(|name| name.len() == DIGEST_NAME_BYTES && name.starts_with('~')));
        assert!(!names.contains(&digest));
    }
}
