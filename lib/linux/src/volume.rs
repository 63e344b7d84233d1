//! File systems on block devices: mounting them, finding what is mounted where, and how full they are.

use rustix::mount::MountFlags;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// What could not be done with a file system.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// It was not mounted.
    #[error("mount {device} on {target}")]
    Mount {
        /// Block device.
        device: PathBuf,
        /// Mount point.
        target: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It was not unmounted.
    #[error("unmount {target}")]
    Unmount {
        /// Mount point.
        target: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its size could not be read.
    #[error("read the free space of {path}")]
    Space {
        /// Any path in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Rights of what is on a volume. Set-uid bits and device nodes never count, access times are never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and write, programs may run.
    Execute,
    /// Read and write.
    Write,
    /// Read.
    Read,
}

/// Mounts a block device.
///
/// # Errors
/// When the kernel refuses.
pub fn mount(
    device: &Path,
    target: &Path,
    kind: &str,
    access: Access,
    options: &str,
) -> Result<(), VolumeError> {
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    match access {
        Access::Execute => {}
        Access::Write => flags |= MountFlags::NOEXEC,
        Access::Read => flags |= MountFlags::NOEXEC | MountFlags::RDONLY,
    }
    let failed =
        |source| VolumeError::Mount { device: device.into(), target: target.into(), source };
    let options = CString::new(options).map_err(|e| failed(e.into()))?;
    rustix::mount::mount(device, target, kind, flags, options.as_c_str())
        .map_err(|e| failed(e.into()))
}

/// Unmounts at once; a file system in use stays.
///
/// # Errors
/// When the kernel refuses.
pub fn unmount(target: &Path) -> Result<(), VolumeError> {
    rustix::mount::unmount(target, rustix::mount::UnmountFlags::NOFOLLOW)
        .map_err(|e| VolumeError::Unmount { target: target.into(), source: e.into() })
}

/// Size and free bytes of the file system a path is on; free is what programs without privilege may use.
///
/// # Errors
/// When the kernel does not say.
pub fn space(path: &Path) -> Result<(u64, u64), VolumeError> {
    let found = rustix::fs::statvfs(path)
        .map_err(|e| VolumeError::Space { path: path.into(), source: e.into() })?;
    Ok((found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize))
}

/// The device mounted on a path, from a text like `/proc/self/mountinfo`; the topmost when there are several.
#[must_use]
pub fn mounted_device(mountinfo: &str, target: &str) -> Option<String> {
    let mut found = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        if left.split(' ').nth(4) == Some(target) {
            found = right.split(' ').nth(1).map(str::to_owned);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_of_a_path_is_found() {
        let text = "25 1 253:0 / / ro - erofs /dev/dm-0 ro\n\
                    30 25 254:5 / /state rw,nosuid shared:3 - ext4 /dev/vda5 rw\n\
                    31 25 254:6 / /state rw - ext4 /dev/vda6 rw\n";
        assert_eq!(mounted_device(text, "/state").as_deref(), Some("/dev/vda6"));
        assert_eq!(mounted_device(text, "/var"), None);
    }
}
