//! Files: reserved space, free space, and whether a file system is on a network.

use std::{fs::File, io, path::Path};

/// Reserves space on disk and sets the length, so that writing to a mapping cannot fail. The new
/// bytes are zero.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn reserve(file: &File, len: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len)?)
}

/// Other systems have no such call, or a call that does not zero; segments are written there.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn reserve(_: &File, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Bytes that this user may still write to the file system of a directory.
#[cfg(unix)]
pub(crate) fn free_space(directory: &Path) -> io::Result<u64> {
    let status = rustix::fs::statvfs(directory)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

#[cfg(not(unix))]
pub(crate) fn free_space(_: &Path) -> io::Result<u64> {
    Ok(u64::MAX)
}

/// Magic numbers of file systems that are on a network, or that a program provides, from
/// statfs(2): NFS, SMB 1 to 3, FUSE, Lustre, GPFS, Ceph, AFS, 9P, BeeGFS, PanFS.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NETWORK: &[u64] = &[
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x0bd0_0bd0,
    0x4750_4653,
    0x00c3_6400,
    0x5346_414f,
    0x0102_1997,
    0x1983_0326,
    0xaad7_aaea,
];

/// Whether mapping a file of this directory may be unsafe, or slow.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_on_network(directory: &Path) -> bool {
    // The type is signed on some machines, where the high bit of SMB is extended.
    rustix::fs::statfs(directory).is_ok_and(|status| NETWORK.contains(&(status.f_type as u64 & 0xffff_ffff)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_on_network(_: &Path) -> bool {
    false
}

/// Whether a file could not be opened because this process or the machine has too many open.
#[cfg(unix)]
pub(crate) fn is_lack_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let number = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE].iter().any(|lack| number == Some(lack.raw_os_error()))
}

#[cfg(not(unix))]
pub(crate) fn is_lack_of_descriptors(_: &io::Error) -> bool {
    false
}

/// Creates a directory that only this user can enter, with its parents.
#[cfg(unix)]
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Writes at an offset without moving a cursor that other threads share.
#[cfg(unix)]
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
pub(crate) fn write_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}
