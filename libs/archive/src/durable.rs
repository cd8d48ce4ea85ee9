//! Files that survive a power failure: a file that a list or manifest names is on disk before the list
//! itself.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use super::{Result, file_error};

/// Writes a file atomically.
pub(super) fn put(root: &Path, name: &str, text: &str) -> Result<()> {
    let part = root.join(".part");
    let path = root.join(name);
    let mut file = File::create(&part).map_err(file_error(&part))?;
    // Synced before the rename, or a power failure could leave an incomplete file under the final
    // name.
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(file_error(&part))?;
    fs::rename(&part, &path).map_err(file_error(&path))?;
    sync(root)
}

/// Makes the entries of a folder durable. The contents of its files must be synced separately.
/// Only Unix opens a folder like a file.
pub(super) fn sync(folder: &Path) -> Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(file_error(folder))
}

/// Like `sync`, recursively.
pub(super) fn sync_all(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(file_error(folder))? {
        let entry = entry.map_err(file_error(folder))?;
        if entry.file_type().map_err(file_error(folder))?.is_dir() {
            sync_all(&entry.path())?;
        }
    }
    sync(folder)
}
