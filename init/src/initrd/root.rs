//! Finding the partition that holds the root this boot image was built for, and having the kernel verify it.
//!
//! A partition's name is only a hint. What decides is its hash tree: the top block must have the root hash of the
//! (signed) command line, which is checked before device-mapper is asked, so that a stale slot is passed over and not
//! taken for a corrupted one.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ingot_linux::dm_verity::{self, BLOCK_SIZE, Verity};
use ingot_linux::kmsg::{self, KmsgWriter, Level};
use ingot_linux::uevent::Uevents;
use rustix::event::{PollFd, PollFlags};
use sha2::{Digest as _, Sha256};

use super::InitrdError;
use super::command_line::{CommandLine, to_hex};

/// How long a disk may take to appear. Slow RAID controllers and USB disks need up to 20 s.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often the wait is named on the consoles.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Devices are looked at again this often even when the kernel says nothing: a message may be lost.
const RESCAN_EVERY: Duration = Duration::from_millis(250);

/// Waits for the partition and gives the verified device.
///
/// # Errors
/// When no partition matches within the deadline, or the kernel refuses to verify it.
pub fn find_and_verify(line: &CommandLine, log: &KmsgWriter) -> Result<PathBuf, InitrdError> {
    let partition = wait_for_partition(line, log)?;
    if line.debug {
        log.line(Level::Debug, format_args!("root is {}", partition.display()));
    }
    let device = dm_verity::create(&Verity {
        name: "root",
        device: &partition,
        data_blocks: line.data_blocks,
        hash_start: hash_start(line),
        root_hash: &to_hex(&line.root_hash),
        salt: &to_hex(&line.salt),
        on_corruption: line.on_corruption,
    })?;
    Ok(device)
}

/// Whether the partition can be read already.
#[must_use]
pub fn is_there(line: &CommandLine) -> bool {
    partition(line, |_, _| ()).is_some()
}

/// The device of the partition, if it is there; `refused` hears of those that do not match.
fn partition(
    line: &CommandLine,
    mut refused: impl FnMut(&str, Option<std::io::Error>),
) -> Option<PathBuf> {
    candidates(Path::new("/sys/class/block"), line.first_choice).into_iter().find_map(|name| {
        let path = Path::new("/dev").join(&name);
        match top_block_matches(&path, line) {
            Ok(true) => return Some(path),
            Ok(false) => refused(&name, None),
            Err(error) => refused(&name, Some(error)),
        }
        None
    })
}

/// Behind the data there is one block of superblock, which is not trusted.
fn hash_start(line: &CommandLine) -> u64 {
    line.data_blocks.saturating_add(1)
}

fn wait_for_partition(line: &CommandLine, log: &KmsgWriter) -> Result<PathBuf, InitrdError> {
    // Opened before the first look, so that nothing can come unseen in between.
    let uevents = Uevents::open()?;
    let started = Instant::now();
    let mut report_at = REPORT_EVERY;
    loop {
        let mut found = String::new();
        let there = partition(line, |name, error| match error {
            None => found.push_str(&format!("{name} (another hash) ")),
            Some(error) => found.push_str(&format!("{name} ({error}) ")),
        });
        if let Some(path) = there {
            return Ok(path);
        }
        let found = if found.is_empty() { "none" } else { found.trim_end() };
        let waited = started.elapsed();
        if waited >= DEADLINE {
            let root_hash = to_hex(&line.root_hash);
            return Err(InitrdError::NoRoot {
                names: "ROOT-A or ROOT-B",
                root_hash,
                found: found.into(),
                waited,
            });
        }
        if waited >= report_at {
            kmsg::show_notices_on_consoles();
            let (waited, deadline) = (waited.as_secs(), DEADLINE.as_secs());
            log.line(
                Level::Notice,
                format_args!("waiting for partition ROOT-A or ROOT-B, {waited} s of {deadline} s; found {found}"),
            );
            report_at = report_at.saturating_add(REPORT_EVERY);
        }
        wait_for_device(&uevents);
    }
}

/// Until the kernel speaks of a block device, or it is time to look anyway.
fn wait_for_device(uevents: &Uevents) {
    let started = Instant::now();
    while let Some(left) = RESCAN_EVERY.checked_sub(started.elapsed()) {
        let timeout = rustix::time::Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(uevents, PollFlags::IN)];
        if rustix::event::poll(&mut fds, Some(&timeout)) == Ok(0) || uevents.heard_of("block") {
            return;
        }
    }
}

/// Kernel names of the partitions named ROOT-A or ROOT-B, those of the first choice first.
fn candidates(folder: &Path, first_choice: &str) -> Vec<String> {
    let mut found: Vec<(bool, String)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let uevent = std::fs::read_to_string(entry.path().join("uevent")).ok()?;
            let label = uevent.lines().find_map(|row| row.strip_prefix("PARTNAME="))?;
            let wanted = label == "ROOT-A" || label == "ROOT-B";
            Some((label != first_choice, entry.file_name().into_string().ok()?)).filter(|_| wanted)
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}

/// Whether SHA-256 of salt and top hash block is the root hash.
fn top_block_matches(device: &Path, line: &CommandLine) -> std::io::Result<bool> {
    let mut block = [0; BLOCK_SIZE as usize];
    let offset =
        hash_start(line).checked_mul(BLOCK_SIZE.into()).ok_or(std::io::ErrorKind::InvalidInput)?;
    File::open(device)?.read_exact_at(&mut block, offset)?;
    let digest = Sha256::new().chain_update(&line.salt).chain_update(block).finalize();
    Ok(digest.as_slice() == line.root_hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingot_linux::dm_verity::OnCorruption;

    fn partition(folder: &Path, kernel_name: &str, uevent: &str) {
        let folder = folder.join(kernel_name);
        std::fs::create_dir_all(&folder).expect("folder");
        std::fs::write(folder.join("uevent"), uevent).expect("uevent");
    }

    #[test]
    fn the_slot_of_this_boot_image_is_tried_first_and_the_other_after_it() {
        let folder = tempfile::tempdir().expect("folder");
        partition(folder.path(), "vda", "DEVTYPE=disk\n");
        partition(folder.path(), "vda1", "DEVTYPE=partition\nPARTNAME=ESP\n");
        partition(folder.path(), "vda3", "DEVTYPE=partition\nPARTNAME=ROOT-A\n");
        partition(folder.path(), "vda4", "DEVTYPE=partition\nPARTNAME=ROOT-B\n");
        partition(folder.path(), "vdb1", "PARTNAME=ROOT-Against\n");
        assert_eq!(candidates(folder.path(), "ROOT-A"), ["vda3", "vda4"]);
        assert_eq!(candidates(folder.path(), "ROOT-B"), ["vda4", "vda3"]);
        assert!(candidates(Path::new("/no/such/folder"), "ROOT-A").is_empty());
    }

    #[test]
    fn a_partition_matches_only_with_the_right_top_block_and_salt() {
        let mut file = tempfile::NamedTempFile::new().expect("file");
        let block = [7; BLOCK_SIZE as usize];
        let mut content = vec![0; 3 * BLOCK_SIZE as usize];
        content.extend(block);
        std::io::Write::write_all(&mut file, &content).expect("write");
        let mut line = CommandLine {
            root_hash: Sha256::new().chain_update([1, 2]).chain_update(block).finalize().into(),
            data_blocks: 2,
            salt: vec![1, 2],
            on_corruption: OnCorruption::Panic,
            first_choice: "ROOT-A",
            init: "/x".into(),
            debug: false,
        };
        assert!(top_block_matches(file.path(), &line).expect("read"));
        line.salt = vec![1];
        assert!(!top_block_matches(file.path(), &line).expect("read"), "another salt");
        line.data_blocks = 3;
        assert!(top_block_matches(file.path(), &line).is_err(), "past the end");
    }
}
