//! Unix sockets that keep message boundaries and carry descriptors: `SOCK_SEQPACKET` with `SCM_RIGHTS`.
//!
//! It moves bytes and descriptors; what they mean is the caller's affair.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Most descriptors in one packet.
pub const DESCRIPTORS_MAX: usize = 4;

/// One packet.
#[derive(Debug)]
pub struct Packet {
    /// Bytes written to the buffer; 0 at the end of the connection.
    pub length: usize,
    /// Descriptors that came along, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Two connected sockets, close-on-exec.
///
/// # Errors
/// When the kernel refuses, as at the limit of open descriptors.
pub fn pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends one packet. A closed peer is an error, never a signal.
///
/// # Errors
/// `WouldBlock` when the socket does not block and its queue is full; else why the kernel refused.
pub fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> std::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one packet; what does not fit `bytes` is lost.
///
/// # Errors
/// `WouldBlock` when the socket does not block or its timeout passed; else why the kernel refused.
pub fn receive(socket: impl AsFd, bytes: &mut [u8]) -> std::io::Result<Packet> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let buffers = &mut [IoSliceMut::new(bytes)];
    let received = rustix::net::recvmsg(socket, buffers, &mut control, flags)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(Packet { length: received.bytes, descriptors })
}

/// Bounds the wait of [`receive`] on a blocking socket.
///
/// # Errors
/// When the descriptor is no socket.
pub fn set_receive_timeout(socket: impl AsFd, timeout: Duration) -> std::io::Result<()> {
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    Ok(set_socket_timeout(socket, Timeout::Recv, Some(timeout))?)
}

/// Makes [`send`] and [`receive`] return `WouldBlock` instead of waiting.
///
/// # Errors
/// When the descriptor is not open.
pub fn set_nonblocking(socket: impl AsFd) -> std::io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}
