//! Every RPC in a file of its own: decode, call one function of the domain, encode. This file only hands over.

mod apply_config;
mod cgroups;
mod dmesg;
mod events;
mod get_config;
mod list_files;
mod list_pods;
mod list_services;
mod pair;
mod pod_logs;
mod pod_stats;
mod read_file;
mod reboot;
mod restart_service;
mod shutdown;
mod status;
mod version;

use super::Api;
use super::auth::Peer;
use super::status::with_hint;
use futures::Stream;
use ingot_api::machine::v1 as pb;
use ingot_api::machine::v1::machine_server::Machine;
use ingot_runtime::Engine;
use std::pin::Pin;
use std::time::Duration;
use tonic::{Code, Request, Response, Status};

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
