//! A config that is part of the image: in the root, or on the ESP of the disk the node was started from.

use ingot_linux::volume::{self, Access};
use ingot_machine_config::layout;
use std::fs;
use std::path::{Path, PathBuf};

/// Config in the root.
const IN_ROOT: &str = "/usr/share/ingot/config.yaml";
/// Where a drive is mounted while it is read. On the tmpfs of the agent.
pub(super) const MOUNT_POINT: &str = "/run/ingot/drive";
/// Longest file read.
const SIZE_MAX: u64 = 4 * 1024 * 1024;

/// The config and where it was.
pub(super) fn find() -> Option<(String, &'static str)> {
    if let Some(text) = read(Path::new(IN_ROOT)) {
        return Some((text, IN_ROOT));
    }
    let esp = esp()?;
    for name in ["nls_cp437", "nls_ascii", "vfat"] {
        crate::controllers::modules::load_quietly(name);
    }
    let text = with_mounted(&esp, "vfat", |root| read(&root.join(layout::ESP_CONFIG)))??;
    Some((text, "config.yaml on the ESP"))
}

/// Reads a file of a sensible size.
pub(super) fn read(path: &Path) -> Option<String> {
    // Most images and drives have none.
    let size = fs::metadata(path).ok()?.len();
    if size > SIZE_MAX {
        tracing::warn!("{} has {size} bytes, ignoring it", path.display());
        return None;
    }
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            tracing::warn!("cannot read {}, ignoring it: {error}", path.display());
            None
        }
    }
}

/// Mounts a drive for reading, runs `job`, unmounts it.
pub(super) fn with_mounted<T>(
    device: &Path,
    kind: &str,
    job: impl FnOnce(&Path) -> T,
) -> Option<T> {
    let target = Path::new(MOUNT_POINT);
    fs::create_dir_all(target).ok()?;
    // An agent that was killed in here has left its mount behind.
    let _ = volume::unmount(target);
    if let Err(error) = volume::mount(device, target, kind, Access::Read, "") {
        tracing::warn!("ignoring {}: {}", device.display(), crate::report::chain(&error));
        return None;
    }
    let result = job(target);
    if let Err(error) = volume::unmount(target) {
        tracing::warn!("ignoring: {}", crate::report::chain(&error));
    }
    Some(result)
}

/// The ESP of the disk the root is on: the kernel says which partition has which name.
fn esp() -> Option<PathBuf> {
    let listing = fs::read_dir("/sys/class/block").ok()?;
    for device in listing.flatten() {
        let uevent = fs::read_to_string(device.path().join("uevent")).unwrap_or_default();
        if uevent.lines().any(|line| line == format!("PARTNAME={}", layout::ESP.name)) {
            return Some(Path::new("/dev").join(device.file_name()));
        }
    }
    None
}
