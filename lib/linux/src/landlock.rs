//! Giving up the right to touch files outside of one folder (landlock(7)), for the calling thread alone.
//!
//! It narrows what a mistake could reach; it is no substitute for resolving names below a descriptor.
#![expect(unsafe_code, reason = "rustix has no Landlock")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// Rights on files that each version of the interface knows, as a mask (linux/landlock.h). Before version 2 hard
/// links between folders are impossible under Landlock, so it is not used.
const RIGHTS: [u64; 4] = [0, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1];
/// The same from version 5 on.
const RIGHTS_5: u64 = (1 << 16) - 1;
/// Flag that asks for the version.
const VERSION: u32 = 1;
/// A rule for a folder and everything below it.
const PATH_BENEATH: u32 = 1;

/// `struct landlock_ruleset_attr` of version 1; later fields are not needed.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: RawFd,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// From now on this thread, and those it starts, can open, make and remove files in this folder only. Descriptors that
/// are open stay as they are. False when the kernel cannot do it.
///
/// # Errors
/// When the kernel can and refuses; without `CAP_SYS_ADMIN` it does.
pub fn only_below(folder: BorrowedFd<'_>) -> io::Result<bool> {
    let none = std::ptr::null::<Ruleset>();
    // SAFETY: asks for the version; the pointer is not read.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) };
    let rights = match usize::try_from(version) {
        Err(_) | Ok(0 | 1) => return Ok(false),
        Ok(version) => RIGHTS.get(version - 1).copied().unwrap_or(RIGHTS_5),
    };
    let attributes = Ruleset { handled_access_fs: rights };
    let size = std::mem::size_of::<Ruleset>();
    // SAFETY: the struct is live and as long as is said.
    let ruleset = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size, 0)
    })?;
    let ruleset = RawFd::try_from(ruleset).map_err(io::Error::other)?;
    // SAFETY: the kernel made this descriptor a moment ago, nobody else has it.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset) };
    let rule = PathBeneath { allowed_access: rights, parent_fd: folder.as_raw_fd() };
    // SAFETY: both descriptors are open, the struct is live and laid out as the kernel's.
    check(unsafe {
        let ruleset = ruleset.as_raw_fd();
        libc::syscall(libc::SYS_landlock_add_rule, ruleset, PATH_BENEATH, &raw const rule, 0)
    })?;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_fenced_thread_reaches_its_folder_and_no_other() {
        let top = tempfile::tempdir().unwrap();
        let (inside, outside) = (top.path().join("in"), top.path().join("out"));
        fs::create_dir_all(inside.join("deep")).unwrap();
        fs::create_dir(&outside).unwrap();
        let folder = fs::File::open(&inside).unwrap();
        let (within, beyond) = (inside.clone(), outside.clone());
        let fenced = std::thread::spawn(move || {
            // An old kernel, or a test without rights.
            if !only_below(folder.as_fd()).unwrap_or(false) {
                return false;
            }
            fs::write(within.join("deep/a"), "x").unwrap();
            fs::hard_link(within.join("deep/a"), within.join("b")).unwrap();
            assert!(fs::write(beyond.join("a"), "x").is_err());
            assert!(fs::create_dir(beyond.join("d")).is_err());
            assert!(fs::read("/etc/passwd").is_err());
            true
        });
        let fenced = fenced.join().unwrap();
        // Other threads are free.
        fs::write(outside.join("a"), "x").unwrap();
        assert!(!fenced || inside.join("b").exists());
    }
}
