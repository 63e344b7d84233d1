//! The accept loop: binds the port, bounds connections and handshakes, and hands finished TLS connections to the server.
//! It listens before anything is known; handshakes wait until there is a certificate to show.

use super::auth::Peer;
use super::tls::{self, Failure};
use crate::report;
use crate::state::{Events, Severity, State};
use ingot_pki::Fingerprint;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// Connections with a finished handshake at a time.
const CONNECTIONS_MAX: usize = 128;
/// Connections in the middle of their handshake at a time.
const HANDSHAKES_MAX: usize = 64;
/// How long a handshake may take, waiting for the node's certificate included.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Between two tries to bind the port.
const BIND_RETRY: Duration = Duration::from_secs(1);
/// The same failure from the same address is recorded once in this time.
const FAILURE_QUIET: Duration = Duration::from_secs(10);
/// Addresses remembered for that.
const FAILURE_PEERS_MAX: usize = 256;

/// A TLS connection that counts against the bound until it is dropped.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// TLS settings in use, with the fingerprint of the certificate they show.
type Current = Option<(Arc<ServerConfig>, Fingerprint)>;

/// Listens for ever. A port of the config that differs from the one in use is taken at once; open connections stay.
pub(crate) async fn run(
    state: State,
    default_port: u16,
    bound: Option<TcpListener>,
    out: mpsc::Sender<io::Result<Connection>>,
) {
    let (current, receiver) = watch::channel::<Current>(None);
    tokio::spawn(follow_identity(state.clone(), current));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let shared = Arc::new(Shared {
        events: state.events.clone(),
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        current: receiver,
        failures: Mutex::new(HashMap::new()),
        out,
    });
    let mut wish = state.desired.subscribe();
    let port = |state: &State| state.desired.config().map(|c| c.config.machine.api.port);
    let mut bound = bound;
    loop {
        let wanted = port(&state).unwrap_or(default_port);
        let listener = match bound.take() {
            Some(listener) if wanted == default_port => listener,
            _ => match bind(&state, wanted).await {
                Some(listener) => listener,
                None => continue,
            },
        };
        while port(&state).unwrap_or(default_port) == wanted {
            // Both arms are cancel safe: a connection is taken whole or not at all, and a change stays marked unseen.
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => begin(&shared, &handshakes, stream, address),
                    // Such as no free descriptors: the pause keeps the loop from spinning.
                    Err(error) => {
                        tracing::warn!("accept on the API port failed, retrying: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                changed = wish.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Binds the port for every address. `None` after a failure and a pause.
pub(crate) async fn bind(state: &State, port: u16) -> Option<TcpListener> {
    let v6 = TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)).await;
    let listener = match v6 {
        Ok(listener) => Ok(listener),
        // A kernel without IPv6.
        Err(_) => TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await,
    };
    match listener {
        Ok(listener) => {
            tracing::info!("api bound to port {port}");
            Some(listener)
        }
        Err(error) => {
            let message = format!("cannot listen on port {port}, retrying: {error}");
            state.events.record(Severity::Error, "ListenFailed", "api", message);
            tokio::time::sleep(BIND_RETRY).await;
            None
        }
    }
}

/// Keeps the TLS settings those of the newest identity.
async fn follow_identity(state: State, current: watch::Sender<Current>) {
    let mut identities = state.identity.subscribe();
    let mut listening = false;
    loop {
        let identity = identities.borrow_and_update().clone();
        if let Some(identity) = identity {
            match tls::server_config(&identity) {
                Ok(config) => {
                    let fingerprint = identity.fingerprint();
                    state.observed.set(|seen| &mut seen.fingerprint, fingerprint.to_string());
                    current.send_replace(Some((Arc::new(config), fingerprint)));
                    if !listening {
                        tracing::info!("api listening: serving the API");
                        listening = true;
                    }
                }
                Err(error) => {
                    let message = format!("keeping the old certificate: {}", report::chain(&error));
                    state.events.record(Severity::Error, "CertificateRefused", "api", message);
                }
            }
        }
        if identities.changed().await.is_err() {
            return;
        }
    }
}

struct Shared {
    events: Events,
    connections: Arc<Semaphore>,
    current: watch::Receiver<Current>,
    failures: Mutex<HashMap<(IpAddr, String), Instant>>,
    out: mpsc::Sender<io::Result<Connection>>,
}

/// Starts the handshake of a new connection, or drops it where there are too many.
fn begin(
    shared: &Arc<Shared>,
    handshakes: &Arc<Semaphore>,
    stream: TcpStream,
    address: SocketAddr,
) {
    let Ok(permit) = Arc::clone(handshakes).try_acquire_owned() else {
        shared.failure(address, Failure::other("too many connections are in their handshake"));
        return;
    };
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let handshake = shared.handshake(stream, address);
        let result = tokio::time::timeout(HANDSHAKE_DEADLINE, handshake).await;
        drop(permit);
        match result {
            // The server has gone only when the program ends.
            Ok(Ok(connection)) => drop(shared.out.send(Ok(connection)).await),
            Ok(Err(error)) => {
                if let Some(failure) = tls::failure(&error) {
                    shared.failure(address, failure);
                }
            }
            Err(_) => shared.failure(address, Failure::other("no TLS handshake within 10 s")),
        }
    });
}

impl Shared {
    async fn handshake(&self, stream: TcpStream, address: SocketAddr) -> io::Result<Connection> {
        let mut current = self.current.clone();
        let (config, server) = {
            let ready = current.wait_for(Option::is_some).await.map_err(io::Error::other)?;
            ready.clone().ok_or(io::ErrorKind::NotConnected)?
        };
        stream.set_nodelay(true)?;
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let peer = tls::peer(address, server, stream.get_ref().1);
        let permit = Arc::clone(&self.connections)
            .try_acquire_owned()
            .map_err(|_| io::Error::other(rustls::Error::General("too many connections".into())))?;
        Ok(Connection { stream, peer, _permit: permit })
    }

    /// Records a failed handshake, but the same one from the same address only now and then.
    fn failure(&self, address: SocketAddr, failure: Failure) {
        let Failure { reason, authentication } = failure;
        let now = Instant::now();
        {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.retain(|_, at| now.duration_since(*at) < FAILURE_QUIET);
            let key = (address.ip(), reason.clone());
            if failures.contains_key(&key) || failures.len() >= FAILURE_PEERS_MAX {
                return;
            }
            failures.insert(key, now);
        }
        let message = format!("{reason} (from {})", plain(address));
        let event = if authentication { "AuthenticationFailed" } else { "HandshakeFailed" };
        self.events.record(Severity::Warning, event, "api", message);
    }
}

/// An IPv4 address that came in through the IPv6 socket, as people write it.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
