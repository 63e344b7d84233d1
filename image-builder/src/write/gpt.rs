//! The partition table of a disk image: protective MBR, primary and backup GPT, all identifiers given by the caller.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::str::FromStr;

use gpt::disk::LogicalBlockSize;
use gpt::partition::Partition as Row;
use gpt::partition_types::Type;
use ingot_machine_config::layout::{ALIGNMENT, Partition, SECTOR};

use crate::digest;

/// One partition with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Which one.
    pub partition: Partition,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
    /// Its own identifier, in the order of the text.
    pub guid: [u8; 16],
}

/// Puts partitions one behind the other, and gives them with the size in bytes of the disk that holds them and both
/// tables. Partitions with no fixed size are left out. `seed` makes the identifiers.
#[must_use]
pub fn place(partitions: &[Partition], seed: &str) -> (Vec<Placed>, u64) {
    let mut offset = ALIGNMENT;
    let mut placed = Vec::new();
    for partition in partitions {
        let Some(size) = partition.size else { continue };
        let guid = digest::guid(seed, partition.name);
        placed.push(Placed { partition: *partition, offset, size, guid });
        offset = (offset + size).next_multiple_of(ALIGNMENT);
    }
    (placed, offset + ALIGNMENT)
}

/// Writes the tables to `disk`, whose length must already be right. Partition contents are not touched.
///
/// # Errors
/// Errors of the disk and of the table library.
pub fn write(disk: &mut File, partitions: &[Placed], disk_guid: &[u8; 16]) -> std::io::Result<()> {
    let length = disk.metadata()?.len();
    let sectors = u32::try_from(length / SECTOR - 1).unwrap_or(u32::MAX);
    gpt::mbr::ProtectiveMBR::with_lb_size(sectors)
        .overwrite_lba0(disk)
        .map_err(std::io::Error::other)?;
    let mut rows = BTreeMap::new();
    for (number, placed) in (1_u32..).zip(partitions) {
        let kind = Type::from_str(placed.partition.type_guid).map_err(std::io::Error::other)?;
        let row = Row {
            part_type_guid: kind,
            part_guid: uuid::Uuid::from_bytes(placed.guid),
            first_lba: placed.offset / SECTOR,
            last_lba: (placed.offset + placed.size) / SECTOR - 1,
            flags: 0,
            name: placed.partition.name.to_owned(),
        };
        rows.insert(number, row);
    }
    let mut table = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(disk, Some(uuid::Uuid::from_bytes(*disk_guid)))
        .map_err(std::io::Error::other)?;
    table.update_partitions(rows).map_err(std::io::Error::other)?;
    table.write().map_err(std::io::Error::other)?;
    Ok(())
}

/// Offset and length in bytes of the partition called `name`.
///
/// # Errors
/// A disk without a valid partition table, or without that partition.
pub fn find(
    disk: &mut (impl Read + std::io::Write + Seek + std::fmt::Debug),
    name: &str,
) -> std::io::Result<(u64, u64)> {
    disk.seek(SeekFrom::Start(0))?;
    let table = gpt::GptConfig::new()
        .writable(false)
        .logical_block_size(LogicalBlockSize::Lb512)
        .open_from_device(disk)
        .map_err(std::io::Error::other)?;
    let row = table.partitions().values().find(|row| row.name == name);
    let row = row
        .ok_or_else(|| std::io::Error::other(format!("the disk has no partition named {name}")))?;
    Ok((row.first_lba * SECTOR, (row.last_lba + 1 - row.first_lba) * SECTOR))
}

#[cfg(test)]
mod tests {
    use ingot_machine_config::layout;

    use super::*;

    fn disk() -> File {
        let (placed, size) = place(layout::SHIPPED, "test");
        let mut file = tempfile::tempfile().expect("file");
        file.set_len(size).expect("length");
        write(&mut file, &placed, &digest::guid("test", "disk")).expect("table");
        file
    }

    fn bytes(file: &mut File) -> Vec<u8> {
        let mut start = vec![0; 64 << 10];
        file.seek(SeekFrom::Start(0)).expect("seek");
        file.read_exact(&mut start).expect("read");
        start
    }

    #[test]
    fn every_shipped_partition_is_found_by_name_where_the_layout_puts_it() {
        let mut disk = disk();
        let (placed, _) = place(layout::SHIPPED, "test");
        for one in placed {
            assert_eq!(find(&mut disk, one.partition.name).expect("found"), (one.offset, one.size));
        }
        assert!(find(&mut disk, "STATE").is_err());
    }

    #[test]
    fn two_tables_of_the_same_seed_are_equal() {
        assert_eq!(bytes(&mut disk()), bytes(&mut disk()));
    }

    #[test]
    fn every_partition_of_a_node_fits_the_smallest_disk() {
        let all: Vec<Partition> = [layout::SHIPPED, layout::ADDED].concat();
        let (_, size) = place(&all, "test");
        assert!(size + layout::MIN_VAR <= layout::MIN_DISK);
    }
}
