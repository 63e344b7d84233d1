//! The machine API: listener, TLS, who may call what, and one file per RPC. The only part of the agent that knows protobuf.

pub(crate) mod accept;
pub(crate) mod auth;
mod convert;
mod later;
mod machine;
pub(crate) mod status;
mod tls;

use crate::apply::{Applier, CONFIG_MAX};
use crate::kubernetes::Kubernetes;
use crate::pairing::Pairing;
use crate::pods::Pods;
use crate::state::State;
use crate::state::desired::Wish;
use anyhow::Context as _;
use auth::AuthLayer;
use ingot_api::machine::v1::machine_server::MachineServer;
use later::Later;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

/// Calls at a time on one connection.
const STREAMS_MAX: u32 = 32;
/// Longest set of request headers in bytes.
const HEADERS_MAX: u32 = 16 * 1024;
/// Silence after which a peer is asked whether it still lives, and how long it may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Streams a peer may open and reset before its connection is closed.
const RESETS_MAX: usize = 20;
/// Bytes a peer may send ahead on one stream; a config arrives in a few rounds, and 128 connections stay small.
const WINDOW: u32 = 64 * 1024;

/// What RPCs work with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    /// Wish, observation, events.
    pub(crate) state: State,
    /// Takes configs.
    pub(crate) applier: Applier,
    /// Lets the first operator in.
    pub(crate) pairing: Pairing,
    /// Pods, services, the end of the machine.
    pub(crate) pods: Pods,
    /// The cluster on this node.
    pub(crate) kubernetes: Kubernetes,
}

/// Serves for ever.
///
/// # Errors
/// When the HTTP server gives up, which ends the agent so that PID 1 starts a new one.
pub(crate) async fn serve(
    api: Api,
    default_port: u16,
    bound: Option<TcpListener>,
) -> anyhow::Result<()> {
    let (sender, connections) = mpsc::channel(4);
    tokio::spawn(accept::run(api.state.clone(), default_port, bound, sender));
    let state = api.state.clone();
    let maintenance = Arc::new(move || matches!(&*state.desired.borrow(), Wish::Nothing));
    let layer = AuthLayer { events: api.state.events.clone(), maintenance };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<MachineServer<machine::Rpcs>>().await;
    let machine =
        MachineServer::new(machine::Rpcs { api }).max_decoding_message_size(CONFIG_MAX + 64 * 1024);
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADERS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .layer(layer)
        .add_service(machine)
        .add_service(health_service)
        .add_service(Later::new(reflection))
        .serve_with_incoming(ReceiverStream::new(connections))
        .await?;
    anyhow::bail!("the API server stopped")
}

/// Tells clients what may be called.
fn reflection() -> anyhow::Result<ServerReflectionServer<impl ServerReflection>> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(ingot_api::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("read what the API consists of")
}

#[cfg(test)]
mod tests;
