//! Mounting, unmounting, the mount table, and changing the root.
//!
//! It creates no mount points and decides nothing about what belongs where.

use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, UnmountFlags};

pub use rustix::mount::MountFlags;

/// Which call refused what.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A file system was not mounted.
    #[error("mount {kind} {from} on {target}")]
    Mount {
        /// File system type.
        kind: String,
        /// Device or name.
        from: PathBuf,
        /// Mount point.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder was not bound.
    #[error("bind {from} on {target}")]
    Bind {
        /// The folder.
        from: PathBuf,
        /// Mount point.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A mount was not moved.
    #[error("move mount {from} to {target}")]
    Move {
        /// Old mount point.
        from: PathBuf,
        /// New mount point.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Flags of a mount were not changed.
    #[error("remount {target}")]
    Remount {
        /// Mount point.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Propagation was not changed.
    #[error("change propagation of {target}")]
    Propagation {
        /// Mount point.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was not unmounted.
    #[error("unmount {target}")]
    Unmount {
        /// Mount point.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The table was not read.
    #[error("read /proc/self/mountinfo")]
    Table(#[source] io::Error),
    /// The root was not changed.
    #[error("make {target} the root")]
    SwitchRoot {
        /// The new root.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Mounts a file system. `options` are those of the file system itself, separated by commas.
///
/// # Errors
/// When the kernel refuses.
pub fn mount(
    from: &Path,
    target: &Path,
    kind: &str,
    flags: MountFlags,
    options: &CStr,
) -> Result<(), MountError> {
    rustix::mount::mount(from, target, kind, flags, Some(options)).map_err(|source| {
        MountError::Mount {
            kind: kind.into(),
            from: from.into(),
            target: target.into(),
            source: source.into(),
        }
    })
}

/// Makes `from` appear at `target` too; with `recursive` also what is mounted below it.
///
/// # Errors
/// When the kernel refuses.
pub fn bind(from: &Path, target: &Path, recursive: bool) -> Result<(), MountError> {
    let call = if recursive {
        rustix::mount::mount_bind_recursive(from, target)
    } else {
        rustix::mount::mount_bind(from, target)
    };
    call.map_err(|source| MountError::Bind {
        from: from.into(),
        target: target.into(),
        source: source.into(),
    })
}

/// Moves a mount.
///
/// # Errors
/// When the kernel refuses.
pub fn move_mount(from: &Path, target: &Path) -> Result<(), MountError> {
    rustix::mount::mount_move(from, target).map_err(|source| MountError::Move {
        from: from.into(),
        target: target.into(),
        source: source.into(),
    })
}

/// Changes the flags of a mount; flags not named are cleared.
///
/// # Errors
/// When the kernel refuses.
pub fn remount(target: &Path, flags: MountFlags) -> Result<(), MountError> {
    rustix::mount::mount_remount(target, flags, c"")
        .map_err(|source| MountError::Remount { target: target.into(), source: source.into() })
}

/// Makes this mount and all below it pass on to other namespaces what is mounted in them.
///
/// # Errors
/// When the kernel refuses.
pub fn make_shared(target: &Path) -> Result<(), MountError> {
    rustix::mount::mount_change(target, MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .map_err(|source| MountError::Propagation { target: target.into(), source: source.into() })
}

/// Unmounts. With `lazy` it disappears at once and is released when its last user is gone. Symbolic links are not
/// followed.
///
/// # Errors
/// When the kernel refuses, as for one in use.
pub fn unmount(target: &Path, lazy: bool) -> Result<(), MountError> {
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazy);
    rustix::mount::unmount(target, flags)
        .map_err(|source| MountError::Unmount { target: target.into(), source: source.into() })
}

/// Makes the file system mounted on `new_root` the root of this process. The old root is hidden below it, not freed: the
/// caller has emptied it when it was an initramfs.
///
/// # Errors
/// When one of the calls is refused.
pub fn switch_root(new_root: &Path) -> Result<(), MountError> {
    let failed = |source: rustix::io::Errno| MountError::SwitchRoot {
        target: new_root.into(),
        source: source.into(),
    };
    // An initramfs cannot be left with pivot_root: rootfs has no parent. Moving over it and changing the root is the way.
    rustix::process::chdir(new_root).map_err(failed)?;
    rustix::mount::mount_move(".", "/").map_err(failed)?;
    rustix::process::chroot(".").map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)
}

/// One row of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Where it is mounted, as seen from our root.
    pub target: PathBuf,
    /// File system type.
    pub kind: String,
    /// Device or name.
    pub from: String,
    /// Flags of the mount itself, such as `ro,nosuid`.
    pub options: String,
}

/// All mounts, oldest first.
///
/// # Errors
/// When the table cannot be read.
pub fn table() -> Result<Vec<MountPoint>, MountError> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").map_err(MountError::Table)?;
    Ok(text.lines().filter_map(parse_row).collect())
}

/// `36 35 98:0 /in-fs /target options shared:1 - type from super-options`; see proc_pid_mountinfo(5).
fn parse_row(row: &str) -> Option<MountPoint> {
    let (left, right) = row.split_once(" - ")?;
    let mut left = left.split(' ').skip(4);
    let mut right = right.split(' ');
    Some(MountPoint {
        target: unescape(left.next()?).into(),
        options: left.next()?.into(),
        kind: right.next()?.into(),
        from: unescape(right.next()?),
    })
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(field: &str) -> String {
    let mut plain = String::with_capacity(field.len());
    let mut parts = field.split('\\');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                plain.push(char::from(code));
                plain.push_str(rest);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_escapes_and_optional_fields_is_understood() {
        let row = r"36 35 98:0 / /var/with\040space rw,noatime shared:1 master:2 - ext4 /dev/vda5 rw,errors=continue";
        let point = parse_row(row).expect("a row");
        assert_eq!(point.target, Path::new("/var/with space"));
        assert_eq!((point.kind.as_str(), point.from.as_str()), ("ext4", "/dev/vda5"));
        assert_eq!(point.options, "rw,noatime");
    }

    #[test]
    fn rows_that_are_not_rows_are_left_out() {
        assert_eq!(parse_row(""), None);
        assert_eq!(parse_row("36 35 98:0 / - "), None);
    }

    #[test]
    fn the_table_of_this_machine_has_a_root() {
        assert!(table().expect("mountinfo").iter().any(|point| point.target == Path::new("/")));
    }
}
