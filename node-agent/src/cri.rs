//! Serves the CRI, once the engine has taken over what runs: nobody must see half a picture. Composition only.

use crate::report;
use crate::state::{Severity, State};
use ingot_cri::{Parts, Streams};
use ingot_images::ImageStore;
use ingot_runtime::sandboxes::Sandboxes;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Where a kubelet and crictl find it.
const SOCKET: &str = "/run/ingot/cri.sock";

/// Pause before it is tried again after something failed.
const RETRY: Duration = Duration::from_secs(5);

/// Serves for ever; what goes wrong is an event, and is tried again.
pub(crate) async fn run(sandboxes: Sandboxes, images: ImageStore, state: State) {
    loop {
        let Err(error) = serve(sandboxes.clone(), images.clone()).await;
        let message = format!("trying again: {}", report::chain(&*error));
        state.events.record(Severity::Error, "CriFailed", "cri", message);
        tokio::time::sleep(RETRY).await;
    }
}

async fn serve(
    sandboxes: Sandboxes,
    images: ImageStore,
) -> Result<Infallible, Box<dyn std::error::Error + Send + Sync>> {
    let backend = Arc::new(Streams::new(sandboxes.clone()));
    let streaming = Arc::new(ingot_streaming::Server::new(backend));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let parts = Parts { sandboxes, images, streaming, version };
    Ok(ingot_cri::serve(parts, Path::new(SOCKET)).await?)
}
