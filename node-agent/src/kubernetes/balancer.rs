//! On a worker, leads 127.0.0.1 and the API server's port to an API server that answers, so that kubelet and agent know one address and
//! survive the loss of any one server. It passes bytes on; TLS is between the two ends.

use super::{API_PORT, Kubernetes};
use crate::controllers::network::resolver;
use crate::controllers::time::resolve;
use crate::report;
use crate::state::State;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// For one server to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Between two tries to have the port.
const PAUSE: Duration = Duration::from_secs(5);
/// Connections at a time: programs of one node need a dozen.
const CONNECTIONS_MAX: usize = 128;
/// A peer that says nothing for this long is asked whether it is still there, and given up a few questions later.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Runs on a worker for as long as the agent does; on other nodes it waits.
pub(crate) async fn run(state: State, kubernetes: Kubernetes) {
    let mut record = kubernetes.subscribe();
    let joined = |record: &Option<Arc<super::record::Record>>| {
        record.as_ref().is_some_and(|record| record.joined.is_some())
    };
    if record.wait_for(joined).await.is_err() {
        // The program ends.
        return;
    }
    let listener = loop {
        match TcpListener::bind(("127.0.0.1", API_PORT)).await {
            Ok(listener) => break listener,
            Err(error) => {
                tracing::warn!(
                    "lead port {API_PORT} to the API servers: {}",
                    report::chain(&error)
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    let known = move || {
        let servers = kubernetes.record().and_then(|record| record.joined.clone());
        let servers = servers.map(|joined| joined.servers).unwrap_or_default();
        let state = state.clone();
        async move { addresses(&servers, &state).await }
    };
    serve(listener, known).await;
}

/// Takes connections for ever. `known` says which servers there are now.
async fn serve<F>(listener: TcpListener, known: impl Fn() -> F + Send + Sync + 'static)
where
    F: Future<Output = Vec<SocketAddr>> + Send,
{
    let known = Arc::new(known);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let last_good = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((caller, _)) = listener.accept().await else {
            // Too many open files, most likely: some will be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!(
                "{CONNECTIONS_MAX} connections to API servers are open; one more is refused"
            );
            continue;
        };
        let (known, last_good) = (Arc::clone(&known), Arc::clone(&last_good));
        tokio::spawn(async move {
            // A name server that does not answer holds up this caller and nobody else.
            lead(caller, &known().await, &last_good).await;
            drop(permit);
        });
    }
}

async fn lead(mut caller: TcpStream, servers: &[SocketAddr], last_good: &AtomicUsize) {
    let Some(mut server) = connect(servers, last_good).await else { return };
    for stream in [&caller, &server] {
        let asks = socket2::TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(PAUSE);
        if let Err(error) = socket2::SockRef::from(stream).set_tcp_keepalive(&asks) {
            tracing::debug!(%error, "ask a peer whether it is there");
        }
    }
    // How a connection ends is the affair of its ends.
    let _ = copy_bidirectional(&mut caller, &mut server).await;
}

/// The first server that takes a connection, beginning with the one that did last.
async fn connect(servers: &[SocketAddr], last_good: &AtomicUsize) -> Option<TcpStream> {
    let first = last_good.load(Ordering::Relaxed);
    for step in 0..servers.len() {
        let at = first.wrapping_add(step) % servers.len();
        let server = servers.get(at)?;
        match timeout(CONNECT, TcpStream::connect(server)).await {
            Ok(Ok(stream)) => {
                last_good.store(at, Ordering::Relaxed);
                return Some(stream);
            }
            Ok(Err(error)) => tracing::debug!(%error, %server, "an API server does not answer"),
            Err(_) => tracing::debug!(%server, "an API server does not answer in time"),
        }
    }
    None
}

/// Addresses of servers given as `host:port`; names that cannot be resolved now are left out.
async fn addresses(servers: &[String], state: &State) -> Vec<SocketAddr> {
    let config = state.desired.config();
    let own = config.map(|config| config.config.machine.network.dns.clone()).unwrap_or_default();
    let dns = resolver::servers(&own, &state.observed.snapshot().learned_dns);
    let mut found = Vec::new();
    for server in servers {
        if let Ok(address) = server.parse() {
            found.push(address);
        } else if let Some((host, port)) = parts(server) {
            let hosts = resolve::addresses(&[host.to_owned()], &dns).await;
            found.extend(hosts.into_iter().map(|host: IpAddr| SocketAddr::new(host, port)));
        }
    }
    found
}

fn parts(server: &str) -> Option<(&str, u16)> {
    let (host, port) = server.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A server that answers everything with one byte of its own.
    async fn server(name: u8) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut byte = [0];
                let _ = stream.read_exact(&mut byte).await;
                let _ = stream.write_all(&[name]).await;
            }
        });
        address
    }

    async fn ask(address: SocketAddr) -> Option<u8> {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(b"?").await.ok()?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok()?;
        byte.first().copied()
    }

    #[tokio::test]
    async fn callers_are_led_to_a_server_that_answers() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (one, two) = (server(1).await, server(2).await);
        let known = Arc::new(std::sync::Mutex::new(vec![gone, one]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let now = Arc::clone(&known);
        tokio::spawn(serve(listener, move || std::future::ready(now.lock().unwrap().clone())));
        assert_eq!(ask(here).await, Some(1));
        *known.lock().unwrap() = vec![gone, two];
        assert_eq!(ask(here).await, Some(2), "servers may become others");
        known.lock().unwrap().clear();
        assert_eq!(ask(here).await, None, "without a server the caller is told at once");
    }

    #[tokio::test]
    async fn a_caller_whose_servers_cannot_be_told_yet_holds_up_nobody_else() {
        let one = server(1).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(serve(listener, move || {
            let first = count.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if first {
                    std::future::pending::<()>().await;
                }
                vec![one]
            }
        }));
        let _waiting = TcpStream::connect(here).await.unwrap();
        while asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(timeout(PAUSE, ask(here)).await, Ok(Some(1)));
    }

    #[tokio::test]
    async fn the_server_that_answered_last_is_asked_first() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let last_good = AtomicUsize::new(0);
        let servers = [gone, server(1).await];
        assert!(connect(&servers, &last_good).await.is_some());
        assert_eq!(last_good.load(Ordering::Relaxed), 1);
        assert!(connect(&servers[..1], &last_good).await.is_none());
    }

    #[test]
    fn names_and_ports_are_told_apart() {
        assert_eq!(parts("k.example.org:6443"), Some(("k.example.org", 6443)));
        assert_eq!(parts("k.example.org"), None);
    }
}
