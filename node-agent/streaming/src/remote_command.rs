//! Exec and attach, whatever they came over: streams to the backend, its result to the error stream.

use crate::backend::{Backend, ExecIo, Input, Output};
use crate::link::Link;
use crate::request::{AttachRequest, ExecRequest, Streams};
use crate::resize::{self, Resizes};
use crate::spdy::Session;
use crate::status;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a caller may take to open its streams; the kubelet's own library gives as long.
const STREAM_CREATION: Duration = Duration::from_secs(30);

/// How long a backend may take to notice by itself that the caller has gone, before it is dropped.
const GRACE: Duration = Duration::from_secs(10);

/// A caller opens five streams; the rest is for the mistakes of one that closes some.
pub(crate) const MAX_STREAMS: usize = 16;

/// What to do.
pub(crate) enum Command {
    Exec(ExecRequest),
    Attach(AttachRequest),
}

impl Command {
    pub(crate) fn streams(&self) -> Streams {
        match self {
            Self::Exec(request) => request.streams,
            Self::Attach(request) => request.streams,
        }
    }
}

/// The streams of a remote command.
#[derive(Default)]
pub(crate) struct Channels {
    pub(crate) stdin: Option<Input>,
    pub(crate) stdout: Option<Output>,
    pub(crate) stderr: Option<Output>,
    pub(crate) error: Option<Output>,
    pub(crate) resize: Option<Input>,
}

impl Channels {
    /// Whether all that a caller has to open is there.
    fn complete(&self, want: Streams, resize: bool) -> bool {
        self.error.is_some()
            && self.stdin.is_some() == want.stdin
            && self.stdout.is_some() == want.stdout
            && self.stderr.is_some() == want.stderr
            && self.resize.is_some() == (want.tty && resize)
    }
}

/// Waits for a SPDY client's streams. Afterwards it may open no more.
pub(crate) async fn collect(
    mut session: Session,
    want: Streams,
    resize: bool,
) -> Option<(Channels, Link)> {
    let mut channels = Channels::default();
    let deadline = Instant::now() + STREAM_CREATION;
    while !channels.complete(want, resize) {
        let opened = tokio::time::timeout_at(deadline, session.opened()).await.ok()??;
        let kind = opened.headers.get("streamType").unwrap_or_default().to_owned();
        // What was not asked for, or is there already, is refused.
        match kind.as_str() {
            "error" if channels.error.is_none() => channels.error = Some(Box::new(opened.pipe)),
            "stdin" if want.stdin && channels.stdin.is_none() => {
                channels.stdin = Some(Box::new(opened.pipe));
            }
            "stdout" if want.stdout && channels.stdout.is_none() => {
                channels.stdout = Some(Box::new(opened.pipe));
            }
            "stderr" if want.stderr && channels.stderr.is_none() => {
                channels.stderr = Some(Box::new(opened.pipe));
            }
            "resize" if want.tty && resize && channels.resize.is_none() => {
                channels.resize = Some(Box::new(opened.pipe));
            }
            _ => opened.reset().await,
        }
    }
    Some((channels, session.seal()))
}

/// Runs a command and tells the caller how it ended. `json`: as `metav1.Status`.
pub(crate) async fn run(
    backend: &dyn Backend,
    command: Command,
    channels: Channels,
    mut link: Link,
    json: bool,
) {
    let Channels { stdin, stdout, stderr, error, resize } = channels;
    // A set, so that the reading ends with the command and not only with the caller.
    let mut reading = JoinSet::new();
    let resizes = resize.map_or_else(Resizes::none, |stream| {
        let (resizes, sizes) = resize::read(stream);
        reading.spawn(sizes);
        resizes
    });
    let io = ExecIo { stdin, stdout, stderr, resizes };
    let work = async {
        match command {
            Command::Exec(request) => status::exec(&backend.exec(request, io).await, json),
            Command::Attach(request) => status::attach(&backend.attach(request, io).await, json),
        }
    };
    let status = tokio::select! {
        status = work => status,
        () = deserted(&mut link) => return,
    };
    drop(reading);
    if let Some(mut error) = error {
        // Fails when the caller has gone.
        let _gone = error.write_all(&status).await;
    }
    link.over().await;
}

/// Returns when the caller has been gone for as long as a backend may take to notice.
async fn deserted(link: &mut Link) {
    link.over().await;
    tokio::time::sleep(GRACE).await;
}
