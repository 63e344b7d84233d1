//! Disks and their partitions: size, sector size, and telling the kernel of a partition that was added to a disk in use.
//! It knows nothing of partition tables; who adds a partition has written the table first.
#![expect(unsafe_code, reason = "BLKPG has no safe wrapper")]

use rustix::fs::{Mode, OFlags};
use std::ffi::{c_int, c_longlong, c_void};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// `BLKPG` of `linux/blkpg.h`.
const BLKPG: libc::Ioctl = 0x1269;
/// `BLKPG_ADD_PARTITION`.
const BLKPG_ADD_PARTITION: c_int = 1;

/// `struct blkpg_partition`.
#[repr(C)]
struct BlkpgPartition {
    start: c_longlong,
    length: c_longlong,
    number: c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArgument {
    operation: c_int,
    flags: c_int,
    length: c_int,
    data: *mut c_void,
}

/// What could not be done with a disk.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// The device could not be opened.
    #[error("open disk {path}")]
    Open {
        /// Device node.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The size could not be read.
    #[error("read the size of disk {path}")]
    Size {
        /// Device node.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel did not take the partition.
    #[error("add partition {number} of disk {path}")]
    Add {
        /// Device node of the disk.
        path: PathBuf,
        /// Number of the partition, from 1.
        number: u32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A disk opened for reading and writing of its raw bytes.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    file: File,
    size: u64,
    sector: u32,
}

impl Disk {
    /// Opens a whole disk.
    ///
    /// # Errors
    /// When the node cannot be opened or its size cannot be read.
    pub fn open(path: &Path) -> Result<Self, PartitionError> {
        let failed = |source| PartitionError::Size { path: path.into(), source };
        let fd = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| PartitionError::Open { path: path.into(), source: e.into() })?;
        let sector = rustix::fs::ioctl_blksszget(&fd).map_err(|e| failed(e.into()))?;
        let mut file = File::from(fd);
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { path: path.into(), file, size, sector })
    }

    /// The raw bytes.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Logical sector size in bytes.
    #[must_use]
    pub fn sector(&self) -> u32 {
        self.sector
    }

    /// Tells the kernel of one partition, which works while others of the disk are in use (a whole re-read does not).
    /// `start` and `length` are bytes. A partition the kernel knows already is no error.
    ///
    /// # Errors
    /// When the kernel refuses, as for a range that overlaps a partition it knows.
    pub fn add_partition(
        &self,
        number: u32,
        start: u64,
        length: u64,
    ) -> Result<(), PartitionError> {
        let failed = |source| PartitionError::Add { path: self.path.clone(), number, source };
        let too_large = |_| failed(std::io::ErrorKind::InvalidInput.into());
        let mut partition = BlkpgPartition {
            start: start.try_into().map_err(too_large)?,
            length: length.try_into().map_err(too_large)?,
            number: number.try_into().map_err(too_large)?,
            device_name: [0; 64],
            volume_name: [0; 64],
        };
        let size = c_int::try_from(size_of::<BlkpgPartition>()).map_err(too_large)?;
        let mut argument = BlkpgArgument {
            operation: BLKPG_ADD_PARTITION,
            flags: 0,
            length: size,
            data: (&raw mut partition).cast(),
        };
        // SAFETY: the descriptor is open for the whole call; `argument` and the partition it points to are live, laid
        // out as `struct blkpg_ioctl_arg` and `struct blkpg_partition`, and `length` is the size of the latter.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), BLKPG, &raw mut argument) };
        if result == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::EBUSY) && self.kernel_has(number, start, length) {
            return Ok(());
        }
        Err(failed(error))
    }

    /// Whether the kernel knows exactly this partition. Bytes; sysfs counts in 512.
    fn kernel_has(&self, number: u32, start: u64, length: u64) -> bool {
        let Some(disk) = self.path.file_name().and_then(|name| name.to_str()) else {
            return false;
        };
        let folder = Path::new("/sys/class/block").join(partition_name(disk, number));
        let read = |file: &str| -> Option<u64> {
            std::fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
        };
        read("start") == Some(start / 512) && read("size") == Some(length / 512)
    }
}

/// The kernel's name of a partition: `vda1`, but `nvme0n1p1` where the disk's name ends in a digit.
#[must_use]
pub fn partition_name(disk: &str, number: u32) -> String {
    let separator = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{disk}{separator}{number}")
}
