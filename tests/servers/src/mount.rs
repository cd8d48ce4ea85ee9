//! Small file systems in memory, for tests of full disks. Mounting one takes root, so such tests are ignored
//! without it, unless `REQUIRE=mount` is set.

use std::{path::Path, process::Command};

use tempfile::TempDir;

use crate::unavailable_reason;

/// Name in `REQUIRE`.
pub const NAME: &str = "mount";

/// A file system of a fixed size, which is unmounted when it is dropped.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts a disk of this size; fails with the reason if that is not possible here. Panics if it is required.
    pub fn mount(bytes: u64) -> Result<Self, String> {
        match Self::try_mount(bytes) {
            Ok(disk) => Ok(disk),
            failed => Err(unavailable_reason(NAME, failed).expect("it has failed")),
        }
    }

    fn try_mount(bytes: u64) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let size = format!("size={bytes}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        let output = mount.map_err(|error| format!("needs to mount a tmpfs: {error}"))?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            return Err(format!("needs to mount a tmpfs: {}", reason.lines().next().unwrap_or_default()));
        }
        Ok(Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(),
            "failed to unmount the disk"
        );
    }
}
