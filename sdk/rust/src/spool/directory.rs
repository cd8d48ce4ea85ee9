//! Directories of spools. Each producer has one, `<root>/<producer id>/`, which only this user can
//! enter:
//!
//! | name | content |
//! |---|---|
//! | `owner` | JSON: the run, where to send it, and the process that created the spool |
//! | `lock` | locked by the process that appends to the spool or sends it |
//! | `NNNNNNNN.seg` | records |
//! | `series` | the dictionary |
//! | `cuts` | the journal of batches |
//! | `uploads/` | files that are not uploaded yet |
//!
//! A spool without `owner` was never used. One whose lock can be taken has been left behind.

use std::{
    fs::{self, File, FileTimes, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::{
    server_url::GRPC_PREFIX,
    spool::{
        cuts::{self, Mark},
        producer::ProducerId,
    },
    sys::{
        files,
        fork::{self, ProcessLocal},
        process,
    },
};

/// Version of everything in the directory. One of another version is left alone.
const FORMAT: u32 = 1;
const OWNER: &str = "owner";
/// The same before it is complete.
const NEW_OWNER: &str = "owner.new";
const LOCK: &str = "lock";
const UPLOADS: &str = "uploads";
const SEGMENT_SUFFIX: &str = ".seg";
/// Number of the first segment of a spool.
pub(crate) const FIRST_SEGMENT: u32 = 1;

/// Content of `owner`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) format: u32,
    pub(crate) run_id: String,
    /// Whether the run existed before, so that its terminal lines continue.
    pub(crate) is_resumed: bool,
    /// Number that is added to its terminal lines, if that was known at its creation.
    #[serde(default)]
    pub(crate) first_line: Option<i64>,
    /// Whether only an explicit command sends it.
    pub(crate) is_offline: bool,
    pub(crate) gateway_url: String,
    pub(crate) backend_url: String,
    pub(crate) created_us: i64,
    pub(crate) process: OwnerProcess,
}

/// The process that created a spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnerProcess {
    pub(crate) pid: u32,
    pub(crate) parent_pid: u32,
    pub(crate) started: u64,
    pub(crate) host: String,
    pub(crate) boot_id: String,
    /// Number of forks since the library was first used.
    pub(crate) generation: u64,
}

/// A directory that this process owns.
pub(crate) struct SpoolDirectory {
    path: PathBuf,
    producer: ProducerId,
    /// Absent once the spool is left to a later process.
    lock: Option<ProcessLocal>,
}

impl Owner {
    /// Describes a spool of this process.
    pub(crate) fn of_this_process(
        run_id: &str,
        gateway_url: &str,
        backend_url: &str,
        created_us: i64,
    ) -> Self {
        Self {
            format: FORMAT,
            run_id: run_id.to_owned(),
            is_resumed: false,
            first_line: None,
            is_offline: false,
            gateway_url: gateway_url.to_owned(),
            backend_url: backend_url.to_owned(),
            created_us,
            process: OwnerProcess {
                pid: std::process::id(),
                parent_pid: process::parent_id(),
                started: process::started(),
                host: process::host(),
                boot_id: process::boot_id(),
                generation: fork::generation(),
            },
        }
    }

    /// URL of the gateway for requests by plain HTTP, such as those for uploads.
    pub(crate) fn upload_url(&self) -> &str {
        self.gateway_url.strip_prefix(GRPC_PREFIX).unwrap_or(&self.gateway_url)
    }

    /// Whether the process runs for all that can be known here. The lock is the better evidence, but
    /// some file systems only pretend to have locks.
    pub(crate) fn is_running(&self) -> bool {
        let owner = &self.process;
        let is_here = owner.host == process::host() && owner.boot_id == process::boot_id();
        is_here && owner.pid != std::process::id() && process::is_running(owner.pid, owner.started)
    }

    /// Whether the process ran on another machine, where it may still run. Containers have their own
    /// names, but share the kernel, and with it the locks, of their machine.
    pub(crate) fn is_elsewhere(&self) -> bool {
        let is_same_kernel = !self.process.boot_id.is_empty() && self.process.boot_id == process::boot_id();
        self.process.host != process::host() && !is_same_kernel
    }

    /// Whether this process made the spool, which it still sends itself.
    pub(crate) fn is_own(&self) -> bool {
        self.process.pid == std::process::id() && self.process.started == process::started()
    }

    /// Whether this process started the owner.
    pub(crate) fn is_child(&self) -> bool {
        self.process.parent_pid == std::process::id() && self.process.boot_id == process::boot_id()
    }

    /// Whether this process forked the owner, which then used runs that are open here.
    pub(crate) fn is_forked_child(&self) -> bool {
        self.is_child() && self.process.generation > fork::generation()
    }
}

impl SpoolDirectory {
    /// Creates the directory of a new producer, with everything but records.
    pub(crate) fn create(root: &Path, owner: &Owner) -> io::Result<Self> {
        let producer = ProducerId::random()?;
        let path = root.join(producer.name());
        files::create_private_directory(root)?;
        check_privacy(root)?;
        match Self::create_files(&path, producer, owner) {
            Ok(lock) => Ok(Self { path, producer, lock: Some(lock) }),
            Err(error) => {
                // Without an owner, nothing else would remove it. Listing it needs a descriptor, and
                // there may be none.
                for file in [LOCK, NEW_OWNER, cuts::FILE, cuts::NEW_FILE] {
                    fs::remove_file(path.join(file)).ok();
                }
                fs::remove_dir(path.join(UPLOADS)).ok();
                fs::remove_dir(path).ok();
                Err(error)
            }
        }
    }

    fn create_files(path: &Path, producer: ProducerId, owner: &Owner) -> io::Result<ProcessLocal> {
        files::create_private_directory(&path.join(UPLOADS))?;
        let Some(lock) = take_lock(path)? else {
            return Err(io::Error::other("the lock of a new spool is held"));
        };
        cuts::Cuts::create(path, producer, Mark::at_segment(FIRST_SEGMENT).position)?;
        write_owner(path, owner)?;
        Ok(lock)
    }

    /// Takes over a directory. Returns `None` if it is in use, was never used, or has another format.
    pub(crate) fn claim(path: &Path) -> io::Result<Option<(Self, Owner)>> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(producer) = ProducerId::parse(name) else { return Ok(None) };
        let Some(owner) = read_owner(path)? else { return Ok(None) };
        if owner.is_running() || !is_private(path) {
            return Ok(None);
        }
        let Some(lock) = take_lock(path)? else { return Ok(None) };
        // Its last owner may have removed it, or changed its name, before the lock was free.
        let lock = Some(lock);
        Ok(read_owner(path)?.map(|owner| (Self { path: path.to_owned(), producer, lock }, owner)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn producer(&self) -> ProducerId {
        self.producer
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        uploads(&self.path)
    }

    /// Leaves the spool to a later process.
    pub(crate) fn unlock(&mut self) {
        self.lock = None;
    }

    /// Describes the owner differently.
    pub(crate) fn set_owner(&self, owner: &Owner) -> io::Result<()> {
        write_owner(&self.path, owner)
    }

    /// Gives the spool to a new producer.
    pub(crate) fn replace_producer(&mut self) -> io::Result<()> {
        let producer = ProducerId::random()?;
        let path = self.path.with_file_name(producer.name());
        fs::rename(&self.path, &path)?;
        self.path = path;
        self.producer = producer;
        Ok(())
    }

    /// Removes everything. The lock is held until `self` is dropped.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // Without an owner, another process does not look further.
        fs::remove_file(self.path.join(OWNER))?;
        fs::remove_dir_all(&self.path)
    }
}

/// Paths of all spools of a root. Leaves out directories that another user has put there, because
/// their content decides which files are sent, and to which server.
pub(crate) fn list(root: &Path) -> Vec<PathBuf> {
    if check_privacy(root).is_err() {
        return Vec::new();
    }
    let entries = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| is_spool(path) && is_private(path)).collect()
}

/// Whether the path has the form of the path of a spool.
fn is_spool(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).and_then(ProducerId::parse).is_some()
}

/// Marks all files as used, so that programs that delete old files leave them, and writes `owner`
/// again if it is missing: without it, nothing would find the spool.
pub(crate) fn renew(spool: &Path, owner: &Owner) -> io::Result<()> {
    let now = FileTimes::new().set_accessed(SystemTime::now()).set_modified(SystemTime::now());
    for directory in [spool.to_owned(), uploads(spool)] {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_file() {
                File::options().append(true).open(path)?.set_times(now)?;
            }
        }
    }
    if !spool.join(OWNER).exists() {
        write_owner(spool, owner)?;
    }
    Ok(())
}

fn write_owner(path: &Path, owner: &Owner) -> io::Result<()> {
    let new = path.join(NEW_OWNER);
    fs::write(&new, serde_json::to_vec(owner)?)?;
    fs::rename(new, path.join(OWNER))
}

/// Reads `owner`. Returns `None` if there is none, or one of another format.
pub(crate) fn read_owner(path: &Path) -> io::Result<Option<Owner>> {
    let text = match fs::read(path.join(OWNER)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(serde_json::from_slice(&text).ok().filter(|owner: &Owner| owner.format == FORMAT))
}

/// Path of a segment.
pub(crate) fn segment_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:08}{SEGMENT_SUFFIX}"))
}

/// Directory of the files of a spool that are not uploaded yet.
pub(crate) fn uploads(directory: &Path) -> PathBuf {
    directory.join(UPLOADS)
}

/// Size of these files.
pub(crate) fn upload_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(uploads(directory)).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Numbers and sizes of the segments of a directory, in order.
pub(crate) fn segments(directory: &Path) -> io::Result<Vec<(u32, u64)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(SEGMENT_SUFFIX));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            segments.push((number, entry.metadata()?.len()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Whether a process holds the lock of a spool, such as one in another container, which cannot be
/// seen.
pub(crate) fn is_locked(path: &Path) -> bool {
    File::open(path.join(LOCK)).is_ok_and(|file| matches!(try_lock(&file), Ok(false)))
}

fn take_lock(path: &Path) -> io::Result<Option<ProcessLocal>> {
    let file = match OpenOptions::new().write(true).create(true).truncate(false).open(path.join(LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // From here on a fork closes the copy in the child.
    match try_lock(&file) {
        Ok(true) => Ok(Some(ProcessLocal::new(file))),
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        // Without locks, `Owner::is_running` decides.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Refuses a root in which another user could have prepared spools, or could replace ours.
#[cfg(unix)]
fn check_privacy(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    const OTHERS_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    let refuse = |reason: &str| {
        let reason = format!("{} {reason}: choose another directory by MATYAN_SPOOL_DIR", root.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
    };
    let metadata = fs::metadata(root)?;
    let own = rustix::process::getuid().as_raw();
    if metadata.uid() != own && metadata.uid() != 0 {
        return refuse("belongs to another user");
    }
    if metadata.mode() & OTHERS_WRITE != 0 && metadata.mode() & STICKY == 0 {
        return refuse("can be changed by other users");
    }
    // In a directory such as /tmp, the root itself could belong to another user, or lead there.
    // A relative path of one component is in the working directory.
    let here =
        |parent: &Path| if parent.as_os_str().is_empty() { Path::new(".").into() } else { parent.to_owned() };
    let parent = root.parent().map(here).map(fs::metadata).transpose()?;
    let is_shared = parent.is_some_and(|parent| parent.mode() & 0o002 != 0);
    if is_shared && !is_private(root) {
        return refuse("is a link, or other users can write to it");
    }
    Ok(())
}

/// Whether only this user can have written the content of a directory.
#[cfg(unix)]
fn is_private(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let own = rustix::process::getuid().as_raw();
    fs::symlink_metadata(directory)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own && metadata.mode() & 0o022 == 0)
}

#[cfg(not(unix))]
fn is_private(_: &Path) -> bool {
    true
}

#[cfg(not(unix))]
fn check_privacy(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
