//! Asks a service once. The caller repeats it; each attempt that cannot succeed yet is as cheap as one refused
//! connection, so that waiting hardly slows down what it waits for.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ingot_api::machine::v1::machine_client::MachineClient;
use ingot_api::machine::v1::{ApplyConfigRequest, Stage, StatusRequest, VersionRequest};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::plan::{CREDENTIALS, Service};

/// Longest time one answer may take, in guest time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time a node may take to make a config true, in guest time.
const APPLY_TIMEOUT: Duration = Duration::from_secs(120);

/// Time between two looks at it.
const APPLY_INTERVAL: Duration = Duration::from_millis(20);

/// A service with everything its call needs already in memory.
#[derive(Debug)]
pub(crate) struct Asker {
    service: Service,
    endpoint: Endpoint,
}

impl Asker {
    /// Prepares the call: reads certificates, parses addresses.
    pub(crate) fn prepare(service: &Service) -> anyhow::Result<Self> {
        let endpoint = match service {
            Service::Machine { address, name } => {
                let read = |name: &str| fs_err::read(format!("{CREDENTIALS}/{name}"));
                let tls = ClientTlsConfig::new()
                    .domain_name(name)
                    .ca_certificate(Certificate::from_pem(read("ca.pem")?))
                    .identity(Identity::from_pem(read("client.pem")?, read("client.key")?));
                Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?
            }
            Service::Cri(path) => Endpoint::from_shared(format!("unix://{path}"))?,
        };
        let endpoint = endpoint.connect_timeout(ANSWER_TIMEOUT).timeout(ANSWER_TIMEOUT);
        Ok(Self { service: service.clone(), endpoint })
    }

    /// What the service is called in the report.
    pub(crate) fn name(&self) -> &'static str {
        match self.service {
            Service::Machine { .. } => "machine",
            Service::Cri(_) => "cri",
        }
    }

    /// Whether somebody listens.
    pub(crate) fn listens(&self) -> bool {
        match &self.service {
            Service::Machine { address, .. } => TcpStream::connect(address).is_ok(),
            Service::Cri(path) => UnixStream::connect(path).is_ok(),
        }
    }

    /// Asks, and takes any answer but success for a failure.
    pub(crate) async fn ask(&self) -> anyhow::Result<()> {
        let channel = self.endpoint.connect().await.context("connect")?;
        match &self.service {
            Service::Machine { .. } => {
                MachineClient::new(channel).version(VersionRequest {}).await.context("Version")?;
            }
            Service::Cri(_) => {
                for method in ["Version", "Status"] {
                    cri(channel.clone(), method).await.with_context(|| format!("CRI {method}"))?;
                }
            }
        }
        Ok(())
    }

    /// Makes this config the node's wish, and waits until it is true: later boots must find a certificate for the new name,
    /// or each of them would make one. Does nothing for a service that has no configs.
    pub(crate) async fn apply(&self, config: String) -> anyhow::Result<()> {
        if !matches!(self.service, Service::Machine { .. }) {
            return Ok(());
        }
        let channel = self.endpoint.connect().await.context("connect")?;
        let mut machine = MachineClient::new(channel);
        let before = machine.status(StatusRequest {}).await.context("Status")?.into_inner();
        let request = ApplyConfigRequest { config: config.clone(), ..Default::default() };
        let reply = machine.apply_config(request).await.context("ApplyConfig")?;
        let problems = reply.into_inner().problems;
        anyhow::ensure!(problems.is_empty(), "the config is refused: {problems:?}");
        let start = tokio::time::Instant::now();
        loop {
            let now = machine.status(StatusRequest {}).await.context("Status")?.into_inner();
            let is_named = config.contains(&format!("hostname: {}\n", now.node_name));
            let is_certified = now.certificate_fingerprint != before.certificate_fingerprint
                || now.node_name == before.node_name;
            if now.stage() == Stage::Running && is_named && is_certified {
                return Ok(());
            }
            if start.elapsed() > APPLY_TIMEOUT {
                bail!("the config was not true within {} s: {now:?}", APPLY_TIMEOUT.as_secs());
            }
            tokio::time::sleep(APPLY_INTERVAL).await;
        }
    }
}

/// A CRI request or reply whose content does not matter here: all fields of both are optional on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Anything {}

/// Calls one method of the runtime service.
async fn cri(channel: tonic::transport::Channel, method: &str) -> anyhow::Result<()> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.context("wait for the connection")?;
    let path = format!("/runtime.v1.RuntimeService/{method}").parse().context("build the path")?;
    let codec = tonic_prost::ProstCodec::<Anything, Anything>::default();
    client.unary(tonic::Request::new(Anything {}), path, codec).await?;
    Ok(())
}
