//! One file instead of a folder: a compressed tar with the folder in it. Unpacking trusts nothing: one folder on top, plain files
//! and folders alone, no path that leads out, and a bound on how much comes out of how little.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Component, Path, PathBuf},
};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use tempfile::TempDir;

use super::{Result, at, damaged};

/// Text of numbers shrinks to a tenth; what claims to grow more than this is made to fill a disk.
const MAX_GROWTH: u64 = 200;
const MAX_GROWTH_FREE: u64 = 1 << 30;
const MAX_FILES: usize = 20_000_000;

/// Packs a folder into a file beside it, and removes the folder.
pub(crate) fn pack(root: &Path) -> Result<PathBuf> {
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let target = root.with_file_name(format!("{name}.tar.gz"));
    let part = root.with_file_name(format!("{name}.tar.gz.part"));
    let file = File::create(&part).map_err(at(&part))?;
    let encoder = GzEncoder::new(BufWriter::new(file), Compression::default());
    let mut tar = tar::Builder::new(encoder);
    tar.mode(tar::HeaderMode::Deterministic);
    tar.follow_symlinks(false);
    let finished = tar.append_dir_all(&name, root).and_then(|()| tar.into_inner()?.finish()?.flush());
    finished.map_err(at(&part))?;
    fs::rename(&part, &target).map_err(at(&target))?;
    fs::remove_dir_all(root).map_err(at(root))?;
    Ok(target)
}

/// Unpacks an archive into a folder that goes with the value, and answers the folder inside.
pub(crate) fn unpack(path: &Path) -> Result<(TempDir, PathBuf)> {
    let packed = fs::metadata(path).map_err(at(path))?.len();
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new().prefix(".matyan-restore-").tempdir_in(beside);
    // The place of an archive may be read-only.
    let folder = folder.or_else(|_| tempfile::tempdir()).map_err(at(beside))?;
    let file = File::open(path).map_err(at(path))?;
    let mut tar = tar::Archive::new(MultiGzDecoder::new(BufReader::new(file)));
    let mut left = packed.saturating_mul(MAX_GROWTH).saturating_add(MAX_GROWTH_FREE);
    let mut top: Option<PathBuf> = None;
    let unreadable = |error: io::Error| damaged(path, format!("cannot be unpacked: {error}"));
    for (count, entry) in tar.entries().map_err(unreadable)?.enumerate() {
        let mut entry = entry.map_err(unreadable)?;
        let inside = entry.path().map_err(unreadable)?.into_owned();
        let refuse =
            |reason: &str| damaged(path, format!("`{}` {reason}: it is not unpacked", inside.display()));
        let first = checked(&inside).ok_or_else(|| refuse("leads out of the archive"))?;
        if top.get_or_insert_with(|| first.clone()) != &first {
            return Err(refuse("lies beside the folder of the archive"));
        }
        let size = entry.header().size().map_err(unreadable)?;
        left = left.checked_sub(size).filter(|_| count < MAX_FILES).ok_or_else(|| {
            refuse("makes the archive far larger than its file: unpack it by hand if you trust it")
        })?;
        let target = folder.path().join(&inside);
        match entry.header().entry_type() {
            tar::EntryType::Directory => fs::create_dir_all(&target).map_err(at(&target))?,
            tar::EntryType::Regular => unpack_file(&mut entry, &target).map_err(unreadable)?,
            _ => return Err(refuse("is neither a file nor a folder")),
        }
    }
    let top = top.ok_or_else(|| damaged(path, "is empty"))?;
    let root = folder.path().join(top);
    Ok((folder, root))
}

/// The first folder of a path that stays inside.
fn checked(path: &Path) -> Option<PathBuf> {
    let mut parts = path.components().filter(|part| !matches!(part, Component::CurDir));
    let Some(Component::Normal(first)) = parts.next() else { return None };
    parts.all(|part| matches!(part, Component::Normal(_))).then(|| PathBuf::from(first))
}

/// Permissions and owners of a stranger's files mean nothing here.
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

    fn packed(directory: &Path, fill: impl FnOnce(&mut tar::Builder<GzEncoder<File>>)) -> PathBuf {
        let path = directory.join("a.tar.gz");
        let encoder = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        let mut tar = tar::Builder::new(encoder);
        fill(&mut tar);
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    /// Past the checks of the writer.
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
    fn a_folder_comes_back() {
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
    fn what_leads_out_is_not_unpacked() {
        use tar::EntryType;
        let cases = [
            ("../out", EntryType::Regular, "leads out"),
            ("top/../../out", EntryType::Regular, "leads out"),
            ("/tmp/out", EntryType::Regular, "leads out"),
            ("top/link", EntryType::Symlink, "neither a file nor a folder"),
            ("top/link", EntryType::Link, "neither a file nor a folder"),
            ("top/pipe", EntryType::Fifo, "neither a file nor a folder"),
            ("other/file", EntryType::Regular, "beside the folder"),
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
    fn one_that_grows_beyond_measure_is_not_unpacked() {
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
    fn one_that_is_cut_off_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let content: Vec<u8> =
            (0..100_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let path = packed(directory.path(), |tar| entry(tar, "top/file", tar::EntryType::Regular, &content));
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = unpack(&path).unwrap_err().to_string();
        assert!(error.contains("a.tar.gz: cannot be unpacked"), "{error}");
    }
}
