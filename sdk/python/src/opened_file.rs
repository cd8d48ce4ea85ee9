//! Files that Python has opened. Their paths may lead to other files by now.

use std::{fs::File, io, path::Path};

/// Opens the file of a descriptor of this process, or the file at a path if there is no descriptor.
#[cfg(unix)]
pub(crate) fn open(path: &Path, descriptor: Option<i32>) -> io::Result<File> {
    match descriptor {
        Some(descriptor) => File::open(format!("/dev/fd/{descriptor}")),
        None => File::open(path),
    }
}

/// Opens the file at a path.
#[cfg(not(unix))]
pub(crate) fn open(path: &Path, _: Option<i32>) -> io::Result<File> {
    File::open(path)
}
