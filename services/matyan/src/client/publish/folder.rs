//! The folder of a copy: it gets its own name only when it is complete.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{
    DATA, Error, file_error,
    site::{FILES, INDEX, MARK, PAGES_ATTRIBUTE},
    view::PAGES,
};

/// A folder that is removed unless it is kept.
pub(super) struct PartialFolder {
    folder: TempDir,
    path: PathBuf,
    replaces: bool,
}

impl PartialFolder {
    /// Fails if there is something at the path, unless it is an empty folder, or `replaces` is set and it is a
    /// copy that was published earlier.
    pub(super) fn create(path: &Path, replaces: bool) -> Result<Self, Error> {
        // Without a dot or a slash at its end, which could not be renamed.
        let path = &path.components().collect::<PathBuf>();
        let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        check(path, replaces)?;
        check_name(path, parent)?;
        fs::create_dir_all(parent).map_err(file_error(parent))?;
        // Readable by others, as far as the umask allows it, unlike other temporary folders.
        let mut name = tempfile::Builder::new();
        name.prefix(".matyan-").suffix(".part").permissions(Permissions::from_mode(0o777));
        let folder = name.tempdir_in(parent).map_err(file_error(parent))?;
        Ok(Self { folder, path: path.to_owned(), replaces })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Gives the folder its name, and replaces the folder that had the name before.
    pub(super) fn keep(self) -> Result<(), Error> {
        let Self { folder, path, replaces } = self;
        let written = folder.path();
        // Renamed over an empty folder; an earlier copy has to leave first.
        let moved = match fs::rename(written, &path) {
            Err(error) if replaces && is_in_the_way(&error) => {
                check(&path, true)?;
                replace(written, &path)
            }
            outcome => outcome,
        };
        moved.map_err(file_error(&path))?;
        // Nothing is left to remove.
        drop(folder.keep());
        Ok(())
    }
}

fn is_in_the_way(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

fn replace(written: &Path, path: &Path) -> io::Result<()> {
    let old = written.with_extension("old");
    fs::rename(path, &old)?;
    if let Err(error) = fs::rename(written, path) {
        fs::rename(&old, path)?;
        return Err(error);
    }
    fs::remove_dir_all(&old)
}

/// Fails unless the folder is missing, empty, or an earlier copy that is to be replaced.
fn check(path: &Path, replaces: bool) -> Result<(), Error> {
    let shown = path.display();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file_error(path)(error)),
    };
    let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
    let names = names.map_err(file_error(path))?;
    if names.is_empty() {
        return Ok(());
    }
    let index = fs::read_to_string(path.join(INDEX)).unwrap_or_default();
    let message = if !is_copy(&index) {
        format!(
            "{shown} is not empty, and is not a published copy: choose another --output, or empty it yourself"
        )
    } else if !replaces {
        format!("{shown} contains an earlier copy: use --force to replace it, or choose another --output")
    } else if let Some(other) = names.iter().find(|name| !entries_of(&index).iter().any(|own| *name == *own))
    {
        format!(
            "{shown} contains {}, which is not part of an earlier copy and would be lost: move it away, or choose \
             another --output",
            other.display()
        )
    } else {
        return Ok(());
    };
    Err(Error::Message(message))
}

/// Fails if the complete folder could not get this name in its parent.
fn check_name(path: &Path, parent: &Path) -> Result<(), Error> {
    let shown = path.display();
    if path.file_name().is_none() {
        let message = format!("{shown} does not name a directory to create: choose another --output");
        return Err(Error::Message(message));
    }
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file_error(path)(error)),
    };
    if found.is_symlink() {
        let message = format!("{shown} is a link: choose the directory that it leads to as --output");
        return Err(Error::Message(message));
    }
    if found.dev() != fs::metadata(parent).map_err(file_error(parent))?.dev() {
        let message = format!(
            "{shown} is a mount point, which cannot be replaced: choose a directory in it as --output"
        );
        return Err(Error::Message(message));
    }
    Ok(())
}

/// Whether the index page of a folder belongs to a published copy.
pub(super) fn is_copy(index: &str) -> bool {
    index.contains(MARK)
}

/// The files and folders at the root of a copy with this index page.
pub(super) fn entries_of(index: &str) -> Vec<&'static str> {
    let pages: &[&str] = if index.contains(PAGES_ATTRIBUTE) { &PAGES } else { &[] };
    [INDEX, FILES, DATA].iter().chain(pages).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(path: &Path, replaces: bool, text: &str) -> Result<(), Error> {
        let folder = PartialFolder::create(path, replaces)?;
        fs::write(folder.path().join(INDEX), format!("{MARK} {text}")).unwrap();
        folder.keep()
    }

    #[test]
    fn only_an_earlier_copy_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/copy");
        publish(&path, false, "one").unwrap();
        let error = publish(&path, false, "two").unwrap_err().to_string();
        assert!(error.contains("use --force"), "{error}");
        fs::write(path.join("data"), "of the earlier copy").unwrap();
        publish(&path, true, "two").unwrap();
        assert_eq!(fs::read_to_string(path.join(INDEX)).unwrap(), format!("{MARK} two"));
        assert!(!path.join("data").exists());
        // Neither the partial folder nor the earlier copy is left.
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);

        // What somebody else has put there is not removed.
        fs::write(path.join(".git"), "history").unwrap();
        let error = publish(&path, true, "three").unwrap_err().to_string();
        assert!(error.contains("contains .git"), "{error}");
        assert_eq!(fs::read_to_string(path.join(".git")).unwrap(), "history");
        assert_eq!(fs::read_to_string(path.join(INDEX)).unwrap(), format!("{MARK} two"));

        // A copy of a run has no folders of other pages.
        fs::remove_file(path.join(".git")).unwrap();
        fs::create_dir(path.join("runs")).unwrap();
        let error = publish(&path, true, "three").unwrap_err().to_string();
        assert!(error.contains("contains runs"), "{error}");
        fs::write(path.join(INDEX), format!("{MARK}{PAGES_ATTRIBUTE}metrics\">")).unwrap();
        publish(&path, true, "three").unwrap();
        assert!(!path.join("runs").exists());

        let own = parent.path().join("own");
        fs::create_dir(&own).unwrap();
        publish(&own, false, "three").unwrap();
        fs::write(own.join(INDEX), "a page of somebody").unwrap();
        let error = publish(&own, true, "four").unwrap_err().to_string();
        assert!(error.contains("is not a published copy"), "{error}");
        assert_eq!(fs::read_to_string(own.join(INDEX)).unwrap(), "a page of somebody");
    }

    #[test]
    fn what_cannot_be_replaced_is_refused_at_once() {
        let parent = tempfile::tempdir().unwrap();
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(parent.path(), &link).unwrap();
        let dangling = parent.path().join("dangling");
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        let refused = |path: &Path| PartialFolder::create(path, false).err().unwrap().to_string();
        assert!(check_name(Path::new("."), Path::new(".")).is_err());
        assert!(check_name(&parent.path().join(".."), parent.path()).is_err());
        assert!(check_name(&link, parent.path()).unwrap_err().to_string().contains("is a link"));
        assert!(refused(&dangling).contains("is a link"));
        assert!(
            check_name(Path::new("/dev"), Path::new("/")).unwrap_err().to_string().contains("mount point")
        );
        // A dot at the end is not part of the name.
        let path = parent.path().join("copy");
        fs::create_dir(&path).unwrap();
        publish(&path.join("."), false, "one").unwrap();
        assert!(is_copy(&fs::read_to_string(path.join(INDEX)).unwrap()));
    }

    #[test]
    fn a_failed_copy_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("copy");
        drop(PartialFolder::create(&path, false).unwrap());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        let file = parent.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(PartialFolder::create(&file, true).is_err());
    }
}
