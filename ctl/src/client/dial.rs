//! One TLS connection to a node, up to the first byte the node says.
//!
//! In TLS 1.3 a client has finished its handshake before the server has looked at its certificate; the refusal arrives
//! with the first read. An HTTP/2 server speaks first, so waiting for that byte turns the refusal into an error of
//! connecting, before anything was sent that could reset the connection and lose the alert.

use super::resolve::addresses;
use super::tls::Setup;
use super::{Endpoint, Error};
use ingot_pki::NODE_SERVER_NAME;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Enough for the first frame header of HTTP/2; what else has come stays in the TLS layer.
const FIRST_BYTES: usize = 9;

/// Connects, shakes hands and waits for the node's first bytes. The caller sets the deadline.
pub(super) async fn dial(endpoint: &Endpoint, setup: &Setup) -> Result<Connection, Error> {
    let tcp = connect(endpoint).await?;
    let name = ServerName::try_from(NODE_SERVER_NAME)
        .map_err(|error| Error::Protocol { endpoint: endpoint.clone(), source: Box::new(error) })?;
    let mut tls = TlsConnector::from(setup.config.clone())
        .connect(name, tcp)
        .await
        .map_err(|error| setup.explain(endpoint, error))?;
    let mut first = vec![0; FIRST_BYTES];
    let count = tls.read(&mut first).await.map_err(|error| setup.explain(endpoint, error))?;
    if count == 0 {
        let source = Box::new(io::Error::from(io::ErrorKind::UnexpectedEof));
        return Err(Error::Protocol { endpoint: endpoint.clone(), source });
    }
    first.truncate(count);
    Ok(Connection { first, taken: 0, tls })
}

async fn connect(endpoint: &Endpoint) -> Result<TcpStream, Error> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses(endpoint).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small requests, each waiting for its answer: Nagle would only add to the wait. Best effort.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(Error::Connect { endpoint: endpoint.clone(), source: last })
}

/// A TLS stream whose first bytes were read already and are given out again.
#[derive(Debug)]
pub(super) struct Connection {
    first: Vec<u8>,
    taken: usize,
    tls: TlsStream<TcpStream>,
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.first.get(this.taken..).unwrap_or_default();
        if left.is_empty() {
            return Pin::new(&mut this.tls).poll_read(context, buffer);
        }
        let count = left.len().min(buffer.remaining());
        buffer.put_slice(left.get(..count).unwrap_or_default());
        this.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tls).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_shutdown(context)
    }
}
