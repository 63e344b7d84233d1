//! Connections into the network of a pod, from outside of it: for port-forward and for probes.
//!
//! A socket belongs for ever to the network in which it was made. So a thread of its own goes into the pod's network, makes
//! it and ends; connecting and everything after that is ordinary work of the agent's one thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingot_linux::netns;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::{TcpSocket, TcpStream};

/// How long a connection within the node may take; it is a matter of microseconds unless the listener's queue is full.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The pod's network could not be entered.
    #[error(transparent)]
    Network(#[from] netns::NetnsError),
    /// No socket.
    #[error("make a socket for {address}")]
    Socket {
        /// Where to.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody answers, or nobody wants to.
    #[error("connect to {address}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The agent ends.
    #[error("the agent is ending")]
    Ending,
}

/// Connects to a port that a pod listens to on its loopback, IPv4 first. `network` pins the pod's network namespace;
/// `None` is the node's own.
///
/// # Errors
/// When nobody listens: why the connection over IPv4 failed.
pub(crate) async fn dial(network: Option<&Path>, port: u16) -> Result<TcpStream, DialError> {
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
    let first = match connect(network, v4, CONNECT_DEADLINE).await {
        Err(DialError::Connect { address, source }) => DialError::Connect { address, source },
        // The pod is gone, or connected.
        other => return other,
    };
    connect(network, v6, CONNECT_DEADLINE).await.map_err(|_| first)
}

/// Connects to an address as a process in that network would.
///
/// # Errors
/// When the network cannot be entered, or the connection does not come about within `deadline`.
pub(crate) async fn connect(
    network: Option<&Path>,
    address: SocketAddr,
    deadline: Duration,
) -> Result<TcpStream, DialError> {
    let network: Option<PathBuf> = network.map(Path::to_owned);
    let made = tokio::task::spawn_blocking(move || match network {
        Some(network) => netns::run_in(&network, || socket(address)),
        None => Ok(socket(address)),
    });
    let socket = made.await.map_err(|_| DialError::Ending)??;
    let socket = socket.map_err(|source| DialError::Socket { address, source })?;
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    let connected = match tokio::time::timeout(deadline, socket.connect(address)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    connected.map_err(|source| DialError::Connect { address, source })
}

fn socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_port_of_the_nodes_own_network_is_dialled() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = dial(None, port).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_listener_on_ipv6_only_is_found() {
        let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else { return };
        let port = listener.local_addr().unwrap().port();
        dial(None, port).await.unwrap();
        listener.accept().await.unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_port_nobody_listens_to_says_so_for_ipv4() {
        let port = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let error = dial(None, port).await.unwrap_err();
        assert_eq!(error.to_string(), format!("connect to 127.0.0.1:{port}"));
        let gone = dial(Some(Path::new("/nowhere/net")), port).await.unwrap_err();
        assert!(matches!(gone, DialError::Network(_)));
    }
}
