//! A gRPC channel over a connection that already stands, and the deadline every step has.

use super::dial::{Connection, dial};
use super::tls::Setup;
use super::{Endpoint, Error};
use hyper_util::rt::TokioIo;
use ingot_api::machine::v1::machine_client::MachineClient;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::{Channel, Uri};

/// A config stream is at most 4 MiB; a node answers with at most as much, and lists of pods stay far below.
const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Bytes that a node may send ahead in one stream, and in all of a connection. HTTP/2's library gives up a connection on which many small
/// frames wait for who does not read (half of the second number, of which a frame takes up to 256). With the first this small, the
/// node stops long before: a pager that shows its first page may do so for hours.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// A node that vanished without a word (power cut) is noticed within this and the next.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Dials, and makes a channel of the connection. A channel that is not `fixed` dials again when the connection breaks.
pub(super) async fn open(
    endpoint: &Endpoint,
    setup: &Arc<Setup>,
    timeout: Duration,
    fixed: bool,
) -> Result<Channel, Error> {
    let connecting = async {
        let first = dial(endpoint, setup).await?;
        let connector = connector(endpoint.clone(), Arc::clone(setup), first, fixed);
        // The authority is what HTTP/2 shows to the node; TLS has its own name. The scheme is not https although this is
        // TLS: our connector does it, and where another crate turns on tonic's own, tonic refuses https without that.
        tonic::transport::Endpoint::from_static("http://ingot-node")
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector(connector)
            .await
            .map_err(|error| Error::Protocol { endpoint: endpoint.clone(), source: error.into() })
    };
    within(format!("connecting to {endpoint}"), timeout, connecting).await
}

/// The API on a channel, with our limit for messages.
pub(super) fn machine(channel: Channel) -> MachineClient<Channel> {
    MachineClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Gives a wait its deadline and its name.
pub(super) async fn within<T>(
    what: String,
    timeout: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Deadline { what, timeout }),
    }
}

type Dialled =
    std::pin::Pin<Box<dyn Future<Output = Result<TokioIo<Connection>, Error>> + Send + 'static>>;

/// Hands out the connection that stands, then new ones.
fn connector(
    endpoint: Endpoint,
    setup: Arc<Setup>,
    first: Connection,
    fixed: bool,
) -> impl tower::Service<Uri, Response = TokioIo<Connection>, Error = Error, Future = Dialled>
+ Send
+ 'static {
    let first = Mutex::new(Some(first));
    tower::service_fn(move |_: Uri| -> Dialled {
        let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (endpoint, setup) = (endpoint.clone(), Arc::clone(&setup));
        Box::pin(async move {
            match ready {
                Some(connection) => Ok(TokioIo::new(connection)),
                None if fixed => {
                    let source = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
                    Err(Error::Connect { endpoint, source })
                }
                None => dial(&endpoint, &setup).await.map(TokioIo::new),
            }
        })
    })
}
