//! Files that Python has opened. Their paths may lead to other files by now.

use std::{fs::File, io, path::Path};

/// Opens the file of a descriptor of this process, or the file at a path if there is no descriptor. The file and the
/// descriptor share their position, which is the start of the file from now on.
#[cfg(unix)]
#[expect(unsafe_code, reason = "Python names a descriptor by its number")]
pub(crate) fn open(path: &Path, descriptor: Option<i32>) -> io::Result<File> {
    use std::{io::Seek as _, os::fd::BorrowedFd};

    let Some(descriptor) = descriptor else { return File::open(path) };
    if descriptor < 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a descriptor"));
    }
    // SAFETY: the number is not -1, and it is only used to duplicate the descriptor, which fails if there is none.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    // Not by its path in /dev/fd, which not every container has, and which needs permission to open the file again.
    let mut file = File::from(borrowed.try_clone_to_owned()?);
    file.rewind()?;
    Ok(file)
}

/// Opens the file at a path.
#[cfg(not(unix))]
pub(crate) fn open(path: &Path, _: Option<i32>) -> io::Result<File> {
    File::open(path)
}
