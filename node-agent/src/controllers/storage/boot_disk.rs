//! The disk that holds the running root: finding it through sysfs, its partition table, and writing that table.

use super::gpt::{self, Table, Wanted, Write};
use anyhow::{Context as _, bail};
use ingot_linux::partition::{Disk, partition_name};
use ingot_machine_config::layout;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Offset of the two magic bytes of an ext4 superblock, from the beginning of its partition.
const EXT4_MAGIC_OFFSET: u64 = 1024 + 0x38;
/// What they are.
const EXT4_MAGIC: [u8; 2] = [0x53, 0xEF];
/// Beginnings of what others put on partitions: offset, magic, name.
const FOREIGN: &[(u64, &[u8], &str)] = &[
    (0, b"XFSB", "an XFS file system"),
    (0, b"LUKS\xba\xbe", "an encrypted volume"),
    (0x1_0040, b"_BHRfS_M", "a Btrfs file system"),
    (0x218, b"LVM2 001", "an LVM volume"),
    (3, b"NTFS    ", "an NTFS file system"),
];

/// A partition of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Name in the table.
    pub(crate) name: String,
    /// From 1.
    pub(crate) number: u32,
    /// Bytes from the beginning of the disk.
    pub(crate) start: u64,
    /// Bytes.
    pub(crate) length: u64,
    /// Device node.
    pub(crate) device: PathBuf,
    /// The kernel knows it.
    pub(crate) known: bool,
    /// It carries an ext4 superblock.
    pub(crate) has_ext4: bool,
    /// What else it carries, if anything.
    pub(crate) foreign: Option<&'static str>,
}

/// What counts of the disk when deciding what to do.
#[derive(Clone, Debug)]
pub(crate) struct DiskView {
    /// Partitions.
    pub(crate) parts: Vec<Part>,
    /// Both copies of the table are whole, equal and in their place.
    pub(crate) settled: bool,
}

impl DiskView {
    /// A partition by name.
    pub(crate) fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }
}

/// The disk, as it is now.
#[derive(Debug)]
pub(crate) struct BootDisk {
    disk: Disk,
    table: Table,
    view: DiskView,
}

impl BootDisk {
    /// Finds and reads it.
    ///
    /// # Errors
    /// When the root is not on a disk, or the disk has no table that can be trusted.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let name = boot_disk_name().context("find the disk that holds the root")?;
        let disk = Disk::open(&Path::new("/dev").join(&name))?;
        let (sector, size) = (u64::from(disk.sector()), disk.size());
        let mut reader = |offset, length| read_at(&disk, offset, length);
        let table = gpt::read(sector, size, &mut reader).with_context(|| format!("disk {name}"))?;
        let settled = gpt::is_settled(sector, size, &mut reader);
        let parts = (1..)
            .zip(&table.entries)
            .filter_map(|(number, entry)| entry.as_ref().map(|entry| (number, entry)))
            .map(|(number, entry)| {
                let start = entry.first * sector;
                let kernel_name = partition_name(&name, number);
                Part {
                    name: entry.name.clone(),
                    number,
                    start,
                    length: (entry.last - entry.first + 1) * sector,
                    known: Path::new("/sys/class/block").join(&kernel_name).exists(),
                    device: Path::new("/dev").join(kernel_name),
                    has_ext4: starts_with(&disk, start + EXT4_MAGIC_OFFSET, &EXT4_MAGIC),
                    foreign: FOREIGN
                        .iter()
                        .find(|(offset, magic, _)| starts_with(&disk, start + offset, magic))
                        .map(|(_, _, name)| *name),
                }
            })
            .collect();
        Ok(Self { disk, table, view: DiskView { parts, settled } })
    }

    /// What is to be decided on.
    pub(crate) fn view(self) -> DiskView {
        self.view
    }

    /// Adds what is missing to the table on disk. Returns the names of what was added.
    ///
    /// # Errors
    /// When there is no room, or the disk does not take the writes.
    pub(crate) fn add_partitions(&self) -> anyhow::Result<Vec<String>> {
        let random = SystemRandom::new();
        let mut wanted = Vec::new();
        for partition in layout::ADDED {
            let mut id = [0; 16];
            if random.fill(&mut id).is_err() {
                bail!("no random bytes for partition ids");
            }
            wanted.push(Wanted {
                name: partition.name,
                kind: gpt::guid(partition.type_guid).context("type GUID of the layout")?,
                size: partition.size,
                least: layout::MIN_VAR,
                id,
            });
        }
        let (sector, size) = (u64::from(self.disk.sector()), self.disk.size());
        let mut table = self.table.clone();
        let added = table.add(&wanted, sector, size, layout::ALIGNMENT)?;
        self.carry_out(&table.writes(sector, size, &added))?;
        let names = added.iter().filter_map(|number| {
            let entry = table.entries.get(*number as usize - 1)?.as_ref()?;
            Some(entry.name.clone())
        });
        Ok(names.collect())
    }

    /// Writes both copies of the table again.
    ///
    /// # Errors
    /// When the disk does not take the writes.
    pub(crate) fn repair(&self) -> anyhow::Result<()> {
        let (sector, size) = (u64::from(self.disk.sector()), self.disk.size());
        let mut table = self.table.clone();
        table.add(&[], sector, size, layout::ALIGNMENT)?;
        self.carry_out(&table.writes(sector, size, &[]))
    }

    /// Tells the kernel of a partition.
    ///
    /// # Errors
    /// When it refuses.
    pub(crate) fn announce(&self, part: &Part) -> anyhow::Result<()> {
        self.disk.add_partition(part.number, part.start, part.length)?;
        Ok(())
    }

    fn carry_out(&self, writes: &[Write]) -> anyhow::Result<()> {
        let file = self.disk.file();
        for write in writes {
            match write {
                Write::Bytes { offset, bytes } => file
                    .write_all_at(bytes, *offset)
                    .with_context(|| format!("write the partition table at byte {offset}"))?,
                Write::Flush => file.sync_all().context("flush the partition table")?,
            }
        }
        Ok(())
    }
}

fn read_at(disk: &Disk, offset: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    disk.file().read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn starts_with(disk: &Disk, offset: u64, magic: &[u8]) -> bool {
    read_at(disk, offset, magic.len()).as_deref() == Some(magic)
}

/// Name of the disk below the root: the root's device, through any device-mapper layers, without the partition.
fn boot_disk_name() -> io::Result<String> {
    let device = fs::metadata("/")?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let mut folder = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))?;
    // A mapped device has slaves; a loop would be a kernel bug, so a few layers are enough.
    for _ in 0..8 {
        let Some(slave) = fs::read_dir(folder.join("slaves")).ok().and_then(|mut s| s.next())
        else {
            break;
        };
        folder = fs::canonicalize(slave?.path())?;
    }
    if folder.join("partition").exists() {
        folder.pop();
    }
    let name = folder.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}
