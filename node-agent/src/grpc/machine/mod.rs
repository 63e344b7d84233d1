//! Every RPC in a file of its own: decode, call one function of the domain, encode. This file only hands over.

mod apply_config;
mod attach;
mod bootstrap;
mod cgroups;
mod collect_images;
mod copy_in;
mod copy_out;
mod dmesg;
mod etcd;
mod etcd_restore;
mod events;
mod exec;
mod export_image;
mod get_config;
mod health;
mod import_images;
mod join_token;
mod kubeconfig;
mod list_containers;
mod list_files;
mod list_images;
mod list_pods;
mod list_services;
mod pair;
mod plan_upgrade;
mod pod_logs;
mod pod_stats;
mod port_forward;
mod pull_image;
mod read_file;
mod reboot;
mod remove_image;
mod restart_service;
mod shutdown;
mod status;
mod streams;
mod version;

use super::Api;
use super::auth::Peer;
use super::status::{cancelled, with_hint};
use crate::kubernetes::access::client;
use crate::kubernetes::client::Client;
use crate::kubernetes::record::Record;
use futures::Stream;
use ingot_api::machine::v1 as pb;
use ingot_api::machine::v1::machine_server::Machine;
use ingot_machine_config::v1::kubernetes::Role as NodeRole;
use ingot_runtime::Engine;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request, Response, Status, Streaming};

/// A reply of many messages.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How long a call about pods waits for the pod engine, which comes up a moment after the API at each start of the agent.
/// Far more than it needs; less than any caller's patience.
const ENGINE_WAIT: Duration = Duration::from_secs(5);

/// The pod engine.
async fn engine(api: &Api) -> Result<Engine, Status> {
    api.pods
        .engine_within(ENGINE_WAIT)
        .await
        .map_err(|error| with_hint(Code::Unavailable, error.to_string(), "try again in a second"))
}

/// The cluster of this node.
fn cluster(api: &Api) -> Result<Arc<Record>, Status> {
    api.kubernetes.record().ok_or_else(|| {
        let message = "there is no cluster on this node";
        with_hint(Code::FailedPrecondition, message, "make one: ingotctl bootstrap")
    })
}

/// The cluster of this node, which must have made it: only there are its authorities.
fn made_cluster(api: &Api) -> Result<Arc<Record>, Status> {
    let config = api.state.desired.config();
    let section = config.as_ref().and_then(|config| config.config.machine.kubernetes.as_ref());
    let record = api.kubernetes.record();
    let joined = record.as_ref().is_some_and(|record| record.joined.is_some());
    // One that has not joined yet is not to be bootstrapped.
    let is_worker = section.is_some_and(|section| section.role == NodeRole::Worker);
    if joined || (record.is_none() && is_worker) {
        let message =
            "this node is a worker; only a control plane has the authorities of the cluster";
        let hint = "call the control plane node; give it with --endpoint";
        return Err(with_hint(Code::FailedPrecondition, message, hint));
    }
    cluster(api)
}

/// A client of the cluster's API server. It reads keys from the disk.
async fn api_server(api: &Api, record: &Arc<Record>) -> Result<Client, Status> {
    let (kubernetes, record) = (api.kubernetes.clone(), Arc::clone(record));
    let made = tokio::task::spawn_blocking(move || client(&kubernetes, &record));
    made.await.map_err(|_| cancelled())?.map_err(|error| no_api_server(&error))
}

/// What the caller is told when the API server does not do its part.
fn no_api_server(error: &anyhow::Error) -> Status {
    let hint = "see `ingotctl health`: the API server has to be up";
    with_hint(Code::Unavailable, format!("{error:#}"), hint)
}

/// The service.
pub(super) struct Rpcs {
    /// What it works with.
    pub(super) api: Api,
}

/// Who calls; the authorisation layer lets nobody through who has none.
fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Status::unauthenticated("the connection has no peer"))
}

#[tonic::async_trait]
impl Machine for Rpcs {
    async fn version(
        &self,
        request: Request<pb::VersionRequest>,
    ) -> Result<Response<pb::VersionResponse>, Status> {
        version::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn pair(
        &self,
        request: Request<pb::PairRequest>,
    ) -> Result<Response<pb::PairResponse>, Status> {
        pair::call(&self.api, request).await.map(Response::new)
    }

    async fn apply_config(
        &self,
        request: Request<pb::ApplyConfigRequest>,
    ) -> Result<Response<pb::ApplyConfigResponse>, Status> {
        apply_config::call(&self.api, request).await.map(Response::new)
    }

    async fn get_config(
        &self,
        request: Request<pb::GetConfigRequest>,
    ) -> Result<Response<pb::GetConfigResponse>, Status> {
        get_config::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        status::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn list_pods(
        &self,
        request: Request<pb::ListPodsRequest>,
    ) -> Result<Response<pb::ListPodsResponse>, Status> {
        list_pods::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn pod_stats(
        &self,
        request: Request<pb::PodStatsRequest>,
    ) -> Result<Response<pb::PodStatsResponse>, Status> {
        pod_stats::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    type PodLogsStream = Messages<pb::PodLogsResponse>;

    async fn pod_logs(
        &self,
        request: Request<pb::PodLogsRequest>,
    ) -> Result<Response<Self::PodLogsStream>, Status> {
        pod_logs::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn list_containers(
        &self,
        request: Request<pb::ListContainersRequest>,
    ) -> Result<Response<pb::ListContainersResponse>, Status> {
        list_containers::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    type ExecStream = Messages<pb::ExecResponse>;

    async fn exec(
        &self,
        request: Request<Streaming<pb::ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        exec::call(&self.api, request).await.map(Response::new)
    }

    type AttachStream = Messages<pb::AttachResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        attach::call(&self.api, request).await.map(Response::new)
    }

    type PortForwardStream = Messages<pb::PortForwardResponse>;

    async fn port_forward(
        &self,
        request: Request<Streaming<pb::PortForwardRequest>>,
    ) -> Result<Response<Self::PortForwardStream>, Status> {
        port_forward::call(&self.api, request).await.map(Response::new)
    }

    async fn copy_in(
        &self,
        request: Request<Streaming<pb::CopyInRequest>>,
    ) -> Result<Response<pb::CopyInResponse>, Status> {
        copy_in::call(&self.api, request).await.map(Response::new)
    }

    type CopyOutStream = Messages<pb::CopyOutResponse>;

    async fn copy_out(
        &self,
        request: Request<pb::CopyOutRequest>,
    ) -> Result<Response<Self::CopyOutStream>, Status> {
        copy_out::call(&self.api, request).await.map(Response::new)
    }

    async fn list_images(
        &self,
        request: Request<pb::ListImagesRequest>,
    ) -> Result<Response<pb::ListImagesResponse>, Status> {
        list_images::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    type PullImageStream = Messages<pb::PullImageResponse>;

    async fn pull_image(
        &self,
        request: Request<pb::PullImageRequest>,
    ) -> Result<Response<Self::PullImageStream>, Status> {
        pull_image::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn remove_image(
        &self,
        request: Request<pb::RemoveImageRequest>,
    ) -> Result<Response<pb::RemoveImageResponse>, Status> {
        remove_image::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn import_images(
        &self,
        request: Request<Streaming<pb::ImportImagesRequest>>,
    ) -> Result<Response<pb::ImportImagesResponse>, Status> {
        import_images::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    type ExportImageStream = Messages<pb::ExportImageResponse>;

    async fn export_image(
        &self,
        request: Request<pb::ExportImageRequest>,
    ) -> Result<Response<Self::ExportImageStream>, Status> {
        export_image::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn collect_images(
        &self,
        request: Request<pb::CollectImagesRequest>,
    ) -> Result<Response<pb::CollectImagesResponse>, Status> {
        collect_images::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn list_services(
        &self,
        request: Request<pb::ListServicesRequest>,
    ) -> Result<Response<pb::ListServicesResponse>, Status> {
        list_services::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn restart_service(
        &self,
        request: Request<pb::RestartServiceRequest>,
    ) -> Result<Response<pb::RestartServiceResponse>, Status> {
        restart_service::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    type DmesgStream = Messages<pb::DmesgResponse>;

    async fn dmesg(
        &self,
        request: Request<pb::DmesgRequest>,
    ) -> Result<Response<Self::DmesgStream>, Status> {
        dmesg::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    type EventsStream = Messages<pb::Event>;

    async fn events(
        &self,
        request: Request<pb::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        events::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn cgroups(
        &self,
        request: Request<pb::CgroupsRequest>,
    ) -> Result<Response<pb::CgroupsResponse>, Status> {
        cgroups::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    type ListFilesStream = Messages<pb::FileInfo>;

    async fn list_files(
        &self,
        request: Request<pb::ListFilesRequest>,
    ) -> Result<Response<Self::ListFilesStream>, Status> {
        list_files::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    type ReadFileStream = Messages<pb::ReadFileResponse>;

    async fn read_file(
        &self,
        request: Request<pb::ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        read_file::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn bootstrap(
        &self,
        request: Request<pb::BootstrapRequest>,
    ) -> Result<Response<pb::BootstrapResponse>, Status> {
        bootstrap::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn kubeconfig(
        &self,
        request: Request<pb::KubeconfigRequest>,
    ) -> Result<Response<pb::KubeconfigResponse>, Status> {
        kubeconfig::call(&self.api, request).await.map(Response::new)
    }

    async fn join_token(
        &self,
        request: Request<pb::JoinTokenRequest>,
    ) -> Result<Response<pb::JoinTokenResponse>, Status> {
        Box::pin(join_token::call(&self.api, request.into_inner())).await.map(Response::new)
    }

    async fn plan_kubernetes_upgrade(
        &self,
        request: Request<pb::PlanKubernetesUpgradeRequest>,
    ) -> Result<Response<pb::PlanKubernetesUpgradeResponse>, Status> {
        Box::pin(plan_upgrade::call(&self.api, request.into_inner())).await.map(Response::new)
    }

    async fn health(
        &self,
        request: Request<pb::HealthRequest>,
    ) -> Result<Response<pb::HealthResponse>, Status> {
        health::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn etcd_members(
        &self,
        request: Request<pb::EtcdMembersRequest>,
    ) -> Result<Response<pb::EtcdMembersResponse>, Status> {
        etcd::members(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn etcd_status(
        &self,
        request: Request<pb::EtcdStatusRequest>,
    ) -> Result<Response<pb::EtcdStatusResponse>, Status> {
        etcd::status(&self.api, request.into_inner()).await.map(Response::new)
    }

    type EtcdSnapshotStream = Messages<pb::EtcdSnapshotResponse>;

    async fn etcd_snapshot(
        &self,
        request: Request<pb::EtcdSnapshotRequest>,
    ) -> Result<Response<Self::EtcdSnapshotStream>, Status> {
        etcd::snapshot(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn etcd_restore(
        &self,
        request: Request<Streaming<pb::EtcdRestoreRequest>>,
    ) -> Result<Response<pb::EtcdRestoreResponse>, Status> {
        etcd_restore::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn etcd_defragment(
        &self,
        request: Request<pb::EtcdDefragmentRequest>,
    ) -> Result<Response<pb::EtcdDefragmentResponse>, Status> {
        etcd::defragment(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn reboot(
        &self,
        request: Request<pb::RebootRequest>,
    ) -> Result<Response<pb::RebootResponse>, Status> {
        reboot::call(&self.api, request.into_inner()).await.map(Response::new)
    }

    async fn shutdown(
        &self,
        request: Request<pb::ShutdownRequest>,
    ) -> Result<Response<pb::ShutdownResponse>, Status> {
        shutdown::call(&self.api, request.into_inner()).await.map(Response::new)
    }
}
