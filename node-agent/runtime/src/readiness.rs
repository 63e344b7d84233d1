//! Waiting for descriptors on the tokio reactor.

use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Lets tokio say when `fd` is ready. The descriptor must not block.
pub(crate) fn register(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe because a type may change its descriptor; an OwnedFd cannot, and this crate has no unsafe code"
    )]
    AsyncFd::new(fd)
}

/// The same for a file that the kernel marks when what it says has changed.
pub(crate) fn register_priority(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    #[expect(deprecated, reason = "as above")]
    AsyncFd::with_interest(fd, tokio::io::Interest::PRIORITY)
}
