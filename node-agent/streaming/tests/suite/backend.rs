//! A backend whose programs are a few lines each, and that tells what became of its calls.

use futures::future::BoxFuture;
use ingot_streaming::{
    AttachRequest, Backend, BackendError, Duplex, ExecIo, ExecRequest, Server, Streams,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// Longest wait for anything in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Programs {
    /// What became of each call, when it ended.
    ended: mpsc::UnboundedSender<&'static str>,
}

/// A server with the backend, and what became of its calls.
pub(crate) async fn server() -> (Server, mpsc::UnboundedReceiver<&'static str>) {
    let (ended, endings) = mpsc::unbounded_channel();
    (Server::new(Arc::new(Programs { ended })), endings)
}

pub(crate) async fn ending(endings: &mut mpsc::UnboundedReceiver<&'static str>) -> &'static str {
    tokio::time::timeout(PATIENCE, endings.recv()).await.unwrap().unwrap()
}

/// Says so when a call is dropped before its end.
struct Ending {
    ended: mpsc::UnboundedSender<&'static str>,
    how: &'static str,
}

impl Ending {
    fn is(&mut self, how: &'static str) {
        self.how = how;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.ended.send(self.how);
    }
}

impl Backend for Programs {
    fn exec(
        &self,
        request: ExecRequest,
        io: ExecIo,
    ) -> BoxFuture<'static, Result<i32, BackendError>> {
        let mut ending = Ending { ended: self.ended.clone(), how: "dropped" };
        Box::pin(async move {
            let result = program(&request.command, io).await;
            ending.is(if result.is_ok() { "ended" } else { "failed" });
            result
        })
    }

    fn attach(
        &self,
        request: AttachRequest,
        io: ExecIo,
    ) -> BoxFuture<'static, Result<(), BackendError>> {
        Box::pin(async move {
            let greeting = format!("attached to {}\n", request.container_id);
            io.stdout.ok_or("no stdout")?.write_all(greeting.as_bytes()).await?;
            Ok(())
        })
    }

    fn port_forward(
        &self,
        sandbox_id: String,
        port: u16,
        mut stream: Box<dyn Duplex>,
    ) -> BoxFuture<'static, Result<(), BackendError>> {
        let mut ending = Ending { ended: self.ended.clone(), how: "dropped" };
        Box::pin(async move {
            if port == 1 {
                ending.is("refused");
                return Err("nothing listens there".into());
            }
            stream.write_all(format!("{sandbox_id}:{port}\n").as_bytes()).await?;
            let (mut from, mut to) = tokio::io::split(stream);
            tokio::io::copy(&mut from, &mut to).await?;
            to.shutdown().await?;
            ending.is("ended");
            Ok(())
        })
    }
}

async fn program(command: &[String], io: ExecIo) -> Result<i32, BackendError> {
    let ExecIo { stdin, stdout, stderr, mut resizes } = io;
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    match *command.as_slice() {
        ["cat"] => {
            let (mut stdin, mut stdout) = (stdin.ok_or("no stdin")?, stdout.ok_or("no stdout")?);
            tokio::io::copy(&mut stdin, &mut stdout).await?;
            Ok(0)
        }
        ["both", out, err] => {
            stdout.ok_or("no stdout")?.write_all(out.as_bytes()).await?;
            stderr.ok_or("no stderr")?.write_all(err.as_bytes()).await?;
            Ok(0)
        }
        ["exit", code] => Ok(code.parse()?),
        ["fail"] => Err("no such program".into()),
        ["zeros", count] => {
            let mut stdout = stdout.ok_or("no stdout")?;
            let zeros = tokio::io::repeat(0);
            tokio::io::copy(&mut zeros.take(count.parse()?), &mut stdout).await?;
            Ok(0)
        }
        ["sizes", count] => {
            let mut stdout = stdout.ok_or("no stdout")?;
            for _ in 0..count.parse::<usize>()? {
                let size = resizes.next().await.ok_or("no more sizes")?;
                stdout.write_all(format!("{}x{}\n", size.width, size.height).as_bytes()).await?;
            }
            Ok(0)
        }
        ["deaf"] => {
            // Takes nothing and says nothing, with its streams open.
            let _held = (stdin, stdout, stderr);
            std::future::pending().await
        }
        ["drain"] => {
            // Takes everything, and ends only when the caller half-closes.
            let mut count = 0;
            let mut stdin = stdin.ok_or("no stdin")?;
            let mut chunk = vec![0; 4096];
            loop {
                match stdin.read(&mut chunk).await? {
                    0 => break,
                    read => count += read,
                }
            }
            stdout.ok_or("no stdout")?.write_all(format!("{count}\n").as_bytes()).await?;
            Ok(0)
        }
        _ => Err("no such test program".into()),
    }
}

/// A request for one of the programs.
pub(crate) fn exec(command: &[&str], streams: Streams) -> ExecRequest {
    ExecRequest {
        container_id: "c".to_owned(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        streams,
    }
}

pub(crate) const OUT: Streams = Streams { stdin: false, stdout: true, stderr: false, tty: false };
pub(crate) const IN_OUT: Streams = Streams { stdin: true, stdout: true, stderr: false, tty: false };
pub(crate) const OUT_ERR: Streams =
    Streams { stdin: false, stdout: true, stderr: true, tty: false };
pub(crate) const TTY: Streams = Streams { stdin: true, stdout: true, stderr: false, tty: true };
