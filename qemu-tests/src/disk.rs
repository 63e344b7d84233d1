//! Work on the disk of a machine that is off: find partitions, flip bytes, fill file systems. Never while QEMU runs.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::artifacts::Tools;

/// Where the partition called `name` lies on a raw disk, in bytes.
pub fn partition(disk: &Path, name: &str) -> anyhow::Result<Range<u64>> {
    let table = gpt::GptConfig::new()
        .writable(false)
        .open(disk)
        .with_context(|| format!("read the partition table of {}", disk.display()))?;
    let sector = u64::from(*table.logical_block_size());
    let found = table.partitions().values().find(|partition| partition.name == name);
    let found = found.with_context(|| format!("{} has no partition {name}", disk.display()))?;
    Ok(found.first_lba * sector..(found.last_lba + 1) * sector)
}

/// Inverts the bytes of `range` of a raw disk.
pub fn invert(disk: &Path, range: Range<u64>) -> anyhow::Result<()> {
    let mut file = fs_err::OpenOptions::new().read(true).write(true).open(disk)?;
    let mut bytes = vec![0; usize::try_from(range.end - range.start)?];
    file.seek(SeekFrom::Start(range.start))?;
    file.read_exact(&mut bytes)?;
    for byte in &mut bytes {
        *byte = !*byte;
    }
    file.seek(SeekFrom::Start(range.start))?;
    file.write_all(&bytes)?;
    Ok(file.sync_all()?)
}

/// Fills the ext4 file system in a partition of a raw disk to its last block, those reserved for root included.
pub fn fill_ext4(tools: &Tools, disk: &Path, name: &str) -> anyhow::Result<()> {
    let range = partition(disk, name)?;
    let folder = tempfile::tempdir().context("make a folder for a partition")?;
    let image = folder.path().join("partition.img");
    copy(disk, range.start, &image, 0, range.end - range.start)?;
    let filler = folder.path().join("filler");
    let statistics = debugfs(tools, &image, "stats")?;
    let free = number(&statistics, "Free blocks:")?;
    let block = number(&statistics, "Block size:")?;
    // The file's own extent blocks need room too: first most of it, then block by block.
    let first = free.saturating_sub(16);
    fs_err::write(&filler, vec![0xa5; usize::try_from(first * block)?])?;
    debugfs(tools, &image, &format!("write {} filler", filler.display()))?;
    fs_err::write(&filler, vec![0xa5; usize::try_from(block)?])?;
    for index in 0..64 {
        if number(&debugfs(tools, &image, "stats")?, "Free blocks:")? == 0 {
            break;
        }
        debugfs(tools, &image, &format!("write {} filler{index}", filler.display()))?;
    }
    let left = number(&debugfs(tools, &image, "stats")?, "Free blocks:")?;
    ensure!(left < 4, "{left} blocks of {name} are still free");
    copy(&image, 0, disk, range.start, range.end - range.start)
}

/// Runs one request of `debugfs`, which reports errors on its error output and never by its exit code.
fn debugfs(tools: &Tools, image: &Path, request: &str) -> anyhow::Result<String> {
    output(tools.debugfs.command().args(["-w", "-R", request]).arg(image))
}

/// The number after `label` at the beginning of a line.
fn number(text: &str, label: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let line = line.with_context(|| format!("no line {label:?}"))?;
    line.trim().parse().with_context(|| format!("read {label:?}"))
}

/// The bytes of the disk image file that hold the first block of `path` in an EROFS image, from `dump.erofs`.
pub fn erofs_extent(tools: &Tools, image: &Path, path: &str) -> anyhow::Result<Range<u64>> {
    let text =
        output(tools.dump_erofs.command().arg(format!("--path={path}")).arg("-e").arg(image))?;
    first_extent(&text).with_context(|| format!("no extent of {path} in:\n{text}"))
}

/// Rows look like `   0:        0..  311296 |  311296 :   1880064..   1961984 |   81920`.
fn first_extent(text: &str) -> Option<Range<u64>> {
    text.lines().find_map(|line| {
        let (index, rest) = line.split_once(':')?;
        index.trim().parse::<u32>().ok()?;
        let physical = rest.split_once('|')?.1.split_once(':')?.1;
        let (begin, rest) = physical.split_once("..")?;
        let end = rest.split('|').next()?;
        Some(begin.trim().parse().ok()?..end.trim().parse().ok()?)
    })
}

/// Runs a command and returns what it printed.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let words = format!("{command:?}");
    let output = command.output().with_context(|| format!("start {words}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words} failed: {}", errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Copies `length` bytes between files; the target keeps what lies around them. Holes stay holes in a new file.
fn copy(from: &Path, from_at: u64, to: &Path, to_at: u64, length: u64) -> anyhow::Result<()> {
    const CHUNK: u64 = 1 << 20;
    let mut source = fs_err::File::open(from)?;
    let mut target =
        fs_err::OpenOptions::new().write(true).create(true).truncate(false).open(to)?;
    if target.metadata()?.len() < to_at + length {
        target.set_len(to_at + length)?;
    }
    source.seek(SeekFrom::Start(from_at))?;
    let mut done = 0;
    while done < length {
        let mut bytes = vec![0; usize::try_from(CHUNK.min(length - done))?];
        source.read_exact(&mut bytes)?;
        if bytes.iter().any(|byte| *byte != 0) || to_at > 0 {
            target.seek(SeekFrom::Start(to_at + done))?;
            target.write_all(&bytes)?;
        }
        done += u64::try_from(bytes.len())?;
    }
    Ok(target.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::first_extent;

    #[test]
    fn the_first_extent_is_read_from_the_physical_column() {
        let text = "Path : /x\n\n Ext:   logical offset   |  length :     physical offset    |  length\n   \
                    0:        0..  311296 |  311296 :   1880064..   1961984 |   81920\n   \
                    1:   311296..  400000 |   88704 :   1961984..   1970176 |    8192\n";
        assert_eq!(first_extent(text), Some(1_880_064..1_961_984));
        assert_eq!(first_extent("nothing"), None);
    }
}
