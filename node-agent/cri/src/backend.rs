//! What runs behind the streaming server's URLs.

use std::convert::Infallible;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ingot_runtime::exec::{Exec, ExecSpec};
use ingot_runtime::sandboxes::Sandboxes;
use ingot_streaming::{
    AttachRequest, Backend, BackendError, Duplex, ExecIo, ExecRequest, Input, Output, Resizes,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The streaming server's way to sandboxes and containers.
pub struct Streams {
    sandboxes: Sandboxes,
}

impl Streams {
    /// A backend for these sandboxes.
    #[must_use]
    pub fn new(sandboxes: Sandboxes) -> Self {
        Self { sandboxes }
    }
}

impl Backend for Streams {
    fn exec(
        &self,
        request: ExecRequest,
        io: ExecIo,
    ) -> BoxFuture<'static, Result<i32, BackendError>> {
        exec(self.sandboxes.clone(), request, io).boxed()
    }

    fn attach(
        &self,
        request: AttachRequest,
        io: ExecIo,
    ) -> BoxFuture<'static, Result<(), BackendError>> {
        attach(self.sandboxes.clone(), request, io).boxed()
    }

    fn port_forward(
        &self,
        sandbox_id: String,
        port: u16,
        stream: Box<dyn Duplex>,
    ) -> BoxFuture<'static, Result<(), BackendError>> {
        port_forward(self.sandboxes.clone(), sandbox_id, port, stream).boxed()
    }
}

/// Kills a program when whoever wanted it is gone before its end.
struct KillOnDrop(Option<ingot_runtime::exec::ExecProcess>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            tokio::spawn(async move { process.kill().await });
        }
    }
}

async fn exec(sandboxes: Sandboxes, request: ExecRequest, io: ExecIo) -> Result<i32, BackendError> {
    let ExecIo { stdin: input, stdout: output, stderr: errors, mut resizes } = io;
    let tty = request.streams.tty;
    let size = if tty { first_size(&mut resizes) } else { None };
    let spec = ExecSpec {
        command: request.command,
        tty,
        stdin: request.streams.stdin,
        size,
        ..ExecSpec::default()
    };
    let Exec { stdin, stdout, stderr, process } =
        sandboxes.exec(&request.container_id, spec).await?;
    let mut guard = KillOnDrop(Some(process.clone()));
    let feed = feed(input, stdin);
    let resize = async {
        while let Some(size) = resizes.next().await {
            // A terminal that is gone has no size.
            let _ = process.resize(size.width, size.height);
        }
    };
    let outputs = async {
        // An error is the end too: of a terminal whose last program has left.
        let _ = tokio::join!(drain(Some(stdout), output), drain(stderr, errors));
        process.wait().await
    };
    let code = until(outputs, feed, resize).await;
    guard.0 = None;
    Ok(code)
}

async fn attach(
    sandboxes: Sandboxes,
    request: AttachRequest,
    io: ExecIo,
) -> Result<(), BackendError> {
    let ExecIo { stdin: input, stdout: output, stderr: errors, mut resizes } = io;
    let streams = sandboxes.streams(&request.container_id)?;
    let attached = streams.attach().await?;
    let feed = feed(input, attached.stdin.filter(|_| request.streams.stdin));
    let resize = async {
        while let Some(size) = resizes.next().await {
            let _ = streams.resize(size.width, size.height);
        }
    };
    let outputs = async {
        tokio::join!(drain(Some(attached.stdout), output), drain(attached.stderr, errors))
    };
    // A caller that was cut off is told: else it would look like the end of the container.
    match until(outputs, feed, resize).await {
        (Err(cut), _) | (_, Err(cut)) => Err(cut.into()),
        (Ok(()), Ok(())) => Ok(()),
    }
}

async fn port_forward(
    sandboxes: Sandboxes,
    sandbox_id: String,
    port: u16,
    mut stream: Box<dyn Duplex>,
) -> Result<(), BackendError> {
    let mut connection = sandboxes.dial(&sandbox_id, port).await?;
    // Either side may go away at any time; that is the end, not an error of ours.
    let _ = tokio::io::copy_bidirectional(&mut *stream, &mut connection).await;
    Ok(())
}

/// The size the caller's terminal has now, if it said so already.
fn first_size(resizes: &mut Resizes) -> Option<(u16, u16)> {
    resizes.next().now_or_never().flatten().map(|size| (size.width, size.height))
}

/// Waits for what counts, while the others go on beside it.
async fn until<T>(
    counts: impl Future<Output = T>,
    beside: impl Future<Output = ()>,
    beside_too: impl Future<Output = ()>,
) -> T {
    let beside = async {
        tokio::join!(beside, beside_too);
        std::future::pending::<Infallible>().await
    };
    // Not polled again after its end, so nothing is lost by dropping it.
    tokio::select! {
        result = counts => result,
        never = beside => match never {},
    }
}

/// From the caller to the program, until either ends; the program's end is closed then.
async fn feed(input: Option<Input>, program: Option<impl AsyncWrite + Unpin>) {
    let (Some(mut input), Some(mut program)) = (input, program) else { return };
    // An error means that one side is gone.
    let _ = tokio::io::copy(&mut input, &mut program).await;
    let _ = program.shutdown().await;
}

/// From the program to the caller. When the caller is gone, what comes is thrown away, so that the program goes on.
async fn drain(
    program: Option<impl AsyncRead + Unpin>,
    output: Option<Output>,
) -> std::io::Result<()> {
    let Some(mut program) = program else { return Ok(()) };
    let mut output = output;
    let mut buffer = vec![0; 16 * 1024];
    let mut end = Ok(());
    loop {
        let length = match program.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) => {
                end = Err(error);
                break;
            }
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        if let Some(to) = output.as_mut()
            && (to.write_all(bytes).await.is_err() || to.flush().await.is_err())
        {
            output = None;
        }
    }
    if let Some(mut output) = output {
        let _ = output.shutdown().await;
    }
    end
}

#[cfg(test)]
mod tests {
    //! What a caller is told when it loses the end of the output.

    use super::*;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::ReadBuf;

    /// Some bytes, and then an error.
    struct Cut(bool);

    impl AsyncRead for Cut {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.0 {
                return Poll::Ready(Err(io::Error::other("cut off")));
            }
            self.0 = true;
            buffer.put_slice(b"bytes");
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_cut_off_has_what_came_before_and_learns_why() {
        let (here, mut there) = tokio::io::duplex(64);
        let end = drain(Some(Cut(false)), Some(Box::new(here))).await;
        assert_eq!(end.unwrap_err().to_string(), "cut off");
        let mut text = String::new();
        there.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "bytes");
        assert!(drain(None::<Cut>, None).await.is_ok());
    }
}
