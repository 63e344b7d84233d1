//! `EtcdMembers`, `EtcdStatus`, `EtcdSnapshot`, `EtcdDefragment`: what operators do with the etcd of this node.

use super::Messages;
use crate::grpc::Api;
use crate::grpc::status::{cancelled, with_hint};
use crate::kubernetes::client::Client;
use crate::kubernetes::etcd;
use crate::state::Severity;
use futures::stream;
use ingot_api::machine::v1 as pb;
use std::time::SystemTime;
use tonic::{Code, Status};

/// A client of the node's etcd.
async fn client(api: &Api) -> Result<Client, Status> {
    super::made_cluster(api)?;
    let kubernetes = api.kubernetes.clone();
    let made = tokio::task::spawn_blocking(move || etcd::client(&kubernetes, SystemTime::now()));
    made.await.map_err(|_| cancelled())?.map_err(|error| refuse(&error))
}

fn refuse(error: &anyhow::Error) -> Status {
    with_hint(Code::Unavailable, format!("{error:#}"), "see `ingotctl health`")
}

pub(super) async fn members(
    api: &Api,
    _: pb::EtcdMembersRequest,
) -> Result<pb::EtcdMembersResponse, Status> {
    let members = etcd::members(&client(api).await?).await.map_err(|error| refuse(&error))?;
    let member = |member: etcd::Member| pb::EtcdMember {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        learner: member.learner,
    };
    Ok(pb::EtcdMembersResponse { members: members.into_iter().map(member).collect() })
}

pub(super) async fn status(
    api: &Api,
    _: pb::EtcdStatusRequest,
) -> Result<pb::EtcdStatusResponse, Status> {
    let status = etcd::status(&client(api).await?).await.map_err(|error| refuse(&error))?;
    Ok(pb::EtcdStatusResponse {
        version: status.version,
        size_bytes: status.size_bytes,
        used_bytes: status.used_bytes,
        leader: status.leads,
        raft_index: status.raft_index,
        errors: status.errors,
    })
}

pub(super) async fn snapshot(
    api: &Api,
    _: pb::EtcdSnapshotRequest,
) -> Result<Messages<pb::EtcdSnapshotResponse>, Status> {
    let client = client(api).await?;
    let snapshot = etcd::snapshot(&client).await.map_err(|error| refuse(&error))?;
    api.state.events.record(Severity::Info, "EtcdSnapshot", "kubernetes", "on request");
    Ok(Box::pin(stream::unfold(Some(snapshot), |snapshot| async move {
        let mut snapshot = snapshot?;
        match snapshot.next().await {
            Ok(None) => None,
            Ok(Some(data)) => Some((Ok(pb::EtcdSnapshotResponse { data }), Some(snapshot))),
            Err(error) => Some((Err(refuse(&error)), None)),
        }
    })))
}

pub(super) async fn defragment(
    api: &Api,
    _: pb::EtcdDefragmentRequest,
) -> Result<pb::EtcdDefragmentResponse, Status> {
    let client = client(api).await?;
    let before = etcd::status(&client).await.map_err(|error| refuse(&error))?;
    etcd::defragment(&client).await.map_err(|error| refuse(&error))?;
    let after = etcd::status(&client).await.map_err(|error| refuse(&error))?;
    let (size_bytes_before, size_bytes_after) = (before.size_bytes, after.size_bytes);
    Ok(pb::EtcdDefragmentResponse { size_bytes_before, size_bytes_after })
}
