//! No partition is ever lost or overlapped, and no power cut leaves a disk without a table.

use super::*;
use proptest::prelude::*;

const SECTOR: u64 = 512;
const SECTOR_BYTES: usize = 512;
const MIB: u64 = 1 << 20;

/// A disk in memory; untouched megabytes are zeros and take no room.
#[derive(Clone, Default)]
struct Disk {
    size: u64,
    sectors: std::collections::BTreeMap<u64, Vec<u8>>,
}

impl Disk {
    fn new(size: u64) -> Self {
        Self { size, ..Self::default() }
    }

    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        if offset + length as u64 > self.size {
            return None;
        }
        let mut bytes = Vec::new();
        for sector in offset / SECTOR..(offset + length as u64).div_ceil(SECTOR) {
            match self.sectors.get(&sector) {
                Some(content) => bytes.extend_from_slice(content),
                None => bytes.resize(bytes.len() + SECTOR_BYTES, 0),
            }
        }
        bytes.truncate(length);
        Some(bytes)
    }

    fn write_sector(&mut self, sector: u64, bytes: &[u8]) {
        assert!((sector + 1) * SECTOR <= self.size, "write past the end");
        let mut content = bytes.to_vec();
        content.resize(SECTOR_BYTES, 0);
        self.sectors.insert(sector, content);
    }

    fn table(&self) -> Result<Table, GptError> {
        read(SECTOR, self.size, &mut |offset, length| self.read(offset, length))
    }
}

/// Every sector write in order, with the flushes left out: the worst case within one flush is tried by the tests.
fn sector_writes(writes: &[Write]) -> Vec<(u64, Vec<u8>)> {
    let bytes = writes.iter().filter_map(|write| match write {
        Write::Bytes { offset, bytes } => Some((offset, bytes)),
        Write::Flush => None,
    });
    bytes
        .flat_map(|(offset, bytes)| {
            bytes
                .chunks(SECTOR_BYTES)
                .enumerate()
                .map(move |(index, chunk)| (offset / SECTOR + index as u64, chunk.to_vec()))
        })
        .collect()
}

/// A shipped image of `image` MiB with the three shipped partitions, put on a disk of `size` bytes.
fn shipped(image_mib: u64, size: u64) -> Disk {
    let mut table = Table { disk_id: [9; 16], first_usable: 34, last_usable: 0, entries: vec![] };
    let fixed = |name, size_mib: u64, id| Wanted {
        name,
        kind: guid("C12A7328-F81F-11D2-BA4B-00A0C93EC93B").unwrap(),
        size: Some(size_mib * MIB),
        least: 0,
        id: [id; 16],
    };
    let image = image_mib * MIB;
    let wanted = [fixed("ESP", 8, 1), fixed("BIOS", 1, 2), fixed("ROOT-A", 16, 3)];
    let added = table.add(&wanted, SECTOR, image, MIB).unwrap();
    let mut disk = Disk::new(size);
    for (sector, bytes) in sector_writes(&table.writes(SECTOR, image, &added)) {
        disk.write_sector(sector, &bytes);
    }
    disk
}

fn wanted() -> Vec<Wanted> {
    let kind = guid("0FC63DAF-8483-4772-8E79-3D69D8477DE4").unwrap();
    let one = |name, size, id| Wanted { name, kind, size, least: 8 * MIB, id: [id; 16] };
    vec![one("ROOT-B", Some(16 * MIB), 4), one("STATE", Some(4 * MIB), 5), one("VAR", None, 6)]
}

#[test]
fn a_first_boot_adds_what_is_missing_after_what_is_there() {
    let disk = shipped(28, 128 * MIB);
    let mut table = disk.table().unwrap();
    let before = table.clone();
    assert_eq!(table.add(&wanted(), SECTOR, disk.size, MIB).unwrap(), [4, 5, 6]);
    assert_eq!(table.entries[..3], before.entries[..3]);
    let (_, var) = table.find("VAR").unwrap();
    assert!(var.last * SECTOR > 126 * MIB, "VAR takes the rest of the grown disk");
    check(&table, disk.size / SECTOR - 1).unwrap();
}

#[test]
fn a_table_that_has_everything_is_left_alone() {
    let disk = shipped(28, 128 * MIB);
    let mut table = disk.table().unwrap();
    table.add(&wanted(), SECTOR, disk.size, MIB).unwrap();
    let complete = table.clone();
    assert_eq!(table.add(&wanted(), SECTOR, disk.size, MIB).unwrap(), [] as [u32; 0]);
    assert_eq!(table, complete);
}

#[test]
fn a_small_disk_is_named_as_such() {
    let disk = shipped(28, 48 * MIB);
    let error = disk.table().unwrap().add(&wanted(), SECTOR, disk.size, MIB).unwrap_err();
    assert!(error.to_string().contains("too small: partition VAR"), "{error}");
}

#[test]
fn a_guid_has_the_byte_order_of_the_disk() {
    let esp = guid("C12A7328-F81F-11D2-BA4B-00A0C93EC93B").unwrap();
    assert_eq!(esp[..8], [0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11]);
    assert_eq!(guid("nothing"), None);
}

#[test]
fn any_prefix_of_the_writes_leaves_the_old_or_the_new_table() {
    let disk = shipped(28, 128 * MIB);
    let old = disk.table().unwrap();
    let mut new = old.clone();
    let added = new.add(&wanted(), SECTOR, disk.size, MIB).unwrap();
    let writes = sector_writes(&new.writes(SECTOR, disk.size, &added));
    let mut current = disk.clone();
    let mut seen_new = false;
    for (index, (sector, bytes)) in writes.iter().enumerate() {
        // A torn sector: the power fails in the middle of writing it.
        let mut torn = current.clone();
        let mut half = current.read(sector * SECTOR, SECTOR_BYTES).unwrap();
        half[..bytes.len() / 2].copy_from_slice(&bytes[..bytes.len() / 2]);
        torn.write_sector(*sector, &half);
        for state in [&torn, &current] {
            let table =
                state.table().unwrap_or_else(|error| panic!("cut at write {index}: {error}"));
            let is_new = table.entries == new.entries;
            assert!(is_new || table.entries[..3] == old.entries[..3], "cut at write {index}");
            seen_new |= is_new;
        }
        current.write_sector(*sector, bytes);
    }
    assert!(seen_new);
    assert_eq!(current.table().unwrap(), new);
    assert!(is_settled(SECTOR, current.size, &mut |offset, length| current.read(offset, length)));
}

proptest! {
    /// Within one flush the disk may take the writes in any order, and any of them may be missing.
    #[test]
    fn any_subset_of_unflushed_writes_leaves_a_table(stage in 0_usize..5, mask in any::<u64>()) {
        let disk = shipped(28, 128 * MIB);
        let mut new = disk.table().unwrap();
        let added = new.add(&wanted(), SECTOR, disk.size, MIB).unwrap();
        let writes = new.writes(SECTOR, disk.size, &added);
        let groups: Vec<Vec<(u64, Vec<u8>)>> =
            writes.split(|write| *write == Write::Flush).map(sector_writes).collect();
        let mut current = disk;
        for (index, group) in groups.iter().enumerate().take(stage + 1) {
            for (position, (sector, bytes)) in group.iter().enumerate() {
                if index < stage || mask >> (position % 64) & 1 == 1 {
                    current.write_sector(*sector, bytes);
                }
            }
        }
        prop_assert!(current.table().is_ok());
    }

    /// Whatever is on the disk, new partitions lie in free space and old ones stay as they are.
    #[test]
    fn partitions_are_added_in_free_space_only(
        sizes in proptest::collection::vec((1_u64..40, 0_u64..30), 0..8),
        size_mib in 64_u64..512,
    ) {
        let size = size_mib * MIB;
        let mut table = Table { disk_id: [1; 16], first_usable: 34, last_usable: 0, entries: vec![] };
        let mut at = 1;
        for (length, gap) in sizes {
            let first = (at + gap) * MIB / SECTOR;
            let last = first + length * MIB / SECTOR - 1;
            at += gap + length;
            if at + 1 < size_mib {
                let name = "OTHER".to_owned();
                table.entries.push(Some(Entry { kind: [1; 16], id: [2; 16], first, last, attributes: 0, name }));
            }
        }
        let before = table.entries.clone();
        if table.add(&wanted(), SECTOR, size, MIB).is_ok() {
            prop_assert_eq!(&table.entries[..before.len()], &before[..]);
            prop_assert!(check(&table, size / SECTOR - 1).is_ok());
            let end = table.last_usable;
            prop_assert!(table.entries.iter().flatten().all(|entry| entry.last <= end));
            for write in table.writes(SECTOR, size, &[]) {
                if let Write::Bytes { offset, bytes } = write {
                    prop_assert!(offset + bytes.len() as u64 <= size);
                }
            }
        }
    }

    /// Bytes of a strange disk never crash the reader.
    #[test]
    fn any_bytes_are_read_without_a_crash(bytes in proptest::collection::vec(any::<u8>(), 4096)) {
        let mut bytes = bytes;
        bytes[512..520].copy_from_slice(b"EFI PART");
        let size = bytes.len() as u64;
        let _ = read(SECTOR, size, &mut |offset, length| {
            let start = usize::try_from(offset).ok()?;
            Some(bytes.get(start..start.checked_add(length)?)?.to_vec())
        });
    }
}
