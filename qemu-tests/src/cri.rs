//! A client of a node's CRI, as a kubelet is one: over TCP, through the relay that a test node runs as a pod. Every call has a
//! deadline and every error names the call. Knows no suite.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::BoxFuture;
use tonic::transport::{Channel, Endpoint};

use crate::client::whole_error;
use crate::wait;

/// The protobuf of the CRI.
#[expect(
    missing_docs,
    clippy::allow_attributes_without_reason,
    clippy::doc_overindented_list_items,
    clippy::doc_lazy_continuation,
    reason = "generated code; the comments of the .proto file are its documentation"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

use v1::image_service_client::ImageServiceClient;
use v1::runtime_service_client::RuntimeServiceClient;

/// The port of a guest on which its relay listens.
pub const RELAY_PORT: u16 = 7351;
/// What the kubelet allows a message to be.
const MESSAGE_LIMIT: usize = 16 << 20;
/// A call that takes milliseconds on an idle machine may take long in emulation on a busy host.
const CALL_LIMIT: Duration = Duration::from_secs(120);
/// Pulling an image moves megabytes through an emulated processor.
const PULL_LIMIT: Duration = Duration::from_secs(600);
/// From a running node until its relay answers.
const RELAY_LIMIT: Duration = Duration::from_secs(120);

/// The CRI of one node. Reconnects by itself.
#[derive(Debug, Clone)]
pub struct Cri {
    /// For calls that have no helper here.
    pub runtime: RuntimeServiceClient<Channel>,
    /// For calls that have no helper here.
    pub image: ImageServiceClient<Channel>,
}

/// A connection to the CRI behind a port of 127.0.0.1. Nothing is sent yet.
pub fn channel(port: u16) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
        .context("name the CRI of the machine")?
        // As the kubelet's client does.
        .origin("http://localhost".parse().context("name the authority")?)
        .connect_timeout(Duration::from_secs(10));
    Ok(endpoint.connect_lazy())
}

/// Waits for one answer and turns every kind of failure into an error that names the call.
/// On the heap, because the futures of requests are large.
pub fn answer<'a, T: 'a>(
    call: &'a str,
    limit: Duration,
    request: impl Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send + 'a,
) -> BoxFuture<'a, anyhow::Result<T>> {
    Box::pin(async move {
        match tokio::time::timeout(limit, request).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => bail!("{call}: {:?}: {}", status.code(), whole_error(&status)),
            Err(_) => bail!("{call} was not answered in {} s", limit.as_secs()),
        }
    })
}

impl Cri {
    /// The CRI behind a port of 127.0.0.1. Nothing is sent yet.
    pub fn at(port: u16) -> anyhow::Result<Self> {
        Ok(Self::of(channel(port)?))
    }

    /// The CRI behind a Unix socket of this machine. Nothing is sent yet.
    pub fn on(socket: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("unix://{socket}")).context("name the CRI")?;
        Ok(Self::of(endpoint.connect_lazy()))
    }

    fn of(channel: Channel) -> Self {
        let runtime = RuntimeServiceClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        let image = ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        Self { runtime, image }
    }

    /// Waits until the CRI behind a port answers.
    pub async fn wait_at(port: u16) -> anyhow::Result<Self> {
        wait::until("the CRI to answer through the relay", RELAY_LIMIT, async || {
            let mut cri = Self::at(port)?;
            cri.version().await?;
            Ok(Some(cri))
        })
        .await
    }

    /// `Version`.
    pub async fn version(&mut self) -> anyhow::Result<v1::VersionResponse> {
        let request = v1::VersionRequest::default();
        answer("Version", Duration::from_secs(20), self.runtime.version(request)).await
    }

    /// `PullImage`; the image's id.
    pub async fn pull(&mut self, name: &str) -> anyhow::Result<String> {
        let request = v1::PullImageRequest { image: Some(image(name)), ..Default::default() };
        let call = format!("PullImage {name}");
        Ok(answer(&call, PULL_LIMIT, self.image.pull_image(request)).await?.image_ref)
    }

    /// `RunPodSandbox`; the sandbox's id.
    pub async fn run_sandbox(&mut self, config: &v1::PodSandboxConfig) -> anyhow::Result<String> {
        self.run_sandbox_with(config, "").await
    }

    /// `RunPodSandbox` with a runtime handler; the sandbox's id.
    pub async fn run_sandbox_with(
        &mut self,
        config: &v1::PodSandboxConfig,
        handler: &str,
    ) -> anyhow::Result<String> {
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        let call = self.runtime.run_pod_sandbox(request);
        Ok(answer("RunPodSandbox", CALL_LIMIT, call).await?.pod_sandbox_id)
    }

    /// `CreateContainer`; the container's id.
    pub async fn create(
        &mut self,
        sandbox: &str,
        config: &v1::ContainerConfig,
        sandbox_config: &v1::PodSandboxConfig,
    ) -> anyhow::Result<String> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(sandbox_config.clone()),
        };
        let call = self.runtime.create_container(request);
        Ok(answer("CreateContainer", CALL_LIMIT, call).await?.container_id)
    }

    /// `StartContainer`.
    pub async fn start(&mut self, container: &str) -> anyhow::Result<()> {
        let request = v1::StartContainerRequest { container_id: container.to_owned() };
        answer("StartContainer", CALL_LIMIT, self.runtime.start_container(request)).await.map(drop)
    }

    /// `ContainerStatus`.
    pub async fn status(&mut self, container: &str) -> anyhow::Result<v1::ContainerStatus> {
        let request =
            v1::ContainerStatusRequest { container_id: container.to_owned(), ..Default::default() };
        let call = self.runtime.container_status(request);
        let status = answer("ContainerStatus", CALL_LIMIT, call).await?.status;
        status.context("ContainerStatus has no status")
    }

    /// Id of a container's first process on the node, from what `ContainerStatus` adds when asked to be verbose.
    pub async fn process_id(&mut self, container: &str) -> anyhow::Result<i32> {
        let request =
            v1::ContainerStatusRequest { container_id: container.to_owned(), verbose: true };
        let call = self.runtime.container_status(request);
        let info = answer("ContainerStatus", CALL_LIMIT, call).await?.info;
        let text = info.get("info").context("ContainerStatus has no info")?;
        let info: serde_json::Value = serde_json::from_str(text).context("read the info")?;
        let pid = info["pid"].as_i64().context("the info has no pid")?;
        i32::try_from(pid).context("not a process id")
    }

    /// `ExecSync`; standard output, when the command ended with 0.
    pub async fn exec(&mut self, container: &str, command: &[&str]) -> anyhow::Result<String> {
        let request = v1::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout: 0,
        };
        let result = answer("ExecSync", CALL_LIMIT, self.runtime.exec_sync(request)).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&result.stdout), text(&result.stderr));
        anyhow::ensure!(
            result.exit_code == 0,
            "{command:?} ended with {}: {err}{out}",
            result.exit_code
        );
        Ok(out)
    }

    /// `StopContainer` with a grace period in seconds.
    pub async fn stop(&mut self, container: &str, grace_s: i64) -> anyhow::Result<()> {
        let request =
            v1::StopContainerRequest { container_id: container.to_owned(), timeout: grace_s };
        answer("StopContainer", CALL_LIMIT, self.runtime.stop_container(request)).await.map(drop)
    }

    /// `RemoveContainer`.
    pub async fn remove(&mut self, container: &str) -> anyhow::Result<()> {
        let request = v1::RemoveContainerRequest { container_id: container.to_owned() };
        answer("RemoveContainer", CALL_LIMIT, self.runtime.remove_container(request))
            .await
            .map(drop)
    }

    /// `StopPodSandbox` and `RemovePodSandbox`.
    pub async fn remove_sandbox(&mut self, sandbox: &str) -> anyhow::Result<()> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: sandbox.to_owned() };
        answer("StopPodSandbox", CALL_LIMIT, self.runtime.stop_pod_sandbox(request)).await?;
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.to_owned() };
        answer("RemovePodSandbox", CALL_LIMIT, self.runtime.remove_pod_sandbox(request))
            .await
            .map(drop)
    }

    /// `ListPodSandbox` without a filter.
    pub async fn sandboxes(&mut self) -> anyhow::Result<Vec<v1::PodSandbox>> {
        let call = self.runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default());
        Ok(answer("ListPodSandbox", CALL_LIMIT, call).await?.items)
    }

    /// `ListContainers` without a filter.
    pub async fn containers(&mut self) -> anyhow::Result<Vec<v1::Container>> {
        let call = self.runtime.list_containers(v1::ListContainersRequest::default());
        Ok(answer("ListContainers", CALL_LIMIT, call).await?.containers)
    }
}

/// An image by its name.
#[must_use]
pub fn image(name: &str) -> v1::ImageSpec {
    v1::ImageSpec { image: name.to_owned(), ..Default::default() }
}

/// A sandbox as a kubelet asks for one, each container with a process id namespace of its own.
#[must_use]
pub fn sandbox(name: &str) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "tests".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: format!("/var/log/pods/tests_{name}"),
        labels: HashMap::from([("suite".to_owned(), "tests".to_owned())]),
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(container_pids()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A sandbox that shares the node's network, processes and IPC, and whose containers may be privileged.
#[must_use]
pub fn node_sandbox(name: &str) -> v1::PodSandboxConfig {
    let mut config = sandbox(name);
    config.hostname = String::new();
    let linux = config.linux.get_or_insert_default();
    linux.security_context = Some(v1::LinuxSandboxSecurityContext {
        namespace_options: Some(node_namespaces()),
        privileged: true,
        ..Default::default()
    });
    config
}

/// A container that runs `image` with `command`; none is the image's own.
#[must_use]
pub fn container(name: &str, image_name: &str, command: &[&str]) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(image(image_name)),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(container_pids()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A privileged container of a [`node_sandbox`].
#[must_use]
pub fn node_container(name: &str, image_name: &str, command: &[&str]) -> v1::ContainerConfig {
    let mut config = container(name, image_name, command);
    config.linux.get_or_insert_default().security_context =
        Some(v1::LinuxContainerSecurityContext {
            namespace_options: Some(node_namespaces()),
            privileged: true,
            ..Default::default()
        });
    config
}

/// A folder of the node at the same path in a container; mounts made on either side appear on the other.
#[must_use]
pub fn node_path(path: &str) -> v1::Mount {
    v1::Mount {
        container_path: path.to_owned(),
        host_path: path.to_owned(),
        propagation: v1::MountPropagation::PropagationBidirectional.into(),
        ..Default::default()
    }
}

fn container_pids() -> v1::NamespaceOption {
    v1::NamespaceOption { pid: v1::NamespaceMode::Container.into(), ..Default::default() }
}

fn node_namespaces() -> v1::NamespaceOption {
    let node = v1::NamespaceMode::Node.into();
    v1::NamespaceOption { network: node, pid: node, ipc: node, ..Default::default() }
}
