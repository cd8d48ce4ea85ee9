//! Blobs as files: each by its own path, so that any tool finds it there. A path that cannot be one, because another blob lies
//! where it needs a folder or a part of it is too long for a name, is replaced by its digest, and told in `blobs.jsonl`.

use std::{collections::BTreeSet, fs, path::Path};

use matyan_proto::backup::v1 as pb;
use sha2::{Digest, Sha256};

use super::{Result, at, damaged, sums::Summed};

/// What file systems take as one name.
const NAME_BYTES: usize = 255;
/// `~` and a SHA-256 as hexadecimal text.
const DIGEST_NAME_BYTES: usize = 65;

/// The file of a blob below `blobs`, beside those of `all` blobs of its run.
fn file_name(path: &str, all: &BTreeSet<String>) -> String {
    let is_name = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= NAME_BYTES;
    let is_free = || path.match_indices('/').all(|(end, _)| !all.contains(&path[..end]));
    let first = path.split('/').next().unwrap_or_default();
    let is_plain = path.split('/').all(is_name)
        && !path.chars().any(char::is_control)
        && !(first.starts_with('~') && first.len() == DIGEST_NAME_BYTES)
        && is_free();
    if is_plain { path.to_owned() } else { format!("~{}", hex::encode(Sha256::digest(path))) }
}

/// The file of a blob that is coming.
pub struct BlobFile {
    file: Summed,
    /// Below `blobs`.
    pub(super) name: String,
    pub(super) blob: pb::Blob,
    left: u64,
}

impl BlobFile {
    /// Begins it in the place of its run, which has `all` these blobs.
    pub fn create(place: &Path, blob: pb::Blob, all: &BTreeSet<String>) -> Result<Self> {
        let name = file_name(&blob.path, all);
        let path = place.join("blobs").join(&name);
        let parent = path.parent().unwrap_or(place);
        fs::create_dir_all(parent).map_err(at(parent))?;
        Ok(Self { file: Summed::create(&path)?, name, left: blob.size, blob })
    }

    pub fn write(&mut self, chunk: &[u8]) -> Result<()> {
        let left = self.left.checked_sub(chunk.len() as u64);
        self.left = left
            .ok_or_else(|| damaged(&self.blob.path, "the server sent more than it announced: try again"))?;
        self.file.write(chunk)
    }

    /// Its checksum.
    pub(super) fn finish(self) -> Result<String> {
        if self.left > 0 {
            return Err(damaged(self.blob.path, "the server sent less than it announced: try again"));
        }
        self.file.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_can_be_a_file_is_one() {
        let all: BTreeSet<_> = ["a", "a/b", "a.b/c", "d/e/f", "d/e"].map(str::to_owned).into();
        for plain in ["a", "a.b/c", "d/e", "~x/y", "ü b/c", &"x".repeat(255)] {
            assert_eq!(file_name(plain, &all), plain);
        }
        let digest = format!("~{}", "0".repeat(64));
        let long = format!("a.b/{}", "x".repeat(256));
        let odd = ["a/b", "d/e/f", "", "../x", "x/./y", "/x", "x//y", "x/", "x\ny", &digest, &long];
        let names: BTreeSet<_> = odd.iter().map(|path| file_name(path, &all)).collect();
        assert_eq!(names.len(), odd.len(), "each has its own");
        assert!(names.iter().all(|name| name.len() == DIGEST_NAME_BYTES && name.starts_with('~')));
        assert!(!names.contains(&digest));
    }
}
