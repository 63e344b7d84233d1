//! One packet in, one packet out, and /dev/null on descriptors 0 to 2 in between.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, bail};
use ingot_runc_api::{MESSAGE_LENGTH_MAX, REPLY_LENGTH_MAX, Reply, Request};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Most descriptors that come with a request.
const DESCRIPTORS_MAX: usize = 4;

/// Reads the request from descriptor 0, keeps that socket under another number and puts /dev/null on 0 to 2.
pub(crate) fn receive() -> anyhow::Result<(OwnedFd, Request, Vec<OwnedFd>)> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("keep the socket")?;
    let mut bytes = vec![0; MESSAGE_LENGTH_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        &socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .context("receive the request")?;
    let mut descriptors = Vec::with_capacity(DESCRIPTORS_MAX);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        bail!("no request: the agent is gone");
    }
    let request = serde_json::from_slice(bytes.get(..received.bytes).unwrap_or_default())
        .context("understand the request")?;
    // What is opened from here on must not be one of 0 to 2, which a new process gets others in place of.
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("dup2 stdin")?;
    rustix::stdio::dup2_stdout(&null).context("dup2 stdout")?;
    rustix::stdio::dup2_stderr(&null).context("dup2 stderr")?;
    Ok((socket, request, descriptors))
}

/// Sends the reply, with the descriptor that it speaks of.
pub(crate) fn send(
    socket: &OwnedFd,
    reply: &Reply,
    descriptor: Option<&OwnedFd>,
) -> anyhow::Result<()> {
    let mut bytes = serde_json::to_vec(reply).context("write the reply")?;
    if bytes.len() > REPLY_LENGTH_MAX {
        let message = "failed, with more to say than fits a message".to_owned();
        bytes = serde_json::to_vec(&Reply::Failed { message }).context("write the reply")?;
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptor: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_fd()).collect();
    if !descriptor.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptor)) {
        bail!("no room for the descriptor");
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
        .context("send the reply")?;
    Ok(())
}
