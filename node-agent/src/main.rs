//! `ingotd`, the node agent: serves the machine API and keeps the machine as its config says. It may die at any
//! instruction and be started again; pods do not notice. Composition only: what there is and who knows whom.
#![forbid(unsafe_code)]

mod apply;
mod console;
mod controllers;
mod copy;
mod cri;
mod durable;
mod grpc;
mod inspect;
mod kubernetes;
mod log;
mod pairing;
mod pid1;
mod pods;
mod power;
mod report;
mod sources;
mod start;
mod state;

use anyhow::Context as _;
use apply::Applier;
use controllers::kubernetes::KubernetesController;
use controllers::kubernetes::addons::AddonsController;
use controllers::kubernetes::nodes::NodesController;
use controllers::network::{Network, resolver::Resolver};
use controllers::pods::PodsController;
use controllers::{hostname, modules, pki, runner, storage, sysctl, time};
use ingot_linux::inherited::InheritedError;
use kubernetes::balancer;
use pairing::Pairing;
use pods::Pods;
use state::ledger::Ledger;
use state::{Severity, State};
use std::os::fd::OwnedFd;

/// Where configs are kept.
const LEDGER: &str = "/state/ingot/config";

fn main() -> anyhow::Result<()> {
    // Before anything else is opened: the descriptor is known by its number only.
    let socket = ingot_linux::inherited::take(ingot_init_api::AGENT_SOCKET_FD);
    log::start(inspect::command_line_has("ingot.debug"));
    // One thread for everything that does not block, and few for what does: memory is a promise.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_stack_size(512 * 1024)
        .build()
        .context("start the async runtime")?;
    let result = runtime.block_on(run(socket));
    if let Err(error) = &result {
        tracing::error!("ending, PID 1 starts another: {error:#}");
    }
    result
}

async fn run(socket: Result<OwnedFd, InheritedError>) -> anyhow::Result<()> {
    let state = State::new();
    let pods = Pods::new();
    let kubernetes = kubernetes::Kubernetes::new();
    let pairing = Pairing::new().context("draw a pairing code")?;
    let applier = Applier::new(state.clone(), Ledger::new(LEDGER));
    let port = ingot_machine_config::v1::api::DEFAULT_PORT;
    let api = grpc::Api {
        state: state.clone(),
        applier: applier.clone(),
        pairing: pairing.clone(),
        pods: pods.clone(),
        kubernetes: kubernetes.clone(),
    };
    let version = env!("CARGO_PKG_VERSION");
    state.events.record(Severity::Info, "AgentStarted", "node", format!("ingotd {version}"));
    // In the order of need: the API listens first, then what the config is on, then what the config asks for.
    let bound = grpc::accept::bind(&state, port).await;
    let serving = tokio::spawn(grpc::serve(api, port, bound));
    tokio::spawn(runner::run(storage::Storage::new(state.clone()), state.clone()));
    tokio::spawn(sources::run(state.clone(), applier));
    tokio::spawn(start::maintenance_identity(state.clone()));
    tokio::spawn(runner::run(pki::Pki::new(state.clone()), state.clone()));
    tokio::spawn(pid1::connect(socket, state.clone(), pods.clone()));
    start::known(&state).await;
    tokio::spawn(runner::run(modules::Modules::new(state.clone()), state.clone()));
    tokio::spawn(runner::run(Network::new(state.clone()), state.clone()));
    tokio::spawn(runner::run(hostname::Hostname::new(state.clone()), state.clone()));
    tokio::spawn(runner::run(Resolver::new(state.clone()), state.clone()));
    tokio::spawn(runner::run(sysctl::Sysctl, state.clone()));
    tokio::spawn(runner::run(time::Time::new(state.clone()), state.clone()));
    let controller = PodsController::new(state.clone(), pods.clone(), kubernetes.clone());
    tokio::spawn(runner::run(controller, state.clone()));
    let controller = KubernetesController::new(state.clone(), pods.clone(), kubernetes.clone());
    tokio::spawn(runner::run(controller, state.clone()));
    let controller = AddonsController::new(state.clone(), kubernetes.clone());
    tokio::spawn(runner::run(controller, state.clone()));
    let controller = NodesController::new(state.clone(), kubernetes.clone());
    tokio::spawn(runner::run(controller, state.clone()));
    tokio::spawn(balancer::run(state.clone(), kubernetes.clone()));
    tokio::spawn(console::run(state.clone(), pairing));
    tokio::spawn(power::watch(state, pods, kubernetes));
    serving.await.context("serve the API")?
}
