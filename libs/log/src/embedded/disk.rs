//! A trait of the operations that change files, so that tests can fail them and lose unsynced changes.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// A file open for reading and writing, which is changed only through a `Disk`, or a directory open for reading.
#[derive(Debug)]
pub struct DiskFile {
    pub path: PathBuf,
    pub file: File,
}

/// The disk of a log. What these calls change may be lost, in any combination, until it is
/// synced: the content and the length of a file by `sync`, its name by `sync_directory`.
pub trait Disk: Send + Sync + 'static {
    fn write(&self, file: &DiskFile, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Reserves space, so that later writes to it cannot fail because the disk is full.
    fn reserve(&self, file: &DiskFile, from: u64, to: u64) -> io::Result<()>;

    fn set_len(&self, file: &DiskFile, bytes: u64) -> io::Result<()>;

    fn sync(&self, file: &DiskFile) -> io::Result<()>;

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    fn sync_directory(&self, directory: &DiskFile) -> io::Result<()>;
}

/// The reason a file was not created.
#[derive(Debug)]
pub(super) enum CreationError {
    /// Nothing was changed: the creation can be repeated.
    Open(io::Error),
    /// A file system reports a lost change once. The next sync may succeed although the content or the name of the file
    /// is lost.
    Change(io::Error),
}

impl From<CreationError> for io::Error {
    fn from(error: CreationError) -> Self {
        match error {
            CreationError::Open(error) | CreationError::Change(error) => error,
        }
    }
}

/// The disk as the operating system provides it.
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn write(&self, file: &DiskFile, bytes: &[u8], position: u64) -> io::Result<()> {
        file.file.write_all_at(bytes, position)
    }

    fn reserve(&self, file: &DiskFile, from: u64, to: u64) -> io::Result<()> {
        let reserved =
            rustix::fs::fallocate(&file.file, rustix::fs::FallocateFlags::empty(), from, to - from);
        match reserved.map_err(io::Error::from) {
            // Some file systems cannot reserve space. Their writes may find the disk full.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => file.file.set_len(to),
            reserved => reserved,
        }
    }

    fn set_len(&self, file: &DiskFile, bytes: u64) -> io::Result<()> {
        file.file.set_len(bytes)
    }

    fn sync(&self, file: &DiskFile) -> io::Result<()> {
        file.file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &DiskFile) -> io::Result<()> {
        directory.file.sync_all()
    }
}

impl DiskFile {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(&path)?;
        Ok(Self { path, file })
    }

    /// Creates a file that has this content from the moment it has its name.
    pub(super) fn create(disk: &dyn Disk, path: PathBuf, content: &[u8]) -> Result<Self, CreationError> {
        let directory = path.parent().expect("files of the log are in its directory").to_owned();
        let file = File::open(&directory).map_err(CreationError::Open)?;
        let directory = Self { path: directory, file };
        let draft = path.with_extension("new");
        let mut options = File::options();
        options.create(true).truncate(true).read(true).write(true);
        let file = options.open(&draft).map_err(CreationError::Open)?;
        let mut created = Self { path: draft, file };
        disk.write(&created, content, 0)
            .and_then(|()| disk.sync(&created))
            .and_then(|()| disk.rename(&created.path, &path))
            .and_then(|()| disk.sync_directory(&directory))
            .map_err(CreationError::Change)?;
        created.path = path;
        Ok(created)
    }
}

/// True if the error says that the file system has no space left, and nothing worse.
pub(super) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
