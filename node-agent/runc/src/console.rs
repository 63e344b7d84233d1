//! Where libcontainer sends the master of the terminal that it has made in the container.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

/// A listening socket.
pub(crate) struct Console {
    socket: OwnedFd,
    path: PathBuf,
}

impl Console {
    /// Listens in `folder`.
    pub(crate) fn listen(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("tty");
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .context("make the socket for the terminal")?;
        let address = SocketAddrUnix::new(&path).context("name the socket for the terminal")?;
        rustix::net::bind(&socket, &address).context("bind the socket for the terminal")?;
        rustix::net::listen(&socket, 1).context("listen for the terminal")?;
        Ok(Self { socket, path })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The master, which has been sent by now.
    pub(crate) fn master(self) -> anyhow::Result<OwnedFd> {
        rustix::io::ioctl_fionbio(&self.socket, true).context("do not wait for the terminal")?;
        let connection = rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC)
            .context("take the terminal")?;
        let mut bytes = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let buffers = &mut [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(&connection, buffers, &mut control, flags)
            .context("receive the terminal")?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut rights) = message
                && let Some(master) = rights.next()
            {
                return Ok(master);
            }
        }
        bail!("libcontainer sent no terminal")
    }
}
