//! What runs behind a URL. The server knows nothing of it but this trait.

use crate::request::{AttachRequest, ExecRequest};
use crate::resize::Resizes;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why a backend could not do it. The message and its causes are shown to the caller.
pub type BackendError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes from the caller. It ends when the caller half-closes it, and when the caller has gone.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;

/// Bytes to the caller. Shutting it down or dropping it ends the caller's stream; a write waits for a slow caller and fails with
/// `BrokenPipe` once the caller has gone.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection: what [`Input`] and [`Output`] are, in one.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The streams of one exec or attach. Only those that the request asked for are there.
pub struct ExecIo {
    /// Standard input.
    pub stdin: Option<Input>,
    /// Standard output; with a terminal, all its output.
    pub stdout: Option<Output>,
    /// Standard error; never with a terminal.
    pub stderr: Option<Output>,
    /// Sizes of the caller's terminal; ends at once without a terminal.
    pub resizes: Resizes,
}

/// What the server calls.
///
/// A returned future is dropped when the caller has gone and it did not end by itself within 10 seconds of that, and when the server
/// stops. What it holds must end with it.
pub trait Backend: Send + Sync + 'static {
    /// Runs a program and returns its exit code once it has ended and its output is written.
    ///
    /// # Errors
    ///
    /// When the program could not be run or watched.
    fn exec(
        &self,
        request: ExecRequest,
        io: ExecIo,
    ) -> BoxFuture<'static, Result<i32, BackendError>>;

    /// Connects to a running container's streams and returns when it ends.
    ///
    /// # Errors
    ///
    /// When there is nothing to connect to.
    fn attach(
        &self,
        request: AttachRequest,
        io: ExecIo,
    ) -> BoxFuture<'static, Result<(), BackendError>>;

    /// Connects to a port of a sandbox's loopback address and copies both ways until either ends.
    ///
    /// # Errors
    ///
    /// When nothing listens there, or the sandbox is gone.
    fn port_forward(
        &self,
        sandbox_id: String,
        port: u16,
        stream: Box<dyn Duplex>,
    ) -> BoxFuture<'static, Result<(), BackendError>>;
}

/// An error with all its causes in one line.
pub(crate) fn chain(error: &BackendError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
