//! Files that are there after a power cut: what a list or a manifest names is on the disk before the list is.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use super::{Result, at};

/// Writes a file whole or not at all.
pub(super) fn put(root: &Path, name: &str, text: &str) -> Result<()> {
    let (part, path) = (root.join(".part"), root.join(name));
    let mut file = File::create(&part).map_err(at(&part))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&part))?;
    fs::rename(&part, &path).map_err(at(&path))?;
    sync(root)
}

/// Makes the names in a folder durable; their files are synced by whoever writes them.
pub(super) fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

/// The same of every folder below as well.
pub(super) fn sync_all(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        if entry.file_type().map_err(at(folder))?.is_dir() {
            sync_all(&entry.path())?;
        }
    }
    sync(folder)
}
