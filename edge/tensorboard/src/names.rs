//! Ids of runs, and paths of files.

use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Hexadecimal digits of a run's id.
const RUN_ID_DIGITS: usize = 32;

/// Hexadecimal digits of a digest in a path.
const DIGEST_DIGITS: usize = 16;

/// The path of a folder below the directory, with slashes.
pub(crate) fn folder_label(folder: &Path) -> String {
    let segments = folder.components().map(|segment| segment.as_os_str().to_string_lossy());
    segments.collect::<Vec<_>>().join("/")
}

/// The id of the run in a folder whose first event file has this name. The id stays the same when the directory is
/// moved. The importer gives the same id, so that an imported run is not stored twice.
pub(crate) fn run_id(label: &str, first_file: &str) -> String {
    text_digest(&["tensorboard", label, first_file], RUN_ID_DIGITS)
}

/// The digest of texts that contain no NUL, in hexadecimal digits.
fn text_digest(parts: &[&str], digits: usize) -> String {
    let mut digest = hex::encode(Sha256::digest(parts.join("\0")));
    digest.truncate(digits);
    digest
}

/// The path in a run of a file that belongs to an object. The folder holds files that are not artifacts.
pub(crate) fn object_path(tag: &str, step: i64, index: usize, format: &str) -> String {
    format!("seq/{}/{step}-{index}.{format}", text_digest(&[tag], DIGEST_DIGITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_equal_the_ids_of_the_importer() {
        // hashlib.sha256("\0".join(("tensorboard", "a/b", "events.1")).encode()).hexdigest()[:32]
        assert_eq!(run_id("a/b", "events.1"), "2273f988d9c58e4df17eea78e9a38167");
        assert_eq!(folder_label(Path::new("a/b")), "a/b");
        assert_eq!(folder_label(Path::new("")), "");
    }
}
