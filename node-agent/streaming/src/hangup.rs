//! Notices that the peer has gone while nobody reads from it. A reader that waits because a program does not take its input would
//! otherwise never learn that there is nobody left to send any.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A second descriptor of the connection. It is watched only in [`Hangup::wait`].
#[derive(Debug)]
pub(crate) struct Hangup(Option<OwnedFd>);

impl Hangup {
    /// Watches a connection. Out of descriptors, the hang-up is noticed later, by the next write.
    pub(crate) fn of(stream: &TcpStream) -> Self {
        Self(stream.as_fd().try_clone_to_owned().ok())
    }

    /// Returns when the peer has closed its side, however much it sent before. Cancel safe.
    pub(crate) async fn wait(&self) {
        let Ok(watched) = self.watch() else { return std::future::pending().await };
        while let Ok(ready) = watched.ready(Interest::READABLE).await {
            if ready.is_read_closed() {
                return;
            }
            // Nothing is read: this only forgets that there is something, until there is news.
            let none = || Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock));
            let _forgotten = watched.try_io(Interest::READABLE, none);
        }
    }

    /// A registration of its own, so that what is forgotten here is not forgotten for the reader.
    fn watch(&self) -> io::Result<TcpStream> {
        let descriptor = self.0.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        TcpStream::from_std(descriptor.try_clone()?.into())
    }
}
