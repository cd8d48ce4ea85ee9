//! Opening of the files of an archive that is a directory. An archive has no links, so none is followed: somebody who
//! may write to the directory could put one in the place of a file after the archive was checked.

use std::{fs::File, io, path::Path};

/// Opens a file by its path in a directory. The folders on the way need only be searchable, as for any path. A named
/// pipe is refused, and not waited for.
#[cfg(unix)]
pub(crate) fn open_in(root: &Path, name: &Path) -> io::Result<File> {
    use std::path::Component;

    use rustix::fs::{CWD, Mode, OFlags, openat};

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    const SEARCH: OFlags = OFlags::PATH;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    const SEARCH: OFlags = OFlags::RDONLY;

    let file = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let folder = SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut opened = openat(CWD, root, folder, Mode::empty())?;
    let mut rest = name.components().peekable();
    while let Some(part) = rest.next() {
        let Component::Normal(part) = part else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of the archive"));
        };
        let kind = if rest.peek().is_some() { folder } else { file };
        opened = openat(&opened, part, kind | OFlags::NOFOLLOW, Mode::empty())?;
    }
    let opened = File::from(opened);
    if !opened.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    Ok(opened)
}

/// Opens a file by its path in a directory.
#[cfg(not(unix))]
pub(crate) fn open_in(root: &Path, name: &Path) -> io::Result<File> {
    File::open(root.join(name))
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, io::Read as _, os::unix::fs::symlink};

    use super::*;

    fn text(root: &Path, name: &str) -> io::Result<String> {
        let mut text = String::new();
        open_in(root, Path::new(name))?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn rule_72_a_link_in_an_archive_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("archive");
        fs::create_dir_all(root.join("runs/a")).unwrap();
        fs::create_dir(place.path().join("secret")).unwrap();
        for file in ["archive/runs/a/run.json", "secret/run.json"] {
            fs::write(place.path().join(file), file).unwrap();
        }
        assert_eq!(text(&root, "runs/a/run.json").unwrap(), "archive/runs/a/run.json");
        assert_eq!(text(&root, "runs/a/gone").unwrap_err().kind(), io::ErrorKind::NotFound);
        symlink(place.path().join("secret/run.json"), root.join("runs/a/link")).unwrap();
        symlink(place.path().join("secret"), root.join("runs/b")).unwrap();
        for name in ["runs/a/link", "runs/b/run.json", "../secret/run.json", "/etc/hostname"] {
            assert!(text(&root, name).is_err(), "{name}");
        }
        // The archive itself may be named by a link.
        symlink(&root, place.path().join("named")).unwrap();
        assert!(text(&place.path().join("named"), "runs/a/run.json").is_ok());
    }

    /// Proves nothing if it runs as root, who may read every folder.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    #[test]
    fn folders_need_only_be_searchable() {
        use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("runs");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("run.json"), "run").unwrap();
        for folder in [folder.as_path(), root.path()] {
            fs::set_permissions(folder, Permissions::from_mode(0o111)).unwrap();
        }
        let found = text(root.path(), "runs/run.json");
        for folder in [root.path(), folder.as_path()] {
            fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
        }
        assert_eq!(found.unwrap(), "run");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn rule_72_a_named_pipe_in_an_archive_is_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let root = tempfile::tempdir().unwrap();
        mknodat(CWD, root.path().join("run.json"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for name in ["run.json", ""] {
            assert_eq!(text(root.path(), name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
