//! Calls to a node's API as a test makes them: every call has a deadline, every error names the call.

use std::time::Duration;

use anyhow::{Context as _, bail};
use ingot_api::machine::v1 as api;
use ingot_api::machine::v1::machine_client::MachineClient;
use ingot_pki::{Certificate, Identity, NODE_SERVER_NAME};
use tonic::transport::{self, Channel, ClientTlsConfig, Endpoint};

/// A call that is answered at once on an idle machine may take long in emulation on a busy host.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// TCP and TLS with a machine that is there.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A machine that lost power does not close its connections.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The API of one node, as one client. Reconnects by itself.
#[derive(Debug, Clone)]
pub struct Api {
    /// For calls that have no helper here.
    pub rpc: MachineClient<Channel>,
}

/// A channel to `127.0.0.1:port` that trusts `authority` and presents `identity`, if any. Nothing is sent yet.
pub fn channel(
    port: u16,
    authority: &Certificate,
    identity: Option<&Identity>,
) -> anyhow::Result<Channel> {
    let mut tls = ClientTlsConfig::new()
        .domain_name(NODE_SERVER_NAME)
        .ca_certificate(transport::Certificate::from_pem(authority.to_pem()));
    if let Some(identity) = identity {
        let key = identity.key.to_pem();
        tls = tls
            .identity(transport::Identity::from_pem(identity.certificate.to_pem(), key.as_str()));
    }
    let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}"))
        .context("name the API of the machine")?
        .tls_config(tls)
        .context("prepare TLS")?
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}

/// An error and everything below it, as one line: transport errors hide what matters in their sources.
#[must_use]
pub fn whole_error(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Waits for one answer and turns every kind of failure into an error that names the call.
async fn answer<T>(
    call: &str,
    request: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(CALL_LIMIT, request).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => bail!("{call}: {:?}: {}", status.code(), whole_error(&status)),
        Err(_) => bail!("{call} was not answered in {} s", CALL_LIMIT.as_secs()),
    }
}

/// Reads a stream to its end.
async fn all<T>(call: &str, mut stream: tonic::Streaming<T>) -> anyhow::Result<Vec<T>> {
    let mut messages = Vec::new();
    let read = async {
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        Ok::<(), tonic::Status>(())
    };
    tokio::time::timeout(CALL_LIMIT, read)
        .await
        .with_context(|| format!("{call} did not end its stream"))?
        .map_err(|status| anyhow::anyhow!("{call}: {}", whole_error(&status)))?;
    Ok(messages)
}

impl Api {
    /// The API behind a channel.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self { rpc: MachineClient::new(channel) }
    }

    /// `Version`.
    pub async fn version(&mut self) -> anyhow::Result<api::VersionResponse> {
        answer("Version", self.rpc.version(api::VersionRequest {})).await
    }

    /// `Status`.
    pub async fn status(&mut self) -> anyhow::Result<api::StatusResponse> {
        answer("Status", self.rpc.status(api::StatusRequest {})).await
    }

    /// `ApplyConfig`; problems are in the answer.
    pub async fn apply(&mut self, config: &str) -> anyhow::Result<api::ApplyConfigResponse> {
        let request = api::ApplyConfigRequest { config: config.to_owned(), ..Default::default() };
        answer("ApplyConfig", self.rpc.apply_config(request)).await
    }

    /// `ApplyConfig` that only checks.
    pub async fn dry_run(&mut self, config: &str) -> anyhow::Result<api::ApplyConfigResponse> {
        let request = api::ApplyConfigRequest {
            config: config.to_owned(),
            dry_run: true,
            ..Default::default()
        };
        answer("ApplyConfig", self.rpc.apply_config(request)).await
    }

    /// `GetConfig`.
    pub async fn config(&mut self) -> anyhow::Result<api::GetConfigResponse> {
        answer("GetConfig", self.rpc.get_config(api::GetConfigRequest {})).await
    }

    /// `ListPods`.
    pub async fn pods(&mut self) -> anyhow::Result<Vec<api::Pod>> {
        Ok(answer("ListPods", self.rpc.list_pods(api::ListPodsRequest {})).await?.pods)
    }

    /// The pod `default/<name>`, if the node has it.
    pub async fn pod(&mut self, name: &str) -> anyhow::Result<Option<api::Pod>> {
        Ok(self.pods().await?.into_iter().find(|pod| pod.name == name))
    }

    /// The first container of the pod `default/<name>`.
    pub async fn container(&mut self, pod: &str) -> anyhow::Result<api::Container> {
        let found = self.pod(pod).await?.with_context(|| format!("there is no pod {pod}"))?;
        found.containers.into_iter().next().with_context(|| format!("pod {pod} has no container"))
    }

    /// `PodStats` of the first container of `default/<pod>`.
    pub async fn stats(&mut self, pod: &str) -> anyhow::Result<api::ContainerStats> {
        let request = api::PodStatsRequest { namespace: "default".to_owned(), pod: pod.to_owned() };
        let answer = answer("PodStats", self.rpc.pod_stats(request)).await?;
        answer.containers.into_iter().next().with_context(|| format!("no stats for pod {pod}"))
    }

    /// Every kept log line of every run of the only container of `default/<pod>`, joined where the node cut them.
    pub async fn logs(&mut self, pod: &str) -> anyhow::Result<Vec<String>> {
        self.logs_of(pod, "").await
    }

    /// Every kept log line of every run of one container of `default/<pod>`.
    pub async fn logs_of(&mut self, pod: &str, container: &str) -> anyhow::Result<Vec<String>> {
        let request = api::PodLogsRequest {
            namespace: "default".to_owned(),
            pod: pod.to_owned(),
            container: container.to_owned(),
            all_attempts: true,
            ..Default::default()
        };
        let stream = answer("PodLogs", self.rpc.pod_logs(request)).await?;
        let mut lines = Vec::new();
        let mut line = Vec::new();
        for message in all("PodLogs", stream).await? {
            line.extend_from_slice(&message.line);
            if !message.partial {
                let whole = std::mem::take(&mut line);
                lines.push(String::from_utf8_lossy(&whole).trim_end_matches('\n').to_owned());
            }
        }
        Ok(lines)
    }

    /// `ListServices`.
    pub async fn services(&mut self) -> anyhow::Result<Vec<api::Service>> {
        let answer =
            answer("ListServices", self.rpc.list_services(api::ListServicesRequest {})).await?;
        Ok(answer.services)
    }

    /// Every kept kernel log record.
    pub async fn dmesg(&mut self) -> anyhow::Result<Vec<api::DmesgResponse>> {
        let stream = answer("Dmesg", self.rpc.dmesg(api::DmesgRequest::default())).await?;
        all("Dmesg", stream).await
    }

    /// Every kept event.
    pub async fn events(&mut self) -> anyhow::Result<Vec<api::Event>> {
        let stream = answer("Events", self.rpc.events(api::EventsRequest::default())).await?;
        all("Events", stream).await
    }

    /// `Cgroups` below `path`.
    pub async fn cgroups(&mut self, path: &str) -> anyhow::Result<Vec<api::Cgroup>> {
        let request = api::CgroupsRequest { path: path.to_owned() };
        Ok(answer("Cgroups", self.rpc.cgroups(request)).await?.cgroups)
    }

    /// Everything below `path` on the same file system.
    pub async fn files(&mut self, path: &str) -> anyhow::Result<Vec<api::FileInfo>> {
        let request =
            api::ListFilesRequest { path: path.to_owned(), recursive: true, one_file_system: true };
        let stream = answer("ListFiles", self.rpc.list_files(request)).await?;
        all("ListFiles", stream).await
    }

    /// The bytes of a file, `limit` at most; 0 for all.
    pub async fn read(&mut self, path: &str, limit: u64) -> anyhow::Result<Vec<u8>> {
        let request = api::ReadFileRequest { path: path.to_owned(), offset: 0, limit };
        let stream = answer("ReadFile", self.rpc.read_file(request)).await?;
        let parts = all("ReadFile", stream).await.with_context(|| format!("read {path}"))?;
        Ok(parts.into_iter().flat_map(|part| part.data).collect())
    }

    /// The text of a file.
    pub async fn read_text(&mut self, path: &str) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&self.read(path, 0).await?).into_owned())
    }

    /// Asks for a power-off; the machine is still on when this returns.
    pub async fn shutdown(&mut self) -> anyhow::Result<()> {
        answer("Shutdown", self.rpc.shutdown(api::ShutdownRequest::default())).await.map(drop)
    }

    /// Asks for a reboot; the machine has not gone down yet when this returns.
    pub async fn reboot(&mut self) -> anyhow::Result<()> {
        answer("Reboot", self.rpc.reboot(api::RebootRequest::default())).await.map(drop)
    }

    /// SIGKILL to a service. The agent may die before it answers, so a lost connection is no error.
    pub async fn kill_service(&mut self, name: &str) -> anyhow::Result<()> {
        let request = api::RestartServiceRequest { name: name.to_owned(), kill: true };
        let call = self.rpc.restart_service(request);
        match tokio::time::timeout(CALL_LIMIT, call).await.context("RestartService hangs")? {
            Ok(_) => Ok(()),
            Err(status)
                if matches!(
                    status.code(),
                    tonic::Code::Unavailable
                        | tonic::Code::Unknown
                        | tonic::Code::Cancelled
                        | tonic::Code::Internal
                ) =>
            {
                Ok(())
            }
            Err(status) => bail!("RestartService: {:?}: {}", status.code(), whole_error(&status)),
        }
    }
}
