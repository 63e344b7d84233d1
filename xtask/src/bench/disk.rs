//! Turns a directory into a disk image, and a program into an initramfs. Rootless: no mounts, no loop devices.

use std::path::Path;

use ingot_image_builder::tools::Tools;
use ingot_image_builder::write::cpio::{self, Entry};

use crate::workspace;

/// Size of the disk a directory is written to.
const DISK_SIZE: &str = "2G";

/// Writes the files below `tree` to an ext4 file system that fills `disk`.
pub(super) fn ext4(tools: &Tools, tree: &Path, disk: &Path) -> anyhow::Result<()> {
    if disk.exists() {
        fs_err::remove_file(disk)?;
    }
    let mut command = tools.command("mke2fs")?;
    command
        .args(["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d"])
        .arg(tree)
        .arg(disk)
        .arg(DISK_SIZE);
    workspace::run(&mut command)
}

/// Writes an initramfs whose only program is `init`.
pub(super) fn initramfs(init: &Path, archive: &Path) -> anyhow::Result<()> {
    let entries = [
        Entry::directory("dev"),
        Entry::character_device("dev/console", 5, 1),
        Entry::file("init", 0o755, fs_err::read(init)?),
    ];
    Ok(fs_err::write(archive, cpio::write(&entries))?)
}
