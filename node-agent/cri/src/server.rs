//! The socket: who may connect (root, by the file's mode), and the HTTP/2 server behind it.
//!
//! A client that sends its percent-encoded socket path as `:authority` (old kubelets, some tools) is refused by `h2`, which
//! takes that for a malformed request (hyperium/h2#487). Clients of release 1.28 and later send `localhost`.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ingot_images::ImageStore;
use ingot_runtime::sandboxes::Sandboxes;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::service;
use crate::v1::image_service_server::ImageServiceServer;
use crate::v1::runtime_service_server::RuntimeServiceServer;

/// Longest message, both ways: what the kubelet's own client takes.
const MESSAGE_MAX: usize = 16 << 20;

/// Calls at a time on one connection. A kubelet starts and stops many pods at once.
const STREAMS_MAX: u32 = 1000;

/// Pause after a connection could not be accepted: descriptors are short, and somebody has to close some first.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What the services work with. Cheap to clone.
#[derive(Clone)]
pub struct Parts {
    /// Sandboxes and containers.
    pub sandboxes: Sandboxes,
    /// Images.
    pub images: ImageStore,
    /// Hands out URLs for exec, attach and port-forward.
    pub streaming: Arc<ingot_streaming::Server>,
    /// Version of the runtime, as semantic versioning has it.
    pub version: String,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket.
    #[error("listen on {path}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP server gave up.
    #[error("serve the CRI")]
    Serve(#[source] tonic::transport::Error),
    /// The HTTP server ended although nobody told it to.
    #[error("the server of the CRI stopped")]
    Stopped,
}

/// Serves on a socket that only root can open, for ever. A socket that a former agent left there is replaced.
///
/// # Errors
/// When the socket cannot be made or the server gives up.
pub async fn serve(parts: Parts, path: &Path) -> Result<Infallible, ServeError> {
    let failed = |source| ServeError::Listen { path: path.to_owned(), source };
    let listener = listen(path).map_err(failed)?;
    let (sender, connections) = mpsc::channel(16);
    tokio::spawn(accept(listener, sender));
    let runtime = RuntimeServiceServer::new(service::Runtime::new(parts.clone()))
        .max_decoding_message_size(MESSAGE_MAX);
    let images =
        ImageServiceServer::new(service::Images::new(parts)).max_decoding_message_size(MESSAGE_MAX);
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .add_service(runtime)
        .add_service(images)
        .serve_with_incoming(ReceiverStream::new(connections))
        .await
        .map_err(ServeError::Serve)?;
    Err(ServeError::Stopped)
}

/// Made under another name and then renamed, so that it is never there with the wrong mode.
fn listen(path: &Path) -> std::io::Result<UnixListener> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    if let Err(error) = std::fs::remove_file(&new)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// Accepts for ever: an error concerns one connection, or passes.
async fn accept(listener: UnixListener, sender: mpsc::Sender<std::io::Result<UnixStream>>) {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                if sender.send(Ok(connection)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection to the CRI");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_root_opens_the_socket_and_an_old_one_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cri.sock");
        let _old = listen(&path).expect("the first");
        let _new = listen(&path).expect("the second");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&path).await.expect("somebody listens");
    }
}
