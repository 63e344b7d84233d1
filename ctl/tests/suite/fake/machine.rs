//! The fake's RPCs: a role check that answers as a node does, and canned answers behind it.

use super::programs::{self, Programs};
use super::{Caller, answers};
use ingot_api::machine::v1::machine_server::Machine as Service;
use ingot_api::machine::v1::*;
use ingot_pki::pairing::{Exchange, PairingCode, nonce};
use ingot_pki::{Fingerprint, Role};
use std::pin::Pin;
use tokio_stream::Stream;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::{Code, Request, Response, Status, Streaming};

pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) struct Machine {
    code: Option<PairingCode>,
    fingerprint: Fingerprint,
    programs: Programs,
}

impl Machine {
    pub(crate) fn new(code: Option<PairingCode>, fingerprint: Fingerprint) -> Self {
        Self { code, fingerprint, programs: Programs::default() }
    }

    fn need<T>(&self, request: &Request<T>, role: Role) -> Result<(), Status> {
        let caller = request.extensions().get::<Caller>().and_then(|caller| caller.0.as_ref());
        if caller.and_then(|info| info.role).is_some_and(|has| has >= role) {
            return Ok(());
        }
        Err(hinted(
            Code::PermissionDenied,
            format!("this needs the role {role}"),
            format!("use a context whose certificate has the role {role} – \"ingot:{role}\""),
        ))
    }
}

pub(super) fn hinted(code: Code, message: String, hint: String) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert_bin(ingot_api::HINT_METADATA, BinaryMetadataValue::from_bytes(hint.as_bytes()));
    Status::with_metadata(code, message, metadata)
}

/// The messages, and then silence when the caller follows.
fn stream<T: Send + 'static>(messages: Vec<T>, follow: bool) -> Response<Answers<T>> {
    use tokio_stream::StreamExt;
    let ended = tokio_stream::iter(messages.into_iter().map(Ok));
    if follow {
        Response::new(Box::pin(ended.chain(tokio_stream::pending())))
    } else {
        Response::new(Box::pin(ended))
    }
}

/// Messages of which each travels alone.
fn one_by_one<T: Send + 'static>(
    messages: impl Iterator<Item = T> + Send + 'static,
) -> Response<Answers<T>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        for message in messages {
            if sender.send(Ok(message)).await.is_err() {
                return;
            }
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
    });
    Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver)))
}

#[tonic::async_trait]
impl Service for Machine {
    async fn version(
        &self,
        _: Request<VersionRequest>,
    ) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(answers::version(self.code.is_some())))
    }

    async fn pair(&self, request: Request<PairRequest>) -> Result<Response<PairResponse>, Status> {
        let Some(code) = &self.code else {
            return Err(Status::failed_precondition("the node has a config"));
        };
        let exchange = Exchange {
            certificate: self.fingerprint,
            client_nonce: request.into_inner().client_nonce.try_into().unwrap(),
            server_nonce: nonce().unwrap(),
        };
        Ok(Response::new(PairResponse {
            server_nonce: exchange.server_nonce.to_vec(),
            server_proof: exchange.server_proof(code).to_vec(),
        }))
    }

    async fn apply_config(
        &self,
        request: Request<ApplyConfigRequest>,
    ) -> Result<Response<ApplyConfigResponse>, Status> {
        match &self.code {
            None => self.need(&request, Role::Admin)?,
            Some(code) => {
                let message = request.get_ref();
                let exchange = Exchange {
                    certificate: self.fingerprint,
                    client_nonce: message.client_nonce.clone().try_into().unwrap(),
                    server_nonce: message.server_nonce.clone().try_into().unwrap(),
                };
                if !exchange.verify_client_proof(code, &message.config, &message.pairing_proof) {
                    return Err(Status::unauthenticated("the pairing proof is wrong"));
                }
            }
        }
        Ok(Response::new(answers::apply(request.get_ref())))
    }

    async fn get_config(
        &self,
        request: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        self.need(&request, Role::Operator)?;
        Ok(Response::new(answers::config()))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        self.need(&request, Role::Reader)?;
        Ok(Response::new(answers::status()))
    }

    async fn list_pods(
        &self,
        request: Request<ListPodsRequest>,
    ) -> Result<Response<ListPodsResponse>, Status> {
        self.need(&request, Role::Reader)?;
        Ok(Response::new(answers::pods()))
    }

    async fn pod_stats(
        &self,
        request: Request<PodStatsRequest>,
    ) -> Result<Response<PodStatsResponse>, Status> {
        self.need(&request, Role::Reader)?;
        Ok(Response::new(answers::stats()))
    }

    type PodLogsStream = Answers<PodLogsResponse>;

    async fn pod_logs(
        &self,
        request: Request<PodLogsRequest>,
    ) -> Result<Response<Self::PodLogsStream>, Status> {
        self.need(&request, Role::Reader)?;
        if request.get_ref().pod == "chatter" {
            return Ok(one_by_one(answers::chatter()));
        }
        if request.get_ref().pod != "web" {
            return Err(hinted(
                Code::NotFound,
                format!(
                    "there is no pod {}/{}",
                    request.get_ref().namespace,
                    request.get_ref().pod
                ),
                "list them with ListPods".into(),
            ));
        }
        Ok(stream(answers::logs(request.get_ref()), request.get_ref().follow))
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersResponse>, Status> {
        self.need(&request, Role::Reader)?;
        Ok(Response::new(answers::containers()))
    }

    type ExecStream = Answers<ExecResponse>;

    async fn exec(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        self.need(&request, Role::Admin)?;
        programs::exec(request.into_inner()).await
    }

    type AttachStream = Answers<AttachResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        self.need(&request, Role::Admin)?;
        programs::attach(request.into_inner()).await
    }

    type PortForwardStream = Answers<PortForwardResponse>;

    async fn port_forward(
        &self,
        request: Request<Streaming<PortForwardRequest>>,
    ) -> Result<Response<Self::PortForwardStream>, Status> {
        self.need(&request, Role::Admin)?;
        programs::port_forward(request.into_inner()).await
    }

    async fn copy_in(
        &self,
        request: Request<Streaming<CopyInRequest>>,
    ) -> Result<Response<CopyInResponse>, Status> {
        self.need(&request, Role::Admin)?;
        self.programs.copy_in(request.into_inner()).await
    }

    type CopyOutStream = Answers<CopyOutResponse>;

    async fn copy_out(
        &self,
        request: Request<CopyOutRequest>,
    ) -> Result<Response<Self::CopyOutStream>, Status> {
        self.need(&request, Role::Admin)?;
        Ok(stream(self.programs.copy_out(), false))
    }

    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        self.need(&request, Role::Reader)?;
        Ok(Response::new(answers::images()))
    }

    type PullImageStream = Answers<PullImageResponse>;

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<Self::PullImageStream>, Status> {
        self.need(&request, Role::Operator)?;
        if request.get_ref().password != "secret" && !request.get_ref().username.is_empty() {
            return Err(Status::failed_precondition("the registry refuses the password"));
        }
        let report =
            |bytes, id: &str| PullImageResponse { bytes, bytes_total: 2000, id: id.into() };
        Ok(stream(vec![report(1000, ""), report(2000, "sha256:4f2a")], false))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        self.need(&request, Role::Operator)?;
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn import_images(
        &self,
        request: Request<Streaming<ImportImagesRequest>>,
    ) -> Result<Response<ImportImagesResponse>, Status> {
        self.need(&request, Role::Operator)?;
        let mut messages = request.into_inner();
        let mut size_bytes = 0;
        while let Some(message) = messages.message().await? {
            size_bytes += message.archive.len() as u64;
        }
        let id = "sha256:4f2a".into();
        let image = Image { id, tags: vec!["web:1".into()], size_bytes, ..Default::default() };
        Ok(Response::new(ImportImagesResponse { images: vec![image] }))
    }

    type ExportImageStream = Answers<ExportImageResponse>;

    async fn export_image(
        &self,
        request: Request<ExportImageRequest>,
    ) -> Result<Response<Self::ExportImageStream>, Status> {
        self.need(&request, Role::Operator)?;
        if request.get_ref().image == "gone" {
            return Err(Status::not_found("gone is not here"));
        }
        let piece = |text: &str| Ok(ExportImageResponse { archive: text.into() });
        let last = match request.get_ref().image.as_str() {
            "cut" => Err(Status::data_loss("the disk of the node failed")),
            _ => piece("second\n"),
        };
        Ok(Response::new(Box::pin(tokio_stream::iter([piece("first "), last]))))
    }

    async fn collect_images(
        &self,
        request: Request<CollectImagesRequest>,
    ) -> Result<Response<CollectImagesResponse>, Status> {
        self.need(&request, Role::Operator)?;
        let removed = if request.get_ref().unused { vec!["sha256:4f2a".into()] } else { vec![] };
        Ok(Response::new(CollectImagesResponse { freed_bytes: 5 << 20, removed }))
    }

    async fn list_services(
        &self,
        request: Request<ListServicesRequest>,
    ) -> Result<Response<ListServicesResponse>, Status> {
        self.need(&request, Role::Reader)?;
        Ok(Response::new(answers::services()))
    }

    async fn restart_service(
        &self,
        request: Request<RestartServiceRequest>,
    ) -> Result<Response<RestartServiceResponse>, Status> {
        self.need(&request, Role::Admin)?;
        Ok(Response::new(RestartServiceResponse {}))
    }

    type DmesgStream = Answers<DmesgResponse>;

    async fn dmesg(
        &self,
        request: Request<DmesgRequest>,
    ) -> Result<Response<Self::DmesgStream>, Status> {
        self.need(&request, Role::Reader)?;
        Ok(stream(answers::dmesg(), request.get_ref().follow))
    }

    type EventsStream = Answers<Event>;

    async fn events(
        &self,
        request: Request<EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        self.need(&request, Role::Reader)?;
        Ok(stream(answers::events(), request.get_ref().follow))
    }

    async fn cgroups(
        &self,
        request: Request<CgroupsRequest>,
    ) -> Result<Response<CgroupsResponse>, Status> {
        self.need(&request, Role::Reader)?;
        Ok(Response::new(answers::cgroups()))
    }

    type ListFilesStream = Answers<FileInfo>;

    async fn list_files(
        &self,
        request: Request<ListFilesRequest>,
    ) -> Result<Response<Self::ListFilesStream>, Status> {
        self.need(&request, Role::Operator)?;
        Ok(stream(answers::files(), false))
    }

    type ReadFileStream = Answers<ReadFileResponse>;

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        self.need(&request, Role::Operator)?;
        let parts = [&b"6.12.107\n"[..], b"second part\n"];
        let parts = parts.map(|data| ReadFileResponse { data: data.to_vec() });
        Ok(stream(parts.to_vec(), false))
    }

    async fn bootstrap(
        &self,
        request: Request<BootstrapRequest>,
    ) -> Result<Response<BootstrapResponse>, Status> {
        self.need(&request, Role::Admin)?;
        Ok(Response::new(BootstrapResponse { cluster: "home".into(), node: "node-1".into() }))
    }

    async fn kubeconfig(
        &self,
        request: Request<KubeconfigRequest>,
    ) -> Result<Response<KubeconfigResponse>, Status> {
        self.need(&request, Role::Admin)?;
        let KubeconfigRequest { lifetime, server } = request.into_inner();
        let seconds = lifetime.map_or(0, |lifetime| lifetime.seconds);
        let kubeconfig = format!("server: {server}\nseconds: {seconds}\n");
        Ok(Response::new(KubeconfigResponse { kubeconfig, expires_at: None }))
    }

    async fn join_token(
        &self,
        request: Request<JoinTokenRequest>,
    ) -> Result<Response<JoinTokenResponse>, Status> {
        self.need(&request, Role::Admin)?;
        let JoinTokenRequest { lifetime, server } = request.into_inner();
        let seconds = lifetime.map_or(0, |lifetime| lifetime.seconds);
        let token = format!("ingot-join-1.{server}.{seconds}");
        Ok(Response::new(JoinTokenResponse { token, expires_at: None }))
    }

    async fn plan_kubernetes_upgrade(
        &self,
        request: Request<PlanKubernetesUpgradeRequest>,
    ) -> Result<Response<PlanKubernetesUpgradeResponse>, Status> {
        self.need(&request, Role::Operator)?;
        Ok(Response::new(answers::upgrade(request.into_inner().to_version)))
    }

    async fn health(
        &self,
        request: Request<HealthRequest>,
    ) -> Result<Response<HealthResponse>, Status> {
        self.need(&request, Role::Reader)?;
        Ok(Response::new(answers::health()))
    }

    async fn etcd_members(
        &self,
        request: Request<EtcdMembersRequest>,
    ) -> Result<Response<EtcdMembersResponse>, Status> {
        self.need(&request, Role::Reader)?;
        Ok(Response::new(answers::etcd_members()))
    }

    async fn etcd_status(
        &self,
        request: Request<EtcdStatusRequest>,
    ) -> Result<Response<EtcdStatusResponse>, Status> {
        self.need(&request, Role::Reader)?;
        Ok(Response::new(answers::etcd_status()))
    }

    type EtcdSnapshotStream = Answers<EtcdSnapshotResponse>;

    async fn etcd_snapshot(
        &self,
        request: Request<EtcdSnapshotRequest>,
    ) -> Result<Response<Self::EtcdSnapshotStream>, Status> {
        self.need(&request, Role::Admin)?;
        let parts = [&b"first "[..], b"second"];
        let parts = parts.map(|data| EtcdSnapshotResponse { data: data.to_vec() });
        Ok(stream(parts.to_vec(), false))
    }

    async fn etcd_restore(
        &self,
        request: Request<Streaming<EtcdRestoreRequest>>,
    ) -> Result<Response<EtcdRestoreResponse>, Status> {
        self.need(&request, Role::Admin)?;
        let mut messages = request.into_inner();
        let mut size = 0;
        while let Some(message) = messages.message().await? {
            size += message.data.len();
        }
        if size == 0 {
            return Err(Status::invalid_argument("this is no snapshot"));
        }
        Ok(Response::new(EtcdRestoreResponse {}))
    }

    async fn etcd_defragment(
        &self,
        request: Request<EtcdDefragmentRequest>,
    ) -> Result<Response<EtcdDefragmentResponse>, Status> {
        self.need(&request, Role::Operator)?;
        Ok(Response::new(EtcdDefragmentResponse {
            size_bytes_before: 20 << 20,
            size_bytes_after: 3 << 20,
        }))
    }

    async fn reboot(
        &self,
        request: Request<RebootRequest>,
    ) -> Result<Response<RebootResponse>, Status> {
        self.need(&request, Role::Operator)?;
        Ok(Response::new(RebootResponse {}))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        self.need(&request, Role::Operator)?;
        Ok(Response::new(ShutdownResponse {}))
    }
}
