//! A node without config: pairs by the code on its console and sends it its first config.
//!
//! Order matters: the node proves first that it knows the code, bound to the certificate of this very connection; only
//! then does anything leave this machine. So the config, which holds keys, never reaches somebody in between.

use super::channel::{machine, open};
use super::node::call;
use super::tls::Setup;
use super::{Endpoint, Error};
use ingot_api::machine::v1::machine_client::MachineClient;
use ingot_api::machine::v1::{
    ApplyConfigRequest, ApplyConfigResponse, PairRequest, VersionRequest, VersionResponse,
};
use ingot_pki::Fingerprint;
use ingot_pki::pairing::{Exchange, NONCE_BYTES, PairingCode, nonce};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::transport::Channel;

/// A connection to a node in maintenance mode. Nothing is proven yet.
#[derive(Debug)]
pub struct Unpaired {
    endpoint: Endpoint,
    timeout: Duration,
    fingerprint: Fingerprint,
    machine: MachineClient<Channel>,
}

impl Unpaired {
    /// Connects, whatever certificate is presented.
    ///
    /// # Errors
    /// When the node cannot be reached, or already has a config ([`Error::Configured`]).
    pub async fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Self, Error> {
        let setup = Arc::new(Setup::unverified()?);
        let opened = open(endpoint, &setup, timeout, true).await;
        let presented = setup.presented();
        // A configured node says so by its certificate, and would refuse us for having none.
        if presented.as_ref().is_some_and(|info| !info.maintenance) {
            return Err(Error::Configured { endpoint: endpoint.clone() });
        }
        let channel = opened?;
        let Some(presented) = presented else {
            return Err(Error::Protocol {
                endpoint: endpoint.clone(),
                source: "it presented no certificate".into(),
            });
        };
        Ok(Self {
            endpoint: endpoint.clone(),
            timeout,
            fingerprint: presented.fingerprint,
            machine: machine(channel),
        })
    }

    /// Tries to connect until it works or `patience` is over: for a node that is starting.
    ///
    /// # Errors
    /// The last error, when the time is over; at once when the node already has a config.
    pub async fn connect_within(
        endpoint: &Endpoint,
        timeout: Duration,
        patience: Duration,
    ) -> Result<Self, Error> {
        /// As for a configured node.
        const PAUSE: Duration = Duration::from_millis(100);
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(PAUSE);
            match Self::connect(endpoint, timeout.min(left)).await {
                Ok(node) => return Ok(Self { timeout, ..node }),
                Err(error @ Error::Configured { .. }) => return Err(error),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Fingerprint of the certificate presented, to be compared with the node's console.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What runs on the node, as it claims.
    ///
    /// # Errors
    /// The node's error, or the deadline.
    pub async fn version(&self) -> Result<VersionResponse, Error> {
        let ask = async |mut api: MachineClient<Channel>, request| api.version(request).await;
        call(&self.endpoint, self.timeout, "Version", VersionRequest {}, &self.machine, ask).await
    }

    /// Pairs and sends the first config. A refused config is an answer with problems, and the node stays as it is.
    ///
    /// # Errors
    /// [`Error::PairingCode`] when the node does not prove that it knows the code; nothing was sent to it then.
    pub async fn apply(
        &self,
        code: &PairingCode,
        config: &str,
        dry_run: bool,
    ) -> Result<ApplyConfigResponse, Error> {
        let exchange = self.pair(code).await?;
        let message = ApplyConfigRequest {
            config: config.to_owned(),
            dry_run,
            pairing_proof: exchange.client_proof(code, config).to_vec(),
            client_nonce: exchange.client_nonce.to_vec(),
            server_nonce: exchange.server_nonce.to_vec(),
        };
        let ask = async |mut api: MachineClient<Channel>, request| api.apply_config(request).await;
        call(&self.endpoint, self.timeout, "ApplyConfig", message, &self.machine, ask).await
    }

    async fn pair(&self, code: &PairingCode) -> Result<Exchange, Error> {
        let client_nonce = nonce().map_err(Error::Pairing)?;
        let message = PairRequest { client_nonce: client_nonce.to_vec() };
        let ask = async |mut api: MachineClient<Channel>, request| api.pair(request).await;
        let answer =
            call(&self.endpoint, self.timeout, "Pair", message, &self.machine, ask).await?;
        let wrong = || Error::PairingCode { endpoint: self.endpoint.clone() };
        let server_nonce: [u8; NONCE_BYTES] =
            answer.server_nonce.as_slice().try_into().map_err(|_| wrong())?;
        let exchange = Exchange { certificate: self.fingerprint, client_nonce, server_nonce };
        if exchange.verify_server_proof(code, &answer.server_proof) {
            Ok(exchange)
        } else {
            Err(wrong())
        }
    }
}
