//! A directory that loses what no sync has covered when the power fails.
//!
//! The engine uses the file system directly. So this program replaces the two functions of the C library by which files
//! are synced: a sync notes the content of a file, or the names in a directory, as durable, and its own name, too. When
//! the power fails, an image of the directory is made in which every name and every page that has changed since it was
//! durable is old or new, or a page half of each. The power fails in the middle of a sync, which then has no effect.

#![expect(unsafe_code, reason = "functions of the C library are replaced")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsString, c_int};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

const PAGE: usize = 4_096;
const SECTOR: usize = 512;
/// Size of reads. A file ends before a piece that is all zeros: the rest of a journal is reserved.
const PIECE: usize = 1 << 20;

static FILES: Mutex<Option<LossyFiles>> = Mutex::new(None);
/// The directory whose syncs are counted, and their number.
static COUNTED: Mutex<Option<(PathBuf, u32)>> = Mutex::new(None);

#[unsafe(no_mangle)]
extern "C" fn fsync(descriptor: c_int) -> c_int {
    sync(descriptor)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    sync(descriptor)
}

fn sync(descriptor: c_int) -> c_int {
    // SAFETY: the caller keeps its descriptor open during the call.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    if FILES.lock().as_mut().is_some_and(|files| files.sync(descriptor)) {
        return 0;
    }
    if let Some((directory, syncs)) = &mut *COUNTED.lock()
        && path_of(descriptor) == *directory
    {
        *syncs += 1;
    }
    if rustix::fs::fsync(descriptor).is_ok() { 0 } else { -1 }
}

fn path_of(descriptor: BorrowedFd<'_>) -> PathBuf {
    fs::read_link(link_to(descriptor)).unwrap()
}

fn link_to(descriptor: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

/// Counts the syncs of a directory itself, but not the syncs of its files, until `counted_syncs`.
pub(super) fn count_syncs(directory: &Path) {
    let before = COUNTED.lock().replace((directory.canonicalize().unwrap(), 0));
    assert!(before.is_none(), "one directory at a time");
}

pub(super) fn counted_syncs() -> u32 {
    let (_, syncs) = COUNTED.lock().take().expect("syncs of a directory are counted");
    syncs
}

/// The power of a directory, which fails once.
pub(super) struct Power {
    /// The directory, whose content is durable at first.
    pub(super) directory: PathBuf,
    /// Where the image is made.
    pub(super) image: PathBuf,
    /// Number of the sync during which the power fails.
    pub(super) syncs: u32,
    /// Number of commits that are known to be durable at any moment.
    pub(super) durable: Arc<AtomicU64>,
    pub(super) random: StdRng,
}

impl Power {
    pub(super) fn turn_on(self) {
        let directory = self.directory.clone();
        let mut files = LossyFiles {
            power: self,
            files: HashMap::new(),
            names: HashMap::new(),
            durable_at_failure: None,
        };
        files.note_tree(&directory);
        let before = FILES.lock().replace(files);
        assert!(before.is_none(), "one directory at a time");
    }
}

/// Ends the power, if it has not failed before, and returns what was durable when it failed.
pub(super) fn end_power() -> u64 {
    let mut files = FILES.lock().take().expect("the power was turned on");
    if files.durable_at_failure.is_none() {
        files.fail();
    }
    files.durable_at_failure.expect("the power has failed")
}

struct LossyFiles {
    power: Power,
    /// By number of the inode.
    files: HashMap<u64, LossyFile>,
    /// The durable names of each directory.
    names: HashMap<PathBuf, BTreeMap<OsString, Entry>>,
    durable_at_failure: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(u64),
    Directory,
}

struct LossyFile {
    /// Open, so that no other file gets its number.
    file: File,
    durable: Content,
}

#[derive(Default)]
struct Content {
    /// Without zeros at the end.
    bytes: Vec<u8>,
    len: u64,
}

impl LossyFiles {
    /// Returns whether the file is in the directory.
    fn sync(&mut self, descriptor: BorrowedFd<'_>) -> bool {
        let path = path_of(descriptor);
        if !path.starts_with(&self.power.directory) {
            return false;
        }
        if self.durable_at_failure.is_some() {
            return true;
        }
        self.power.syncs -= 1;
        if self.power.syncs == 0 {
            self.fail();
            return true;
        }
        let file = File::open(link_to(descriptor)).unwrap();
        let metadata = file.metadata().unwrap();
        let is_named = metadata.nlink() > 0;
        let entry = if metadata.is_dir() { Entry::Directory } else { Entry::File(metadata.ino()) };
        match entry {
            Entry::File(_) => self.note_content(file),
            Entry::Directory => {
                let names = self.current_names(&path);
                self.names.insert(path.clone(), names);
            }
        }
        if is_named {
            self.note_name(&path, entry);
        }
        true
    }

    /// Notes the name of a file or directory that was synced, and the names of the directories around it. POSIX does
    /// not promise them, but file systems of Linux write them if they are new, and the engine counts on that: it
    /// does not sync the names of files of large values. The names of keyspaces need their own sync.
    fn note_name(&mut self, path: &Path, entry: Entry) {
        let mut path = path;
        let mut entry = entry;
        while path != self.power.directory.as_path()
            && let (Some(directory), Some(name)) = (path.parent(), path.file_name())
            && !directory.ends_with("keyspaces")
        {
            self.names.entry(directory.to_owned()).or_default().insert(name.to_owned(), entry);
            path = directory;
            entry = Entry::Directory;
        }
    }

    fn note_tree(&mut self, directory: &Path) {
        let names = self.current_names(directory);
        for (name, entry) in &names {
            let path = directory.join(name);
            match entry {
                Entry::File(_) => self.note_content(File::open(path).unwrap()),
                Entry::Directory => self.note_tree(&path),
            }
        }
        self.names.insert(directory.to_owned(), names);
    }

    fn note_content(&mut self, file: File) {
        let durable = Content::read(&file);
        self.files.insert(file.metadata().unwrap().ino(), LossyFile { file, durable });
    }

    /// The names in a directory, which may be gone.
    fn current_names(&mut self, directory: &Path) -> BTreeMap<OsString, Entry> {
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                names.insert(entry.file_name(), Entry::Directory);
            } else if let Ok(file) = File::open(entry.path()) {
                let number = file.metadata().unwrap().ino();
                let durable = Content::default();
                self.files.entry(number).or_insert(LossyFile { file, durable });
                names.insert(entry.file_name(), Entry::File(number));
            }
        }
        names
    }

    fn fail(&mut self) {
        // Read first: what is acknowledged from now on was not durable.
        self.durable_at_failure = Some(self.power.durable.load(Ordering::SeqCst));
        let directory = self.power.directory.clone();
        let image = self.power.image.clone();
        self.write_directory(&directory, &image);
    }

    fn write_directory(&mut self, from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        let old = self.names.get(from).cloned().unwrap_or_default();
        let new = self.current_names(from);
        let all: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for name in all {
            let is_new = self.power.random.random();
            match if is_new { new.get(name) } else { old.get(name) } {
                Some(Entry::Directory) => self.write_directory(&from.join(name), &to.join(name)),
                Some(Entry::File(number)) => self.write_file(*number, &to.join(name)),
                None => {}
            }
        }
    }

    fn write_file(&mut self, number: u64, to: &Path) {
        let LossyFile { file, durable } = &self.files[&number];
        let current = Content::read(file);
        let content = current.mixed_with(durable, &mut self.power.random);
        fs::write(to, &content.bytes).unwrap();
        File::options().write(true).open(to).unwrap().set_len(content.len).unwrap();
    }
}

impl Content {
    fn read(file: &File) -> Self {
        let len = file.metadata().unwrap().len();
        let mut bytes = Vec::new();
        loop {
            let start = bytes.len();
            bytes.resize(start + PIECE, 0);
            let read = file.read_at(&mut bytes[start..], start as u64).unwrap();
            bytes.truncate(start + read);
            if bytes[start..].iter().all(|byte| *byte == 0) {
                break;
            }
        }
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(used);
        Self { bytes, len }
    }

    /// Some of the pages that differ, from here or from before.
    fn mixed_with(&self, old: &Self, random: &mut StdRng) -> Self {
        let mut bytes = Vec::new();
        let most = self.bytes.len().max(old.bytes.len());
        while bytes.len() < most {
            let old = old.page(bytes.len());
            let mut page = self.page(bytes.len());
            if page != old {
                match random.random_range(0..3) {
                    0 => page = old,
                    1 => {
                        let torn = random.random_range(1..PAGE / SECTOR) * SECTOR;
                        page[torn..].copy_from_slice(&old[torn..]);
                    }
                    _ => {}
                }
            }
            bytes.extend_from_slice(&page);
        }
        let len = if random.random() { self.len } else { old.len };
        bytes.truncate(usize::try_from(len).unwrap());
        Self { bytes, len }
    }

    fn page(&self, start: usize) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        let used = self.bytes.get(start..).unwrap_or_default();
        let used = &used[..used.len().min(PAGE)];
        page[..used.len()].copy_from_slice(used);
        page
    }
}
