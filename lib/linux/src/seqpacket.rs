//! `SOCK_SEQPACKET` sockets that carry whole messages and at most one descriptor each.
//!
//! It knows nothing of what a message means. Every descriptor received is close-on-exec.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// What could not be done with a socket.
#[derive(Debug, thiserror::Error)]
pub enum SeqpacketError {
    /// No pair of sockets.
    #[error("socketpair(SOCK_SEQPACKET)")]
    Pair(#[source] io::Error),
    /// The message was not sent.
    #[error("sendmsg on a SOCK_SEQPACKET socket")]
    Send(#[source] io::Error),
    /// No message could be received.
    #[error("recvmsg on a SOCK_SEQPACKET socket")]
    Receive(#[source] io::Error),
}

impl SeqpacketError {
    /// Whether the call would have had to wait; try again when the socket is ready.
    #[must_use]
    pub fn would_block(&self) -> bool {
        let (Self::Pair(source) | Self::Send(source) | Self::Receive(source)) = self;
        source.kind() == io::ErrorKind::WouldBlock
    }
}

/// A message that arrived.
#[derive(Debug)]
pub struct Received {
    /// Bytes written to the front of the buffer; 0 when the peer has closed its end.
    pub length: usize,
    /// The descriptor that came with it.
    pub fd: Option<OwnedFd>,
    /// The message was longer than the buffer, or carried more than one descriptor; what did not fit is gone.
    pub truncated: bool,
}

/// Two connected sockets, close-on-exec and non-blocking.
///
/// # Errors
/// When the process or the machine has no descriptors left.
pub fn pair() -> Result<(OwnedFd, OwnedFd), SeqpacketError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|source| SeqpacketError::Pair(source.into()))
}

/// Sends one message, with a descriptor when given. A closed peer is an error (`EPIPE`), never a signal.
///
/// # Errors
/// Anything `sendmsg(2)` refuses; [`SeqpacketError::would_block`] when the queue is full.
pub fn send(
    socket: impl AsFd,
    message: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), SeqpacketError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: &[BorrowedFd<'_>] = fd.as_slice();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(SeqpacketError::Send(io::ErrorKind::InvalidInput.into()));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        return match rustix::net::sendmsg(
            &socket,
            &[io::IoSlice::new(message)],
            &mut control,
            flags,
        ) {
            Ok(_) => Ok(()),
            Err(Errno::INTR) => continue,
            Err(source) => Err(SeqpacketError::Send(source.into())),
        };
    }
}

/// Receives one message into `buffer` without waiting.
///
/// # Errors
/// Anything `recvmsg(2)` refuses; [`SeqpacketError::would_block`] when there is none.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, SeqpacketError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        match rustix::net::recvmsg(&socket, &mut [io::IoSliceMut::new(buffer)], &mut control, flags)
        {
            Ok(message) => break message,
            Err(Errno::INTR) => {}
            Err(source) => return Err(SeqpacketError::Receive(source.into())),
        }
    };
    let lost = rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC;
    let mut received =
        Received { length: message.bytes, fd: None, truncated: message.flags.intersects(lost) };
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = part {
            for fd in fds {
                received.truncated |= received.fd.replace(fd).is_some();
            }
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_message_arrives_whole_with_its_descriptor() {
        let (left, right) = pair().expect("socketpair");
        let (read_end, write_end) = io::pipe().expect("pipe");
        send(&left, b"keep", Some(read_end.as_fd())).expect("send");
        drop(read_end);
        let mut buffer = [0; 16];
        let received = receive(&right, &mut buffer).expect("receive");
        assert_eq!(&buffer[..received.length], b"keep");
        assert!(!received.truncated);
        (&write_end).write_all(b"x").expect("write");
        drop(write_end);
        let mut text = String::new();
        std::fs::File::from(received.fd.expect("a descriptor"))
            .read_to_string(&mut text)
            .expect("read");
        assert_eq!(text, "x");
    }

    #[test]
    fn nothing_to_receive_and_a_full_queue_would_block() {
        let (left, right) = pair().expect("socketpair");
        assert!(receive(&right, &mut [0; 16]).expect_err("nothing was sent").would_block());
        let full = loop {
            if let Err(error) = send(&left, &[0; 256], None) {
                break error;
            }
        };
        assert!(full.would_block(), "{full}");
    }

    #[test]
    fn a_closed_peer_reads_as_an_empty_message() {
        let (left, right) = pair().expect("socketpair");
        drop(left);
        assert_eq!(receive(&right, &mut [0; 16]).expect("receive").length, 0);
        assert!(send(&right, b"x", None).is_err());
    }
}
