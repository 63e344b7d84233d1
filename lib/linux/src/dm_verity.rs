//! Verified block devices: device-mapper devices with a dm-verity target, made, looked at and removed.
//!
//! Talks to `/dev/mapper/control` itself; needs no libdevmapper. Where the parameters come from, and whether they can
//! be trusted, is the caller's affair.
#![expect(unsafe_code, reason = "the device-mapper ioctls have no safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Bytes of a data or hash block.
pub const BLOCK_SIZE: u32 = 4096;

/// What could not be done with a verified device.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// The control device is missing, as when dm-mod is not loaded.
    #[error("open /dev/mapper/control")]
    Control(#[source] io::Error),
    /// One ioctl was refused.
    #[error("device-mapper {operation} of {name}")]
    Ioctl {
        /// Which.
        operation: &'static str,
        /// Name of the device.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The name or table does not fit the fixed message.
    #[error("device-mapper message for {name} is too long")]
    TooLong {
        /// Name of the device.
        name: String,
    },
    /// The device exists and is not a verified one.
    #[error("{name} is not a dm-verity device")]
    NotVerity {
        /// Name of the device.
        name: String,
    },
}

/// What happens on a block that does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCorruption {
    /// The read fails.
    Eio,
    /// The machine restarts.
    Restart,
    /// The kernel panics.
    Panic,
}

/// What makes a verified device.
#[derive(Clone, Debug)]
pub struct Verity<'a> {
    /// Name of the device.
    pub name: &'a str,
    /// Device that holds data and hash tree.
    pub device: &'a Path,
    /// Data blocks, each of [`BLOCK_SIZE`].
    pub data_blocks: u64,
    /// Block of `device` at which the hash tree starts.
    pub hash_start: u64,
    /// Root hash (SHA-256), in hex.
    pub root_hash: &'a str,
    /// Salt in hex; may be empty.
    pub salt: &'a str,
    /// What happens on a block that does not match.
    pub on_corruption: OnCorruption,
}

/// Whether every block read so far matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// None has failed.
    Verified,
    /// At least one has failed.
    Corrupted,
}

/// Size of `struct dm_ioctl` of `linux/dm-ioctl.h`.
const HEADER_SIZE: usize = 312;
/// Header and room for one target with its parameters or status.
const MESSAGE_SIZE: usize = 2048;
/// `struct dm_target_spec`.
const TARGET_SIZE: usize = 40;
/// `DM_READONLY_FLAG`.
const READ_ONLY: u32 = 1;
const DM_DEV_CREATE: u8 = 3;
const DM_DEV_REMOVE: u8 = 4;
const DM_DEV_SUSPEND: u8 = 6;
const DM_TABLE_LOAD: u8 = 9;
const DM_TABLE_STATUS: u8 = 12;

/// The message: one buffer that is request and reply.
#[repr(C, align(8))]
struct Message([u8; MESSAGE_SIZE]);

impl Message {
    /// Fields as in `struct dm_ioctl`: version at 0, data_size 12, data_start 16, target_count 20, flags 28, dev 40,
    /// name 48 (128 bytes).
    fn new(name: &str, flags: u32) -> Option<Self> {
        let mut message = Self([0; MESSAGE_SIZE]);
        message.put(0, &4_u32.to_ne_bytes())?;
        message.put(12, &u32::try_from(MESSAGE_SIZE).ok()?.to_ne_bytes())?;
        message.put(16, &u32::try_from(HEADER_SIZE).ok()?.to_ne_bytes())?;
        message.put(28, &flags.to_ne_bytes())?;
        if name.is_empty() || name.len() > 127 {
            return None;
        }
        message.put(48, name.as_bytes())?;
        Some(message)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        self.0.get_mut(at..at.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        Some(())
    }

    fn u64_at(&self, at: usize) -> u64 {
        self.0
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }

    /// The NUL-ended text at `at`.
    fn text_at(&self, at: usize) -> &str {
        let rest = self.0.get(at..).unwrap_or_default();
        let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// `struct dm_target_spec` and the parameters behind it.
    fn put_target(&mut self, sectors: u64, parameters: &str) -> Option<()> {
        self.put(20, &1_u32.to_ne_bytes())?;
        self.put(HEADER_SIZE + 8, &sectors.to_ne_bytes())?;
        self.put(HEADER_SIZE + 24, b"verity")?;
        if parameters.len() >= MESSAGE_SIZE - HEADER_SIZE - TARGET_SIZE {
            return None;
        }
        self.put(HEADER_SIZE + TARGET_SIZE, parameters.as_bytes())
    }
}

/// Makes the device and gives its node, which devtmpfs names `/dev/dm-N`.
///
/// # Errors
/// When the kernel refuses; nothing is left behind then.
pub fn create(verity: &Verity<'_>) -> Result<PathBuf, VerityError> {
    let control = open_control()?;
    let too_long = || VerityError::TooLong { name: verity.name.into() };
    let mut message = Message::new(verity.name, READ_ONLY).ok_or_else(too_long)?;
    call(&control, DM_DEV_CREATE, "create", verity.name, &mut message)?;
    let minor = minor_of(message.u64_at(40));
    load_and_resume(&control, verity).inspect_err(|_| {
        // Best effort: the first error is the one to tell.
        let _ = remove(verity.name);
    })?;
    Ok(PathBuf::from(format!("/dev/dm-{minor}")))
}

fn load_and_resume(control: &File, verity: &Verity<'_>) -> Result<(), VerityError> {
    let too_long = || VerityError::TooLong { name: verity.name.into() };
    let mut message = Message::new(verity.name, READ_ONLY).ok_or_else(too_long)?;
    let sectors =
        verity.data_blocks.checked_mul(u64::from(BLOCK_SIZE / 512)).ok_or_else(too_long)?;
    message.put_target(sectors, &table_line(verity)).ok_or_else(too_long)?;
    call(control, DM_TABLE_LOAD, "table load", verity.name, &mut message)?;
    let mut message = Message::new(verity.name, 0).ok_or_else(too_long)?;
    call(control, DM_DEV_SUSPEND, "resume", verity.name, &mut message)
}

/// The parameters of the target, as in `Documentation/admin-guide/device-mapper/verity.rst`.
fn table_line(verity: &Verity<'_>) -> String {
    let Verity { device, data_blocks, hash_start, root_hash, .. } = verity;
    let device = device.display();
    let salt = if verity.salt.is_empty() { "-" } else { verity.salt };
    let extra = match verity.on_corruption {
        OnCorruption::Eio => "",
        OnCorruption::Restart => " 1 restart_on_corruption",
        OnCorruption::Panic => " 1 panic_on_corruption",
    };
    format!(
        "1 {device} {device} {BLOCK_SIZE} {BLOCK_SIZE} {data_blocks} {hash_start} sha256 {root_hash} {salt}{extra}"
    )
}

/// Removes a device that nobody uses.
///
/// # Errors
/// When the kernel refuses.
pub fn remove(name: &str) -> Result<(), VerityError> {
    let mut message =
        Message::new(name, 0).ok_or_else(|| VerityError::TooLong { name: name.into() })?;
    call(&open_control()?, DM_DEV_REMOVE, "remove", name, &mut message)
}

/// Asks whether a block has failed since the device was made.
///
/// # Errors
/// When there is no such device, or it is no verified one.
pub fn integrity(name: &str) -> Result<Integrity, VerityError> {
    let mut message =
        Message::new(name, 0).ok_or_else(|| VerityError::TooLong { name: name.into() })?;
    call(&open_control()?, DM_TABLE_STATUS, "status", name, &mut message)?;
    if message.text_at(HEADER_SIZE + 24) != "verity" {
        return Err(VerityError::NotVerity { name: name.into() });
    }
    match message.text_at(HEADER_SIZE + TARGET_SIZE).chars().next() {
        Some('V') => Ok(Integrity::Verified),
        Some('C') => Ok(Integrity::Corrupted),
        _ => Err(VerityError::NotVerity { name: name.into() }),
    }
}

fn open_control() -> Result<File, VerityError> {
    File::options().read(true).write(true).open("/dev/mapper/control").map_err(VerityError::Control)
}

/// `_IOWR(0xfd, number, struct dm_ioctl)`.
fn request(number: u8) -> libc::Ioctl {
    const READ_WRITE: u32 = 3;
    #[expect(clippy::cast_possible_truncation, reason = "312 fits the 14 bits of an ioctl's size")]
    const SIZE: u32 = HEADER_SIZE as u32;
    libc::Ioctl::from((READ_WRITE << 30) | (SIZE << 16) | (0xfd << 8) | u32::from(number))
}

fn call(
    control: &File,
    number: u8,
    operation: &'static str,
    name: &str,
    message: &mut Message,
) -> Result<(), VerityError> {
    // SAFETY: the message is live and exclusively borrowed, aligned as `struct dm_ioctl`, and its `data_size` field is
    // its real size, which is all the kernel reads or writes.
    let result =
        unsafe { libc::ioctl(control.as_raw_fd(), request(number), message.0.as_mut_ptr()) };
    if result == 0 {
        return Ok(());
    }
    Err(VerityError::Ioctl { operation, name: name.into(), source: io::Error::last_os_error() })
}

/// Minor number in the kernel's 32-bit device number: bits 0..8 and 20..32.
fn minor_of(device: u64) -> u64 {
    (device & 0xff) | ((device >> 12) & 0xf_ff00)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verity(on_corruption: OnCorruption, salt: &str) -> String {
        table_line(&Verity {
            name: "root",
            device: Path::new("/dev/vda3"),
            data_blocks: 100,
            hash_start: 101,
            root_hash: "ab",
            salt,
            on_corruption,
        })
    }

    #[test]
    fn the_table_line_is_what_the_kernel_documents() {
        assert_eq!(
            verity(OnCorruption::Panic, "0f"),
            "1 /dev/vda3 /dev/vda3 4096 4096 100 101 sha256 ab 0f 1 panic_on_corruption"
        );
        assert_eq!(
            verity(OnCorruption::Eio, ""),
            "1 /dev/vda3 /dev/vda3 4096 4096 100 101 sha256 ab -"
        );
    }

    #[test]
    fn the_ioctl_number_is_that_of_the_kernel_header() {
        assert_eq!(request(DM_DEV_CREATE), 0xc138_fd03);
    }

    #[test]
    fn names_and_tables_that_do_not_fit_are_refused() {
        assert!(Message::new(&"n".repeat(128), 0).is_none());
        assert!(Message::new("", 0).is_none());
        let mut message = Message::new("root", 0).expect("fits");
        assert!(message.put_target(8, &"x".repeat(MESSAGE_SIZE)).is_none());
    }
}
