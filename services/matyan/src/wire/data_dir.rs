//! The data directory: used by one process at a time, with a secret that is created once. Its files
//! contain what was logged and the digests of tokens, so a new directory is only for its owner.
//!
//! ```text
//! {data_dir}/lock      locked by the process that uses the directory; contains its process id
//! {data_dir}/secret    64 hex digits that sign tokens and URLs, readable only by the owner
//! {data_dir}/store/  log/  blobs/
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rand::Rng;
use tempfile::NamedTempFile;

use crate::settings::Secret;

/// Mode of a new data directory: only for its owner.
const PRIVATE: u32 = 0o700;
/// Mode of its missing parents, before the umask.
const PLAIN: u32 = 0o777;
/// Permissions of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "the data directory {} is in use by {holder}: stop that process, or use another --data-dir; to run services in \
         separate processes, keep state in FoundationDB (--store fdb:), or run all of them in one with `matyan up`",
        path.display()
    )]
    InUse { path: PathBuf, holder: String },
    #[error("cannot use the directory {} ({what} failed): check its path and permissions", path.display())]
    Unusable { path: PathBuf, what: &'static str, source: io::Error },
    #[error("the file {} does not contain 64 hex digits: restore it from a backup, or remove it to create a new one", .0.display())]
    BadSecret(PathBuf),
}

#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Locked until it is dropped; the operating system releases the lock no matter how the
    /// process ends.
    _lock: File,
}

impl DataDir {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let path = open_private_dir(path)?;
        let unusable = |what| {
            let path = path.clone();
            move |source| Error::Unusable { path, what, source }
        };
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .create(true)
            // Truncated only once it is locked: until then it contains the process id of the holder.
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(unusable("opening its lock file"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { holder: holder(&lock_path), path }),
            Err(TryLockError::Error(source)) => return Err(unusable("locking it")(source)),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(unusable("writing its lock file"))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The secret of this directory. It is created and synced before its first use.
    pub(crate) fn secret(&self) -> Result<Secret, Error> {
        let path = self.path.join("secret");
        let unusable =
            |source| Error::Unusable { path: self.path.clone(), what: "accessing its secret", source };
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim() {
                secret if secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                    Ok(Secret::new(secret))
                }
                _ => Err(Error::BadSecret(path)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create_secret(&path).map_err(unusable)
            }
            Err(error) => Err(unusable(error)),
        }
    }

    fn create_secret(&self, path: &Path) -> io::Result<Secret> {
        let secret = new_secret();
        // A temporary file is readable only by its owner.
        let mut file = NamedTempFile::new_in(&self.path)?;
        writeln!(file, "{secret}")?;
        file.as_file().sync_all()?;
        // An existing secret is never replaced.
        file.persist_noclobber(path)?;
        File::open(&self.path)?.sync_all()?;
        Ok(Secret::new(secret))
    }
}

/// A new random secret.
pub(crate) fn new_secret() -> String {
    hex::encode(rand::rng().random::<[u8; 32]>())
}

/// Creates a directory for its owner only, if it is missing. Logs a warning if other users have access to an existing
/// directory. Returns the real path of the directory.
pub(super) fn open_private_dir(path: &Path) -> Result<PathBuf, Error> {
    let unusable = |what| move |source| Error::Unusable { path: path.to_owned(), what, source };
    create_dir_synced(path, PRIVATE).map_err(unusable("creating it"))?;
    let path = path.canonicalize().map_err(unusable("resolving its path"))?;
    if is_open_to_others(&path).map_err(unusable("reading its permissions"))? {
        let path = path.display();
        tracing::warn!(%path, "other users may have access to what was logged: run `chmod o= {path}`");
    }
    Ok(path)
}

/// Whether users other than the owner and the group may use a directory.
fn is_open_to_others(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.permissions().mode() & OTHERS != 0)
}

/// Creates a directory and its missing parents, and syncs each parent from the top, so that a
/// power loss cannot remove the directory together with its contents.
fn create_dir_synced(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir_synced(parent, PLAIN)?;
    match DirBuilder::new().mode(mode).create(path) {
        // Another process may have created it first.
        Err(error) if !path.is_dir() => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

/// Describes the holder of the lock, which may not have written its process id yet.
fn holder(lock: &Path) -> String {
    match fs::read_to_string(lock) {
        Ok(number) if !number.trim().is_empty() => format!("process {}", number.trim()),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn rule_73_a_new_data_directory_is_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/on/demand");
        drop(DataDir::open(&path).unwrap());
        assert_eq!(mode(&path), 0o700);
        assert!(!is_open_to_others(&path).unwrap());
        // Its parents are not the server's own.
        let plain = folder.path().join("plain");
        fs::create_dir(&plain).unwrap();
        assert_eq!(mode(path.parent().unwrap()), mode(&plain));
    }

    #[test]
    fn rule_73_the_mode_of_an_existing_directory_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        for (given, is_open) in [(0o755, true), (0o701, true), (0o750, false), (0o770, false)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(given)).unwrap();
            drop(DataDir::open(folder.path()).unwrap());
            assert_eq!(mode(folder.path()), given);
            assert_eq!(is_open_to_others(folder.path()).unwrap(), is_open, "{given:o}");
        }
    }

    #[test]
    fn a_data_directory_is_used_by_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/on/demand");
        let first = DataDir::open(&path).unwrap();
        let refused = DataDir::open(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("in use by process {}:", std::process::id())), "{refused}");
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn the_secret_is_created_once_and_readable_only_by_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let secret = DataDir::open(folder.path()).unwrap().secret().unwrap();
        let again = DataDir::open(folder.path()).unwrap().secret().unwrap();
        assert_eq!(secret.reveal(), again.reveal());
        assert_eq!(mode(&folder.path().join("secret")), 0o600);

        let other = tempfile::tempdir().unwrap();
        assert_ne!(DataDir::open(other.path()).unwrap().secret().unwrap().reveal(), secret.reveal());
    }

    #[test]
    fn a_damaged_secret_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(folder.path()).unwrap();
        for damaged in ["", "abc", &"x".repeat(64)] {
            fs::write(folder.path().join("secret"), damaged).unwrap();
            assert!(matches!(data_dir.secret(), Err(Error::BadSecret(_))));
        }
    }
}
