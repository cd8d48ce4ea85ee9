//! Names and ids of runs, series and files.

use std::{borrow::Cow, path::Path};

use matyan_proto::limits::NAME_BYTES;
use sha2::{Digest as _, Sha256};

/// Hexadecimal digits of a run's id.
const RUN_ID_DIGITS: usize = 32;

/// Hexadecimal digits of a digest in a name or a path.
const DIGEST_DIGITS: usize = 16;

/// The digest of texts that contain no NUL, in hexadecimal digits.
fn digest(parts: &[&str], digits: usize) -> String {
    let mut digest = hex::encode(Sha256::digest(parts.join("\0")));
    digest.truncate(digits);
    digest
}

/// The path of a folder below the directory, with slashes.
pub(crate) fn folder_label(folder: &Path) -> String {
    let segments = folder.components().map(|segment| segment.as_os_str().to_string_lossy());
    segments.collect::<Vec<_>>().join("/")
}

/// The id of the run in a folder whose first event file has this name. The id stays the same when the directory is
/// moved. The importer gives the same id, so that an imported run is not stored twice.
pub(crate) fn run_id(label: &str, first_file: &str) -> String {
    digest(&["tensorboard", label, first_file], RUN_ID_DIGITS)
}

/// A name within the limit. A longer name ends with its digest, so that no two names become equal.
pub(crate) fn fitting_name(name: &str) -> Cow<'_, str> {
    if name.len() <= NAME_BYTES {
        return Cow::Borrowed(name);
    }
    let ending = format!("~{}", digest(&[name], DIGEST_DIGITS));
    let most = NAME_BYTES - ending.len();
    let end = (0..=most).rev().find(|at| name.is_char_boundary(*at)).unwrap_or_default();
    Cow::Owned(format!("{}{ending}", &name[..end]))
}

/// The path in a run of a file that belongs to an object. The folder holds files that are not artifacts.
pub(crate) fn object_path(tag: &str, step: i64, index: usize, format: &str) -> String {
    format!("seq/{}/{step}-{index}.{format}", digest(&[tag], DIGEST_DIGITS))
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

    #[test]
    fn long_names_stay_different() {
        let one = format!("{}1", "é".repeat(NAME_BYTES));
        let other = format!("{}2", "é".repeat(NAME_BYTES));
        let names = [fitting_name(&one), fitting_name(&other)];
        assert!(names.iter().all(|name| name.len() <= NAME_BYTES) && names[0] != names[1]);
        assert_eq!(fitting_name("loss"), "loss");
    }
}
