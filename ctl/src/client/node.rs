//! A configured node: calls and streams over mTLS.

use super::channel::{machine, open, within};
use super::error::Reply;
use super::tls::Setup;
use super::{Credentials, DEFAULT_TIMEOUT, Endpoint, Error};
use ingot_api::machine::v1::machine_client::MachineClient;
use ingot_api::machine::v1::{
    ApplyConfigRequest, ApplyConfigResponse, StatusRequest, StatusResponse,
};
use ingot_pki::Fingerprint;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// Which node, as whom, and how long a call may take.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where.
    pub endpoint: Endpoint,
    /// As whom, and whom to trust.
    pub credentials: Credentials,
    /// For connecting, for each call, and for each message of a stream that is not followed.
    pub timeout: Duration,
}

impl Target {
    /// A target with the usual timeout.
    #[must_use]
    pub fn new(endpoint: Endpoint, credentials: Credentials) -> Self {
        Self { endpoint, credentials, timeout: DEFAULT_TIMEOUT }
    }
}

/// A connection to a node whose certificate was verified. Cheap to clone; dials again when the connection breaks.
#[derive(Clone, Debug)]
pub struct Node {
    endpoint: Endpoint,
    timeout: Duration,
    fingerprint: Option<Fingerprint>,
    machine: MachineClient<Channel>,
}

impl Node {
    /// Connects and authenticates both sides.
    ///
    /// # Errors
    /// When the node cannot be reached, is not trusted, or does not accept the client.
    pub async fn connect(target: &Target) -> Result<Self, Error> {
        let setup = Arc::new(Setup::verified(&target.credentials)?);
        let channel = open(&target.endpoint, &setup, target.timeout, false).await?;
        Ok(Self {
            endpoint: target.endpoint.clone(),
            timeout: target.timeout,
            fingerprint: setup.presented().map(|info| info.fingerprint),
            machine: machine(channel),
        })
    }

    /// Tries to connect until it works or `patience` is over: for a node that is starting.
    ///
    /// # Errors
    /// The last error, when the time is over.
    pub async fn connect_within(target: &Target, patience: Duration) -> Result<Self, Error> {
        /// Between two tries: a node in emulation needs seconds to start, a person notices tenths.
        const PAUSE: Duration = Duration::from_millis(100);
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(PAUSE);
            let try_now = Target { timeout: target.timeout.min(left), ..target.clone() };
            match Self::connect(&try_now).await {
                Ok(node) => return Ok(Self { timeout: target.timeout, ..node }),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Where the node is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Fingerprint of the certificate the node presented when it was first connected.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// The generated client, for callers who want the bare gRPC. It has no deadlines.
    #[must_use]
    pub fn machine(&self) -> MachineClient<Channel> {
        self.machine.clone()
    }

    /// Makes one call, with the deadline on both sides.
    ///
    /// # Errors
    /// The node's error with its hint, or the deadline.
    pub async fn call<Q, R>(
        &self,
        rpc: &'static str,
        message: Q,
        work: impl AsyncFnOnce(MachineClient<Channel>, Request<Q>) -> Result<Response<R>, Status>,
    ) -> Result<R, Error> {
        call(&self.endpoint, self.timeout, rpc, message, &self.machine, work).await
    }

    /// Starts a stream. A followed one may be silent for ever (a vanished node is still noticed); any other one must
    /// bring each message within the timeout.
    ///
    /// # Errors
    /// The node's error with its hint, or the deadline.
    pub async fn stream<Q, R>(
        &self,
        rpc: &'static str,
        follow: bool,
        message: Q,
        work: impl AsyncFnOnce(
            MachineClient<Channel>,
            Request<Q>,
        ) -> Result<Response<Streaming<R>>, Status>,
    ) -> Result<NodeStream<R>, Error> {
        let asking = async {
            work(self.machine(), Request::new(message))
                .await
                .map_err(|status| from_status(&self.endpoint, rpc, status))
        };
        let response = within(rpc.to_owned(), self.timeout, asking).await?;
        Ok(NodeStream {
            endpoint: self.endpoint.clone(),
            rpc,
            idle_max: (!follow).then_some(self.timeout),
            messages: response.into_inner(),
        })
    }

    /// Sends a stream and waits for its one answer. It has no deadline, as nobody knows how long the stream is; a node that has vanished is still
    /// noticed.
    ///
    /// # Errors
    /// The node's error with its hint.
    pub async fn upload<Q, R>(
        &self,
        rpc: &'static str,
        messages: Q,
        work: impl AsyncFnOnce(MachineClient<Channel>, Request<Q>) -> Result<Response<R>, Status>,
    ) -> Result<R, Error> {
        let answer = work(self.machine(), Request::new(messages)).await;
        answer.map(Response::into_inner).map_err(|status| from_status(&self.endpoint, rpc, status))
    }

    /// State of the node.
    ///
    /// # Errors
    /// As [`Node::call`].
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        let ask = async |mut api: MachineClient<Channel>, request| api.status(request).await;
        self.call("Status", StatusRequest {}, ask).await
    }

    /// Makes `config` the node's wish, or says what would change. A refused config is an answer with problems.
    ///
    /// # Errors
    /// As [`Node::call`].
    pub async fn apply(&self, config: &str, dry_run: bool) -> Result<ApplyConfigResponse, Error> {
        let message =
            ApplyConfigRequest { config: config.to_owned(), dry_run, ..Default::default() };
        let ask = async |mut api: MachineClient<Channel>, request| api.apply_config(request).await;
        self.call("ApplyConfig", message, ask).await
    }
}

/// Messages of a streaming call.
#[derive(Debug)]
pub struct NodeStream<R> {
    endpoint: Endpoint,
    rpc: &'static str,
    idle_max: Option<Duration>,
    messages: Streaming<R>,
}

impl<R> NodeStream<R> {
    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// The node's error, a broken connection, or the deadline.
    pub async fn next(&mut self) -> Result<Option<R>, Error> {
        let (endpoint, rpc) = (&self.endpoint, self.rpc);
        let waiting = async {
            self.messages.message().await.map_err(|status| from_status(endpoint, rpc, status))
        };
        match self.idle_max {
            Some(idle_max) => within(format!("the next message of {rpc}"), idle_max, waiting).await,
            None => waiting.await,
        }
    }
}

/// One call with its deadline, for nodes with and without config.
pub(super) async fn call<Q, R>(
    endpoint: &Endpoint,
    timeout: Duration,
    rpc: &'static str,
    message: Q,
    machine: &MachineClient<Channel>,
    work: impl AsyncFnOnce(MachineClient<Channel>, Request<Q>) -> Result<Response<R>, Status>,
) -> Result<R, Error> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    let asking = async {
        work(machine.clone(), request)
            .await
            .map(Response::into_inner)
            .map_err(|status| from_status(endpoint, rpc, status))
    };
    within(rpc.to_owned(), timeout, asking).await
}

/// Tells the node's own errors from broken connections: the latter have a cause on this side.
fn from_status(endpoint: &Endpoint, rpc: &'static str, status: Status) -> Error {
    let endpoint = endpoint.clone();
    if let Some(source) = broken(&status) {
        return Error::Lost { endpoint, rpc, source };
    }
    let hint = status
        .metadata()
        .get_bin(ingot_api::HINT_METADATA)
        .and_then(|value| value.to_bytes().ok())
        .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
        .filter(|hint| !hint.is_empty());
    let reply = Reply { code: status.code(), message: status.message().to_owned(), hint };
    Error::Call { endpoint, rpc, reply }
}

fn broken(status: &Status) -> Option<Box<dyn StdError + Send + Sync>> {
    status.source()?;
    // The status is the only owner of its cause, and prints as words for operators nowhere: keep the chain's last.
    let mut cause: &dyn StdError = status;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Some(cause.to_string().into())
}
