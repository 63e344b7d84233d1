//! What the kernel says about devices coming and going.
//!
//! Messages may be lost when nobody reads; whoever needs the truth looks in /sys after hearing anything at all.
#![expect(unsafe_code, reason = "netlink socket addresses have no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub enum UeventError {
    /// No socket.
    #[error("open a uevent socket")]
    Open(#[source] io::Error),
    /// The kernel refused to send.
    #[error("bind a uevent socket")]
    Bind(#[source] io::Error),
}

#[expect(clippy::cast_possible_truncation, reason = "16 fits; try_from is not const")]
const FAMILY: libc::sa_family_t = libc::AF_NETLINK as libc::sa_family_t;
#[expect(clippy::cast_possible_truncation, reason = "12 bytes; try_from is not const")]
const ADDRESS_SIZE: libc::socklen_t = size_of::<libc::sockaddr_nl>() as libc::socklen_t;

/// A socket that gets every message of the kernel about devices.
#[derive(Debug)]
pub struct Uevents(OwnedFd);

impl Uevents {
    /// Opens the socket; messages from now on are kept for the reader.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> Result<Self, UeventError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = rustix::net::netlink::KOBJECT_UEVENT;
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            flags,
            Some(protocol),
        )
        .map_err(|source| UeventError::Open(source.into()))?;
        // SAFETY: `sockaddr_nl` is a plain C struct of integers, for which all zeros is a value.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = FAMILY;
        address.nl_groups = 1; // what the kernel itself says; group 2 is udev's
        // SAFETY: the descriptor is ours, the address is live and its size is passed.
        if unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), ADDRESS_SIZE) } != 0 {
            return Err(UeventError::Bind(io::Error::last_os_error()));
        }
        Ok(Self(fd))
    }

    /// Takes all waiting messages and says whether any concerns `subsystem`. A lost message counts as one that does.
    #[must_use]
    pub fn heard_of(&self, subsystem: &str) -> bool {
        let mut heard = false;
        let mut buffer = [0; 4096];
        // A bound, should messages arrive faster than they are read.
        for _ in 0..256 {
            match rustix::net::recv(&self.0, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    let message = buffer.get(..length).unwrap_or_default();
                    heard |= message.split(|byte| *byte == 0).any(|field| {
                        field.strip_prefix(b"SUBSYSTEM=") == Some(subsystem.as_bytes())
                    });
                }
                Err(rustix::io::Errno::NOBUFS) => heard = true,
                Err(_) => break,
            }
        }
        heard
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
