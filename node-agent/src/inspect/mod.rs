//! Looking at the node for an operator: root, memory, cgroups, files. It changes nothing.

pub(crate) mod cgroups;
pub(crate) mod files;

use ingot_linux::dm_verity::{self, Integrity};
use std::fs;

/// Name of the device-mapper device below the root, as `docs/architecture.md` has it.
const ROOT_DEVICE: &str = "root";

/// What is known of the root file system.
#[derive(Debug, Default)]
pub(crate) struct Root {
    /// Root hash, hex.
    pub(crate) hash: String,
    /// "verified", "corrupted" or "unverified".
    pub(crate) verity: &'static str,
    /// Mounted read-only.
    pub(crate) read_only: bool,
    /// What happens on a corrupted block.
    pub(crate) on_corruption: String,
    /// "a" or "b".
    pub(crate) slot: String,
}

/// Memory of the machine in bytes.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Usable by Linux.
    pub(crate) total: u64,
    /// Can be had without swapping.
    pub(crate) available: u64,
}

/// The root, from the device mapper's own status. A device mapper that does not answer means "unverified".
pub(crate) fn root() -> Root {
    let verity = match dm_verity::integrity(ROOT_DEVICE) {
        Ok(Integrity::Verified) => "verified",
        Ok(Integrity::Corrupted) => "corrupted",
        Err(_) => "unverified",
    };
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let root = parameter(&command_line, "ingot.root").unwrap_or_default();
    let hash = root.strip_prefix("sha256:").and_then(|rest| rest.split(',').next());
    let read_only = rustix::fs::statvfs("/")
        .is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    Root {
        hash: if verity == "unverified" { String::new() } else { hash.unwrap_or_default().into() },
        verity,
        read_only,
        on_corruption: parameter(&command_line, "ingot.verity").unwrap_or("panic").to_owned(),
        slot: parameter(&command_line, "ingot.slot").unwrap_or_default().to_owned(),
    }
}

/// Memory, from `/proc/meminfo`.
pub(crate) fn memory() -> Memory {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib: Option<u64> = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
        kib.unwrap_or(0) * 1024
    };
    Memory { total: field("MemTotal"), available: field("MemAvailable") }
}

/// The id the kernel drew for this boot.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// A parameter of the kernel command line, the last one when given twice.
pub(crate) fn parameter<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    let words = command_line.split_whitespace().rev();
    words.filter_map(|word| word.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
}

/// Whether the kernel command line holds a word.
pub(crate) fn command_line_has(word: &str) -> bool {
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    command_line.split_whitespace().any(|other| other == word)
}
