//! Taking a mount away.

use std::path::Path;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

/// Detaches what is mounted on `path`, symbolic links not followed. Nothing mounted there, or no such file, is fine.
///
/// # Errors
/// When the kernel refuses for another reason.
pub fn detach(path: &Path) -> std::io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
