//! The HTTP server: one-time URLs, and what is behind them.

use crate::backend::Backend;
use crate::early::Early;
use crate::hangup::Hangup;
use crate::port_forward;
use crate::remote_command::{self, Channels, Command};
use crate::request::{AttachRequest, ExecRequest, PortForwardRequest, Request, RequestError};
use crate::spdy::Session;
use crate::tokens::Tokens;
use crate::upgrade::{self, Body, PORT_FORWARD, REMOTE_COMMAND, Transport, refuse};
use crate::websocket::{self, Direction, Tunnel};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Connections at a time. Each that is in use costs a few hundred KiB at worst; a kubelet with 250 pods has a handful.
const MAX_CONNECTIONS: usize = 512;

/// How long a client may take to send its request, and how long the change of protocol may take.
const REQUEST: Duration = Duration::from_secs(10);

/// How long to wait before the next connection is accepted after the system refused one, mostly for want of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Longest head of a request.
const MAX_HEAD: usize = 16 * 1024;

/// The port is closed when nobody came for so long and no URL waits to be used.
const IDLE: Duration = Duration::from_secs(60);

/// The streaming server. It stops when this is dropped: its port is closed and all that runs over it ends.
pub struct Server {
    shared: Arc<Shared>,
    _stop: watch::Sender<()>,
}

struct Shared {
    backend: Arc<dyn Backend>,
    tokens: Tokens,
    /// Where it listens, while it does. Held while a token is issued, so that the port is not closed meanwhile.
    door: Mutex<Option<SocketAddr>>,
    /// Changes when the server is dropped.
    stopped: watch::Receiver<()>,
}

impl Server {
    /// A server that listens on nothing yet: an idle node has no open port. The first URL opens a port of the loopback
    /// address, which one the kernel chooses. Must be used inside a tokio runtime with I/O and time.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        let (stop, stopped) = watch::channel(());
        let door = Mutex::default();
        Self {
            shared: Arc::new(Shared { backend, tokens: Tokens::default(), door, stopped }),
            _stop: stop,
        }
    }

    /// A URL that runs a program once, within a minute.
    ///
    /// # Errors
    ///
    /// When the request makes no sense, too many URLs wait to be used, or no port can be opened.
    pub fn exec_url(&self, request: ExecRequest) -> Result<String, RequestError> {
        self.url(Request::Exec(request))
    }

    /// A URL that attaches once, within a minute.
    ///
    /// # Errors
    ///
    /// When the request makes no sense, too many URLs wait to be used, or no port can be opened.
    pub fn attach_url(&self, request: AttachRequest) -> Result<String, RequestError> {
        self.url(Request::Attach(request))
    }

    /// A URL for one connection that forwards ports, to be opened within a minute.
    ///
    /// # Errors
    ///
    /// When the request makes no sense, too many URLs wait to be used, or no port can be opened.
    pub fn port_forward_url(&self, request: PortForwardRequest) -> Result<String, RequestError> {
        self.url(Request::PortForward(request))
    }

    fn url(&self, request: Request) -> Result<String, RequestError> {
        request.check()?;
        let verb = request.verb();
        let mut door = self.shared.door.lock().unwrap_or_else(PoisonError::into_inner);
        let token = self.shared.tokens.issue(request)?;
        let address = match *door {
            Some(address) => address,
            None => *door.insert(self.open_door().map_err(|e| RequestError::Listen(e.kind()))?),
        };
        Ok(format!("http://{address}/{verb}/{token}"))
    }

    fn open_door(&self) -> std::io::Result<SocketAddr> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (address, shared) = (listener.local_addr()?, Arc::clone(&self.shared));
        tokio::spawn(unless_stopped(shared.stopped.clone(), accept(listener, shared)));
        Ok(address)
    }
}

impl Shared {
    /// Whether nobody may come any more; then the next URL opens another port.
    fn close_door(&self) -> bool {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = !self.tokens.are_waiting();
        if unused {
            *door = None;
        }
        unused
    }
}

/// Runs something for as long as the server is there.
async fn unless_stopped(mut stopped: watch::Receiver<()>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = stopped.changed() => {}
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match tokio::time::timeout(IDLE, listener.accept()).await {
            Ok(Ok((stream, _))) => stream,
            Err(_) if shared.close_door() => return,
            Err(_) => continue,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot accept a streaming connection, retrying");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        let stopped = shared.stopped.clone();
        tokio::spawn(unless_stopped(stopped, async move {
            let _place = place;
            connection(stream, shared).await;
        }));
    }
}

/// One connection, from its request to the end of its streams.
async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Keystrokes are small, and wait for nothing.
    let _slow = stream.set_nodelay(true);
    let hangup = Hangup::of(&stream);
    let accepted = std::sync::Mutex::new(None);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (response, work) = answer(request, &shared);
        if let Ok(mut accepted) = accepted.lock() {
            *accepted = work;
        }
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a streaming request failed");
    }
    let Some(Accepted { request, transport, upgrade }) = accepted.into_inner().ok().flatten()
    else {
        return;
    };
    let Ok(Ok(upgraded)) = tokio::time::timeout(REQUEST, upgrade).await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
    let (stream, early) = (parts.io.into_inner(), parts.read_buf);
    Box::pin(serve(request, transport, stream, early, hangup, &shared.backend)).await;
}

/// A request that was answered with a change of protocol.
struct Accepted {
    request: Request,
    transport: Transport,
    upgrade: OnUpgrade,
}

fn answer(
    mut http: hyper::Request<Incoming>,
    shared: &Shared,
) -> (Response<Body>, Option<Accepted>) {
    if !matches!(*http.method(), Method::GET | Method::POST) {
        return (*refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST"), None);
    }
    let found = http.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
    let found = found.and_then(|(verb, token)| Some((verb, shared.tokens.redeem(token)?)));
    // A token used for something else is used up as well.
    let Some((_, request)) = found.filter(|(verb, request)| request.verb() == *verb) else {
        let text = "no such request; it may have expired, or been used before";
        return (*refuse(StatusCode::NOT_FOUND, text), None);
    };
    let offer = match request {
        Request::Exec(_) | Request::Attach(_) => &REMOTE_COMMAND,
        Request::PortForward(_) => &PORT_FORWARD,
    };
    match upgrade::negotiate(http.headers(), offer) {
        Ok((transport, response)) => {
            let upgrade = hyper::upgrade::on(&mut http);
            (response, Some(Accepted { request, transport, upgrade }))
        }
        Err(refusal) => (*refusal, None),
    }
}

/// `early`: bytes the client sent before it was answered.
async fn serve(
    request: Request,
    transport: Transport,
    stream: TcpStream,
    early: Bytes,
    hangup: Hangup,
    backend: &Arc<dyn Backend>,
) {
    match request {
        Request::Exec(request) => {
            let command = Command::Exec(request);
            remote(command, transport, stream, early, hangup, backend).await;
        }
        Request::Attach(request) => {
            let command = Command::Attach(request);
            remote(command, transport, stream, early, hangup, backend).await;
        }
        Request::PortForward(request) => {
            forward(request, transport, stream, early, hangup, backend).await;
        }
    }
}

async fn remote(
    command: Command,
    transport: Transport,
    stream: TcpStream,
    early: Bytes,
    hangup: Hangup,
    backend: &Arc<dyn Backend>,
) {
    let want = command.streams();
    let (channels, link, json) = match transport {
        Transport::Spdy { json, resize } => {
            let connection = Early::new(stream, early);
            let session = Session::start(connection, hangup, remote_command::MAX_STREAMS);
            let collected = remote_command::collect(session, want, resize).await;
            let Some((channels, link)) = collected else { return };
            (channels, link, json)
        }
        Transport::Channels { encoding, json } => {
            let socket = open(stream, early).await;
            let layout = [
                want.stdin.then_some(Direction::In),
                want.stdout.then_some(Direction::Out),
                want.stderr.then_some(Direction::Out),
                Some(Direction::Out),
                want.tty.then_some(Direction::In),
            ];
            let lowest = layout.iter().position(|way| *way == Some(Direction::Out));
            let greet = lowest.and_then(|number| u8::try_from(number).ok());
            let (pipes, link) = websocket::start(socket, hangup, encoding, &layout, greet);
            let mut pipes = pipes.into_iter();
            let mut next = || pipes.next().flatten();
            let channels = Channels {
                stdin: next().map(|pipe| Box::new(pipe) as _),
                stdout: next().map(|pipe| Box::new(pipe) as _),
                stderr: next().map(|pipe| Box::new(pipe) as _),
                error: next().map(|pipe| Box::new(pipe) as _),
                resize: next().map(|pipe| Box::new(pipe) as _),
            };
            (channels, link, json)
        }
        // Not offered for these.
        Transport::Tunnel => return,
    };
    remote_command::run(&**backend, command, channels, link, json).await;
}

async fn forward(
    request: PortForwardRequest,
    transport: Transport,
    stream: TcpStream,
    early: Bytes,
    hangup: Hangup,
    backend: &Arc<dyn Backend>,
) {
    let (backend, max) = (Arc::clone(backend), port_forward::MAX_STREAMS);
    match transport {
        Transport::Spdy { .. } => {
            let session = Session::start(Early::new(stream, early), hangup, max);
            port_forward::run(backend, request.sandbox_id, session).await;
        }
        Transport::Tunnel => {
            let session = Session::start(Tunnel::new(open(stream, early).await), hangup, max);
            port_forward::run(backend, request.sandbox_id, session).await;
        }
        Transport::Channels { encoding, .. } => {
            // A channel's number is one byte.
            let ports = request.ports.len().min(100);
            let layout = [Some(Direction::In), Some(Direction::Out)].repeat(ports);
            let socket = open(stream, early).await;
            let (pipes, mut link) = websocket::start(socket, hangup, encoding, &layout, None);
            let mut pipes = pipes.into_iter().flatten();
            let pairs = std::iter::from_fn(|| Some((pipes.next()?, pipes.next()?))).collect();
            port_forward::run_fixed(backend, request, pairs, &mut link).await;
        }
    }
}

async fn open(stream: TcpStream, early: Bytes) -> WebSocketStream<TcpStream> {
    let config = Some(websocket::config());
    WebSocketStream::from_partially_read(stream, early.into(), Role::Server, config).await
}
