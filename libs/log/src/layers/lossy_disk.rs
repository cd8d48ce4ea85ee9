//! A disk that fails on demand, and that loses unsynced changes: a power failure keeps any
//! combination of the unsynced sectors, lengths, and names, like file systems that reorder writes.
//! A failed write writes the first half, and a failed sync loses some unsynced changes immediately,
//! like kernels.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::embedded::{Disk, DiskFile, SystemDisk};

/// The unit that a power failure keeps or loses as a whole.
const SECTOR_BYTES: u64 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    Write,
    Reserve,
    Sync,
    SyncDirectory,
}

pub struct LossyDisk(Mutex<LossyState>);

struct LossyState {
    random: StdRng,
    /// Changes that may be lost, oldest first.
    unsynced: Vec<Change>,
    faults: VecDeque<(DiskOperation, io::Error)>,
    /// Writes and syncs of any file until all of them fail.
    failing_after: Option<(usize, io::ErrorKind)>,
    has_power: bool,
}

/// A change of the disk, with the data that undoes it.
enum Change {
    Content { path: PathBuf, position: u64, before: Vec<u8> },
    Length { path: PathBuf, before: u64, cut_off: Vec<u8> },
    Renamed { from: PathBuf, to: PathBuf },
    Removed { path: PathBuf, content: Vec<u8> },
}

impl Change {
    fn is_of_file(&self, file: &Path) -> bool {
        match self {
            Self::Content { path, .. } | Self::Length { path, .. } => path == file,
            Self::Renamed { .. } | Self::Removed { .. } => false,
        }
    }
}

impl LossyDisk {
    pub fn seeded(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self(Mutex::new(LossyState {
            random,
            unsynced: Vec::new(),
            faults: VecDeque::new(),
            failing_after: None,
            has_power: true,
        }))
    }

    /// Fails the next operation of this kind on a segment or a directory, once the faults requested before have
    /// happened.
    pub fn fail(&self, operation: DiskOperation, error: impl Into<io::Error>) {
        self.lock().faults.push_back((operation, error.into()));
    }

    /// Fails all writes and syncs after this number of them, of any file, also that with the identity and
    /// the trimmed offsets.
    pub fn fail_after(&self, steps: usize, kind: io::ErrorKind) {
        self.lock().failing_after = Some((steps, kind));
    }

    /// Repairs the disk after `fail_after`.
    pub fn repair(&self) {
        self.lock().failing_after = None;
    }

    /// True if faults remain that have not happened.
    pub fn has_faults(&self) -> bool {
        !self.lock().faults.is_empty()
    }

    /// Cuts the power: unsynced changes are lost in part, and nothing works from now on.
    pub fn cut_power(&self) {
        let mut state = self.lock();
        state.has_power = false;
        state.lose_some(|_| true);
    }

    fn lock(&self) -> MutexGuard<'_, LossyState> {
        self.0.lock().expect("no thread panics while using the disk")
    }

    fn start(&self) -> io::Result<MutexGuard<'_, LossyState>> {
        let state = self.lock();
        if state.has_power { Ok(state) } else { Err(io::Error::other("the power is off")) }
    }

    fn start_on(&self, path: &Path, operation: DiskOperation) -> io::Result<MutexGuard<'_, LossyState>> {
        let mut state = self.start()?;
        match &mut state.failing_after {
            Some((0, kind)) => return Err((*kind).into()),
            Some((steps, _)) => *steps -= 1,
            None => {}
        }
        let is_eligible = path.extension().is_some_and(|extension| extension == "log")
            || operation == DiskOperation::SyncDirectory;
        match state.faults.pop_front_if(|(next, _)| is_eligible && *next == operation) {
            Some((_, error)) => Err(error),
            None => Ok(state),
        }
    }
}

impl Disk for LossyDisk {
    fn write(&self, file: &DiskFile, bytes: &[u8], position: u64) -> io::Result<()> {
        match self.start_on(&file.path, DiskOperation::Write) {
            Ok(mut state) => state.write(file, bytes, position),
            Err(error) => {
                let mut state = self.lock();
                if state.has_power {
                    state.write(file, &bytes[..bytes.len() / 2], position)?;
                }
                Err(error)
            }
        }
    }

    fn reserve(&self, file: &DiskFile, from: u64, to: u64) -> io::Result<()> {
        let mut state = self.start_on(&file.path, DiskOperation::Reserve)?;
        state.record_length(file, to, false)?;
        SystemDisk.reserve(file, from, to)
    }

    fn set_len(&self, file: &DiskFile, bytes: u64) -> io::Result<()> {
        let mut state = self.start()?;
        state.record_length(file, bytes, true)?;
        SystemDisk.set_len(file, bytes)
    }

    fn sync(&self, file: &DiskFile) -> io::Result<()> {
        let synced = self.start_on(&file.path, DiskOperation::Sync);
        match synced {
            Ok(mut state) => {
                state.unsynced.retain(|change| !change.is_of_file(&file.path));
                Ok(())
            }
            Err(error) => {
                let mut state = self.lock();
                if state.has_power {
                    state.lose_some(|change| change.is_of_file(&file.path));
                }
                Err(error)
            }
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.start()?;
        state.unsynced.push(Change::Renamed { from: from.to_owned(), to: to.to_owned() });
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.start()?;
        state.unsynced.push(Change::Removed { path: path.to_owned(), content: fs::read(path)? });
        SystemDisk.remove(path)
    }

    fn sync_directory(&self, directory: &DiskFile) -> io::Result<()> {
        let path = directory.path.as_path();
        let mut state = self.start_on(path, DiskOperation::SyncDirectory)?;
        state.unsynced.retain(|change| match change {
            Change::Renamed { to: name, .. } | Change::Removed { path: name, .. } => {
                name.parent() != Some(path)
            }
            Change::Content { .. } | Change::Length { .. } => true,
        });
        Ok(())
    }
}

impl LossyState {
    fn write(&mut self, file: &DiskFile, bytes: &[u8], position: u64) -> io::Result<()> {
        let end = position + bytes.len() as u64;
        self.record_length(file, end, false)?;
        let mut from = position;
        while from < end {
            let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
            let mut before = vec![0; (to - from) as usize];
            read_available(&file.file, &mut before, from)?;
            self.unsynced.push(Change::Content { path: file.path.clone(), position: from, before });
            from = to;
        }
        SystemDisk.write(file, bytes, position)
    }

    /// Records a change of the length, if `bytes` is one.
    fn record_length(&mut self, file: &DiskFile, bytes: u64, may_shrink: bool) -> io::Result<()> {
        let before = file.file.metadata()?.len();
        if bytes > before || (may_shrink && bytes < before) {
            let mut cut_off = vec![0; before.saturating_sub(bytes) as usize];
            read_available(&file.file, &mut cut_off, bytes)?;
            self.unsynced.push(Change::Length { path: file.path.clone(), before, cut_off });
        }
        Ok(())
    }

    /// Undoes some of the selected changes, and makes the others permanent.
    fn lose_some(&mut self, is_selected: impl Fn(&Change) -> bool) {
        let share = self.random.random::<f64>();
        let (selected, rest) = std::mem::take(&mut self.unsynced).into_iter().partition(is_selected);
        self.unsynced = rest;
        let selected: Vec<Change> = selected;
        for change in selected.into_iter().rev() {
            if self.random.random::<f64>() < share {
                change.undo().expect("the files are still writable");
            }
        }
    }
}

impl Change {
    fn undo(self) -> io::Result<()> {
        match self {
            Self::Content { path, position, before } => {
                let Some(file) = open_existing(&path)? else { return Ok(()) };
                let kept = file.metadata()?.len().saturating_sub(position).min(before.len() as u64);
                file.write_all_at(&before[..kept as usize], position)
            }
            Self::Length { path, before, cut_off } => {
                let Some(file) = open_existing(&path)? else { return Ok(()) };
                file.set_len(before)?;
                file.write_all_at(&cut_off, before - cut_off.len() as u64)
            }
            Self::Renamed { from, to } if to.exists() => fs::rename(to, from),
            Self::Renamed { .. } => Ok(()),
            Self::Removed { path, content } => fs::write(path, content),
        }
    }
}

fn open_existing(path: &Path) -> io::Result<Option<File>> {
    match File::options().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Fills the buffer from the file, and leaves it unchanged after the end of the file.
fn read_available(file: &File, mut buffer: &mut [u8], mut position: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let bytes = file.read_at(buffer, position)?;
        if bytes == 0 {
            break;
        }
        buffer = &mut buffer[bytes..];
        position += bytes as u64;
    }
    Ok(())
}
