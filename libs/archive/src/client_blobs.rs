//! Blobs of an archive that a client writes: files under their own paths, unless a usual file system
//! may refuse a path, or confuse it with another. Such a blob is in a file named after the digest of
//! its path, and listed.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{BLOB_LIST, BLOBS, Fields, Result, digest_name, file_error};

/// Longest file name in bytes, of lower case, that all usual file systems accept.
const NAME_BYTES: usize = 200;
/// Characters that some file systems reserve.
const RESERVED: &str = "<>:\"|?*\\";

/// Number and total size of blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlobCounts {
    pub files: u64,
    pub bytes: u64,
}

/// The blobs of a run.
pub(super) struct ClientBlobs {
    folder: PathBuf,
    names: BlobNames,
    /// Lines about the blobs whose names are not their paths.
    list: String,
    counts: BlobCounts,
}

impl ClientBlobs {
    /// Starts with no blobs in the folder of a run.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            names: BlobNames::default(),
            list: String::new(),
            counts: BlobCounts::default(),
        }
    }

    /// Copies a blob.
    pub(super) fn add(&mut self, path: &str, content: &mut impl Read) -> Result<()> {
        let name = self.names.name(path);
        let file = self.folder.join(BLOBS).join(&name);
        let parent = file.parent().unwrap_or(self.folder.as_path());
        fs::create_dir_all(parent).map_err(file_error(parent))?;
        let mut target = File::create_new(&file).map_err(file_error(&file))?;
        let size = io::copy(content, &mut target).map_err(file_error(&file))?;
        self.counts.files += 1;
        self.counts.bytes += size;
        if name != path {
            let fields = Fields::default()
                .text("path", path)
                .text("content_type", "")
                .unsigned("size", size)
                .text("file", &name);
            self.list.push_str(&(fields.json() + "\n"));
        }
        Ok(())
    }

    /// Writes the list of the blobs whose names are not their paths, and returns how many blobs
    /// there are.
    pub(super) fn finish(self) -> Result<BlobCounts> {
        if !self.list.is_empty() {
            let file = self.folder.join(BLOB_LIST);
            fs::write(&file, self.list).map_err(file_error(&file))?;
        }
        Ok(self.counts)
    }
}

/// Names of blobs. Paths are compared without case, as on many file systems.
#[derive(Default)]
struct BlobNames {
    files: HashSet<String>,
    /// All folders above the files.
    folders: HashSet<String>,
}

impl BlobNames {
    /// Returns the file name of a blob below the folder of blobs, which no other blob has.
    fn name(&mut self, path: &str) -> String {
        let folded = folded(path);
        let above: Vec<&str> = folded.match_indices('/').map(|(end, _)| &folded[..end]).collect();
        let is_free = !self.files.contains(&folded)
            && !self.folders.contains(&folded)
            && !above.iter().any(|folder| self.files.contains(*folder));
        if !is_free || !folded.split('/').all(is_file_name) {
            return digest_name(path);
        }
        self.folders.extend(above.into_iter().map(str::to_owned));
        self.files.insert(folded);
        path.to_owned()
    }
}

/// Returns a text in one case, so that texts that differ in case only are equal: `ß` and `SS`, too.
fn folded(text: &str) -> String {
    text.to_uppercase().to_lowercase()
}

fn is_file_name(part: &str) -> bool {
    !matches!(part, "" | "." | "..")
        && part.len() <= NAME_BYTES
        // A digest.
        && !part.starts_with('~')
        && !part.chars().any(|it| it.is_control() || (it.is_whitespace() && it != ' ') || RESERVED.contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_path_is_used_as_the_file_name() {
        let mut names = BlobNames::default();
        for path in ["a", "b/c", "b/d.txt", "ü b/C", &"x".repeat(200)] {
            assert_eq!(names.name(path), path);
        }
    }

    #[test]
    fn a_path_that_a_file_system_may_refuse_is_replaced_by_its_digest() {
        let mut names = BlobNames::default();
        assert_eq!(names.name("a"), "a");
        assert_eq!(names.name("b/straße"), "b/straße");
        let taken = ["a", "A", "a/b", "b", "B/STRASSE"];
        let leading_elsewhere = ["", "..", "../x", "x/./y", "/x", "x//y", "x/"];
        let unusual = ["~x", "x/~y", "con<>.txt", "c:\\x", "x\ny", "x\u{2028}y"];
        for path in taken.into_iter().chain(leading_elsewhere).chain(unusual) {
            assert_eq!(names.name(path), digest_name(path), "{path:?}");
        }
        let long = "x".repeat(201);
        assert_eq!(names.name(&long), digest_name(&long));
    }

    #[test]
    fn only_blobs_with_other_names_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let mut blobs = ClientBlobs::new(folder.path());
        blobs.add("sub/plain", &mut &b"12345"[..]).unwrap();
        assert!(!folder.path().join(BLOB_LIST).exists());
        blobs.add("sub", &mut &b"12"[..]).unwrap();
        assert_eq!(blobs.finish().unwrap(), BlobCounts { files: 2, bytes: 7 });
        assert_eq!(fs::read(folder.path().join("blobs/sub/plain")).unwrap(), b"12345");
        let file = digest_name("sub");
        assert_eq!(fs::read(folder.path().join("blobs").join(&file)).unwrap(), b"12");
        let listed = fs::read_to_string(folder.path().join(BLOB_LIST)).unwrap();
        let expected = format!(r#"{{"content_type": "", "file": "{file}", "path": "sub", "size": 2}}"#);
        assert_eq!(listed, expected + "\n");
    }
}
