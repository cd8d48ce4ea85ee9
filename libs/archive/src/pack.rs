//! Archives packed into one file: a compressed tar that contains the folder. Unpacking trusts
//! nothing in it: it accepts one top folder with plain files and folders only, no path that
//! leads outside, and limits both the total growth and the metadata between files.

use std::{
    cell::Cell,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Component, Path, PathBuf},
    rc::Rc,
};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use tempfile::{TempDir, TempPath};

use super::{Result, damaged, durable, file_error};

/// Largest growth factor accepted. Numbers as text compress to a tenth; an archive that claims
/// to grow more than this is meant to fill a disk.
const MAX_GROWTH: u64 = 200;
const MAX_GROWTH_FREE: u64 = 1 << 30;
const MAX_FILES: usize = 20_000_000;
/// Limit of the tar metadata before each file, which is held in memory: far more than names
/// need.
const MAX_BETWEEN: u64 = 1 << 20;
/// Bytes outside the packed file between two calls of an `Interrupt`.
const INTERRUPT_BYTES: u64 = 4 << 20;

/// Called from time to time while an archive is packed or unpacked; an error ends the packing or unpacking.
pub type Interrupt<'i> = dyn FnMut() -> io::Result<()> + 'i;

/// Returns the path of the file that a folder is packed into.
pub(super) fn packed(root: &Path) -> PathBuf {
    root.with_file_name(format!("{}.tar.gz", name(root)))
}

fn name(root: &Path) -> String {
    root.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Packs a folder into a file next to it and removes the folder. An existing file is not
/// replaced.
pub fn pack(root: &Path) -> Result<PathBuf> {
    pack_interruptibly(root, &mut || Ok(()))
}

/// Packs like `pack`, unless it is interrupted.
pub fn pack_interruptibly(root: &Path, interrupt: &mut Interrupt<'_>) -> Result<PathBuf> {
    let name = name(root);
    let target = packed(root);
    let part = root.with_file_name(format!("{name}.tar.gz.part"));
    let file = File::create(&part).map_err(file_error(&part))?;
    // The file is removed when this value is dropped.
    let part = TempPath::try_from_path(&part).map_err(file_error(&part))?;
    let encoder = GzEncoder::new(BufWriter::new(file), Compression::default());
    let mut tar =
        tar::Builder::new(InterruptibleWriter { inner: encoder, interrupts: InterruptCount::new(interrupt) });
    tar.mode(tar::HeaderMode::Deterministic);
    tar.follow_symlinks(false);
    let written = tar.append_dir_all(&name, root).and_then(|()| tar.into_inner()?.inner.finish());
    let synced = written.and_then(|file| file.into_inner()?.sync_all());
    synced.map_err(file_error(&part))?;
    part.persist_noclobber(&target).map_err(|error| file_error(&target)(error.error))?;
    if let Some(parent) = target.parent().filter(|it| !it.as_os_str().is_empty()) {
        durable::sync(parent)?;
    }
    fs::remove_dir_all(root).map_err(file_error(root))?;
    Ok(target)
}

/// Unpacks an archive into a temporary folder. Returns that folder, which is removed on drop,
/// and the path of the archive inside it.
pub fn unpack(path: &Path) -> Result<(TempDir, PathBuf)> {
    unpack_interruptibly(path, &mut || Ok(()))
}

/// Unpacks like `unpack`, unless it is interrupted.
pub fn unpack_interruptibly(path: &Path, interrupt: &mut Interrupt<'_>) -> Result<(TempDir, PathBuf)> {
    unpack_files(path, MAX_FILES, interrupt)
}

fn unpack_files(path: &Path, max_files: usize, interrupt: &mut Interrupt<'_>) -> Result<(TempDir, PathBuf)> {
    let packed = fs::metadata(path).map_err(file_error(path))?.len();
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new().prefix(".matyan-restore-").tempdir_in(parent);
    // The directory of the archive may be read-only.
    let folder = folder.or_else(|_| tempfile::tempdir()).map_err(file_error(parent))?;
    let file = File::open(path).map_err(file_error(path))?;
    let meter = Rc::new(Cell::new(MAX_BETWEEN));
    let inner = MultiGzDecoder::new(BufReader::new(file));
    let metered = MeteredReader { inner, left: meter.clone(), interrupts: InterruptCount::new(interrupt) };
    let mut tar = tar::Archive::new(metered);
    let mut left = packed.saturating_mul(MAX_GROWTH).saturating_add(MAX_GROWTH_FREE);
    let mut top: Option<PathBuf> = None;
    let unreadable = |error: io::Error| damaged(path, format!("failed to unpack: {error}"));
    for (count, entry) in tar.entries().map_err(unreadable)?.enumerate() {
        let mut entry = entry.map_err(unreadable)?;
        let inside = entry.path().map_err(unreadable)?.into_owned();
        let refuse =
            |reason: &str| damaged(path, format!("refused to unpack: `{}` {reason}", inside.display()));
        let first = checked(&inside).ok_or_else(|| refuse("leads outside the archive"))?;
        if top.get_or_insert_with(|| first.clone()) != &first {
            return Err(refuse("is outside the top folder of the archive"));
        }
        // Not the header's own size, which an extension header may override.
        let size = entry.size();
        left = left.checked_sub(size).filter(|_| count < max_files).ok_or_else(|| {
            refuse("makes the archive far larger than its file; if you trust it, unpack it by hand")
        })?;
        let target = folder.path().join(&inside);
        // Allows the content of this file and the metadata up to the next one.
        meter.set(size.saturating_add(MAX_BETWEEN));
        match entry.header().entry_type() {
            tar::EntryType::Directory => fs::create_dir_all(&target).map_err(file_error(&target))?,
            tar::EntryType::Regular => unpack_file(&mut entry, &target).map_err(unreadable)?,
            _ => return Err(refuse("is neither a file nor a folder")),
        }
        meter.set(MAX_BETWEEN);
    }
    let top = top.ok_or_else(|| damaged(path, "is empty"))?;
    let root = folder.path().join(top);
    Ok((folder, root))
}

/// Counts bytes, and calls an interrupt now and then.
struct InterruptCount<'i> {
    /// Bytes since the last call.
    since_call: u64,
    interrupt: &'i mut Interrupt<'i>,
}

impl<'i> InterruptCount<'i> {
    fn new(interrupt: &'i mut Interrupt<'i>) -> Self {
        Self { since_call: 0, interrupt }
    }

    fn add(&mut self, bytes: usize) -> io::Result<()> {
        self.since_call += bytes as u64;
        if self.since_call < INTERRUPT_BYTES {
            return Ok(());
        }
        self.since_call = 0;
        (self.interrupt)()
    }
}

/// Reads up to the allowed number of bytes and then fails, so that a consumer never buffers
/// more than that.
struct MeteredReader<'i, R> {
    inner: R,
    left: Rc<Cell<u64>>,
    interrupts: InterruptCount<'i>,
}

impl<R: Read> Read for MeteredReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.interrupts.add(read)?;
        let left = self.left.get().checked_sub(read as u64);
        self.left.set(left.ok_or_else(|| io::Error::other("too much metadata between two files"))?);
        Ok(read)
    }
}

/// Calls the interrupt now and then.
struct InterruptibleWriter<'i, W> {
    inner: W,
    interrupts: InterruptCount<'i>,
}

impl<W: Write> Write for InterruptibleWriter<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.interrupts.add(written)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Returns the first component of a path, or `None` if the path leads outside.
fn checked(path: &Path) -> Option<PathBuf> {
    let mut parts = path.components().filter(|part| !matches!(part, Component::CurDir));
    let Some(Component::Normal(first)) = parts.next() else { return None };
    parts.all(|part| matches!(part, Component::Normal(_))).then(|| PathBuf::from(first))
}

/// Unpacks one file, ignoring the permissions and owner recorded for it.
fn unpack_file(entry: &mut impl io::Read, target: &Path) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = BufWriter::new(File::create_new(target)?);
    io::copy(entry, &mut file)?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn packed(directory: &Path, fill: impl FnOnce(&mut tar::Builder<GzEncoder<File>>)) -> PathBuf {
        let path = directory.join("a.tar.gz");
        let encoder = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        let mut tar = tar::Builder::new(encoder);
        fill(&mut tar);
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    /// Adds an entry, bypassing the path checks of the builder.
    fn entry(tar: &mut tar::Builder<GzEncoder<File>>, path: &str, kind: tar::EntryType, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o7777);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }

    #[test]
    fn a_folder_round_trips() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("top");
        fs::create_dir_all(root.join("runs/r/blobs/a")).unwrap();
        fs::write(root.join("runs/r/blobs/a/b"), b"content").unwrap();
        let path = pack(&root).unwrap();
        assert!(!root.exists() && path.ends_with("top.tar.gz"));
        let (folder, root) = unpack(&path).unwrap();
        assert!(root.starts_with(folder.path()) && root.ends_with("top"));
        assert_eq!(fs::read(root.join("runs/r/blobs/a/b")).unwrap(), b"content");
    }

    #[test]
    fn an_existing_file_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("top");
        fs::create_dir(&root).unwrap();
        fs::write(super::packed(&root), "another").unwrap();
        let error = pack(&root).unwrap_err();
        assert!(matches!(error, Error::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists));
        assert!(root.is_dir(), "a folder that was not packed is kept");
        assert_eq!(fs::read(super::packed(&root)).unwrap(), b"another");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left of the attempt");
    }

    #[test]
    fn paths_that_lead_outside_are_not_unpacked() {
        use tar::EntryType;
        let cases = [
            ("../out", EntryType::Regular, "leads outside"),
            ("top/../../out", EntryType::Regular, "leads outside"),
            ("/tmp/out", EntryType::Regular, "leads outside"),
            ("top/link", EntryType::Symlink, "neither a file nor a folder"),
            ("top/link", EntryType::Link, "neither a file nor a folder"),
            ("top/pipe", EntryType::Fifo, "neither a file nor a folder"),
            ("other/file", EntryType::Regular, "outside the top folder"),
        ];
        for (name, kind, reason) in cases {
            let directory = tempfile::tempdir().unwrap();
            let path = packed(directory.path(), |tar| {
                entry(tar, "top/", EntryType::Directory, b"");
                entry(tar, name, kind, b"");
            });
            let error = unpack(&path).unwrap_err().to_string();
            assert!(error.contains(reason), "{name}: {error}");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left of {name}");
        }
    }

    #[test]
    fn an_archive_that_grows_too_much_is_not_unpacked() {
        let directory = tempfile::tempdir().unwrap();
        let path = packed(directory.path(), |tar| {
            let mut header = tar::Header::new_gnu();
            header.set_path("top/bomb").unwrap();
            header.set_size(1 << 40);
            header.set_cksum();
            tar.append(&header, io::empty()).unwrap();
        });
        let error = unpack(&path).unwrap_err().to_string();
        assert!(error.contains("far larger"), "{error}");
    }

    #[test]
    fn an_archive_with_too_many_files_is_not_unpacked() {
        let directory = tempfile::tempdir().unwrap();
        let path = packed(directory.path(), |tar| {
            for name in ["top/a", "top/b", "top/c"] {
                entry(tar, name, tar::EntryType::Regular, b"");
            }
        });
        assert!(unpack_files(&path, 3, &mut || Ok(())).is_ok());
        let error = unpack_files(&path, 2, &mut || Ok(())).unwrap_err().to_string();
        assert!(error.contains("far larger"), "{error}");
    }

    #[test]
    fn an_interruption_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let content = vec![0; INTERRUPT_BYTES as usize + 1];
        let path = packed(directory.path(), |tar| entry(tar, "top/a", tar::EntryType::Regular, &content));
        let interrupted = unpack_interruptibly(&path, &mut || Err(io::Error::other("Ctrl-C")));
        let error = interrupted.unwrap_err().to_string();
        assert!(error.contains("Ctrl-C"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_interruption_of_packing_keeps_the_folder() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("top");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), vec![0_u8; INTERRUPT_BYTES as usize + 1]).unwrap();
        let interrupted = pack_interruptibly(&root, &mut || Err(io::Error::other("Ctrl-C")));
        let error = interrupted.unwrap_err();
        assert!(matches!(error, Error::File { source, .. } if source.to_string().contains("Ctrl-C")));
        assert!(root.join("a").is_file());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left of the attempt");
    }

    #[test]
    fn a_size_that_overrides_the_header_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = packed(directory.path(), |tar| {
            let size = (1_u64 << 40).to_string();
            tar.append_pax_extensions([("size", size.as_bytes())]).unwrap();
            entry(tar, "top/bomb", tar::EntryType::Regular, b"");
        });
        let error = unpack(&path).unwrap_err().to_string();
        assert!(error.contains("far larger"), "{error}");
    }

    #[test]
    fn metadata_between_files_is_not_buffered_without_limit() {
        let content = vec![b'x'; 3 << 20];
        for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
            let directory = tempfile::tempdir().unwrap();
            let path = packed(directory.path(), |tar| {
                entry(tar, "top/", tar::EntryType::Directory, b"");
                entry(tar, "top/large", tar::EntryType::Regular, &content);
                entry(tar, "name", kind, &content);
            });
            let error = unpack(&path).unwrap_err().to_string();
            assert!(error.contains("too much metadata between two files"), "{kind:?}: {error}");
        }
    }

    #[test]
    fn a_truncated_archive_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let content: Vec<u8> =
            (0..100_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let path = packed(directory.path(), |tar| entry(tar, "top/file", tar::EntryType::Regular, &content));
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = unpack(&path).unwrap_err().to_string();
        assert!(error.contains("a.tar.gz: failed to unpack"), "{error}");
    }
}
