//! The event files below a directory. Nothing is kept open: a file is opened for each part that is read.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Event files that are followed below one directory. More files suggest a mistake in the path of the directory.
const MAX_FILES: usize = 200_000;

/// Nesting of folders.
const MAX_DEPTH: usize = 64;

/// Size and time of a file, which show whether it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStat {
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
}

/// The event files of one folder by their names, which are in the order of their times.
pub(crate) type FolderFiles = BTreeMap<String, FileStat>;

/// The folders and files below a directory.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The folders by their paths below the directory.
    pub(crate) folders: BTreeMap<PathBuf, FolderFiles>,
    /// Places that cannot be read, with the reason.
    pub(crate) problems: Vec<String>,
}

/// Returns whether a name is the name of an event file, by TensorBoard's rule.
fn is_event_file(name: &str) -> bool {
    name.contains("tfevents")
}

/// Finds all event files below a directory. Links are not followed, because they may lead out of the directory, or in
/// a circle.
pub(crate) fn scan(root: &Path) -> Scan {
    let mut scan = Scan::default();
    let mut count = 0;
    let mut pending = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = pending.pop() {
        let entries = match fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            // The file was deleted after its name was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => continue,
            Err(error) => {
                scan.problems.push(format!("cannot read {}: {error}", root.join(&folder).display()));
                continue;
            }
        };
        let mut files = FolderFiles::new();
        for entry in entries.flatten() {
            let Ok(file_type) = entry.file_type() else { continue };
            // Writers of event files use no names that are not UTF-8.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if file_type.is_dir() && depth < MAX_DEPTH {
                pending.push((folder.join(name), depth + 1));
            } else if file_type.is_file() && is_event_file(&name) {
                count += 1;
                if count > MAX_FILES {
                    let problem = format!(
                        "{} has more than {MAX_FILES} event files: follow folders in it",
                        root.display()
                    );
                    scan.problems.push(problem);
                    return scan;
                }
                if let Ok(stat) = stat(&entry) {
                    files.insert(name, stat);
                }
            }
        }
        if !files.is_empty() {
            scan.folders.insert(folder, files);
        }
    }
    scan
}

fn stat(entry: &fs::DirEntry) -> io::Result<FileStat> {
    let metadata = entry.metadata()?;
    Ok(FileStat { size: metadata.len(), modified: metadata.modified()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_with_event_files_are_found() {
        let root = tempfile::tempdir().unwrap();
        for path in
            ["a/events.out.tfevents.1.host", "a/b/events.out.tfevents.2.host", "a/notes.txt", "c/model.pt"]
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "12345").unwrap();
        }
        let Scan { folders, problems } = scan(root.path());
        let found: Vec<_> =
            folders.iter().map(|(folder, files)| (folder.to_str().unwrap(), files.len())).collect();
        assert_eq!(found, [("a", 1), ("a/b", 1)]);
        assert_eq!(folders[Path::new("a")]["events.out.tfevents.1.host"].size, 5);
        assert!(problems.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("events.out.tfevents.1"), "").unwrap();
        std::os::unix::fs::symlink(other.path(), root.path().join("folder")).unwrap();
        let file = other.path().join("events.out.tfevents.1");
        std::os::unix::fs::symlink(file, root.path().join("events.out.tfevents.1")).unwrap();
        assert!(scan(root.path()).folders.is_empty());
    }

    #[test]
    fn a_directory_that_is_missing_is_a_problem() {
        let root = tempfile::tempdir().unwrap();
        let Scan { folders, problems } = scan(&root.path().join("none"));
        assert!(folders.is_empty() && problems.len() == 1, "{problems:?}");
    }
}
