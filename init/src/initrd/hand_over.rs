//! Mounts of the initrd, and leaving it: nothing of it stays behind but the kernel's own file systems, moved over.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::Path;

use ingot_linux::mount::{self, MountFlags};

use super::InitrdError;

/// Where the verified root is mounted until it is the root.
const NEW_ROOT: &str = "/sysroot";

/// File systems the kernel gives: type, mount point, flags, options.
const KERNEL_FILE_SYSTEMS: [(&str, &str, MountFlags, &std::ffi::CStr); 3] = [
    ("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755"),
    ("proc", "/proc", MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC), c""),
    ("sysfs", "/sys", MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC), c""),
];

/// Mounts what everything else needs.
///
/// # Errors
/// When the kernel refuses.
pub fn mount_kernel_file_systems() -> Result<(), InitrdError> {
    for (kind, target, flags, options) in KERNEL_FILE_SYSTEMS {
        create(Path::new(target))?;
        mount::mount(Path::new(kind), Path::new(target), kind, flags, options)?;
    }
    Ok(())
}

/// Mounts the verified device and makes it the root.
///
/// # Errors
/// When a mount is refused.
pub fn switch_root(device: &Path) -> Result<(), InitrdError> {
    let root = Path::new(NEW_ROOT);
    create(root)?;
    mount::mount(device, root, "erofs", MountFlags::RDONLY, c"")?;
    for (_, target, _, _) in KERNEL_FILE_SYSTEMS {
        mount::move_mount(Path::new(target), &root.join(target.trim_start_matches('/')))?;
    }
    empty_initramfs();
    mount::switch_root(root)?;
    Ok(())
}

fn create(path: &Path) -> Result<(), InitrdError> {
    match fs::create_dir(path) {
        Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(InitrdError::Create { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

/// Gives back the memory of the initramfs. Stays on its own file system, so the new root is never touched. What cannot be
/// removed costs memory and nothing else.
fn empty_initramfs() {
    if let Ok(root) = fs::symlink_metadata("/") {
        remove_below(Path::new("/"), root.st_dev());
    }
}

fn remove_below(folder: &Path, device: u64) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.st_dev() != device => {}
            Ok(meta) if meta.is_dir() => {
                remove_below(&path, device);
                let _ = fs::remove_dir(&path);
            }
            _ => {
                let _ = fs::remove_file(&path);
            }
        }
    }
}
