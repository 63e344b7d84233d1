//! Which certificate the API shows and whose clients it lets in. Written by the start-up (maintenance) and the `pki`
//! controller, read by the API's listener.

use ingot_pki::{Certificate, Fingerprint};
use std::sync::Arc;
use tokio::sync::watch;

/// What the listener needs for TLS. `Debug` shows no key.
#[derive(Clone, Debug)]
pub(crate) struct ServerIdentity {
    /// The node's certificate with its key.
    pub(crate) identity: ingot_pki::Identity,
    /// Authorities between the node's certificate and the CA, DER.
    pub(crate) chain: Vec<Certificate>,
    /// Authorities whose clients are let in; empty only in maintenance mode, where no client certificate is asked for.
    pub(crate) client_authorities: Vec<Certificate>,
    /// The node waits for its first config.
    pub(crate) maintenance: bool,
}

impl ServerIdentity {
    /// SHA-256 of the certificate.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.identity.certificate.fingerprint()
    }
}

/// The shared identity; cheap to clone.
#[derive(Clone)]
pub(crate) struct IdentityCell {
    cell: Arc<watch::Sender<Option<Arc<ServerIdentity>>>>,
}

impl IdentityCell {
    /// None yet: the listener takes connections but waits with their handshakes.
    pub(crate) fn new() -> Self {
        Self { cell: Arc::new(watch::Sender::new(None)) }
    }

    /// Shows this identity from the next handshake on.
    pub(crate) fn publish(&self, identity: ServerIdentity) {
        self.cell.send_replace(Some(Arc::new(identity)));
    }

    /// The identity now.
    pub(crate) fn current(&self) -> Option<Arc<ServerIdentity>> {
        self.cell.borrow().clone()
    }

    /// Wakes its holder at each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<ServerIdentity>>> {
        self.cell.subscribe()
    }
}
