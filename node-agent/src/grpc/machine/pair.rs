//! `Pair`: begins an exchange that proves knowledge of the pairing code.

use super::peer;
use crate::grpc::Api;
use crate::grpc::status::{failed, with_hint};
use ingot_api::machine::v1 as pb;
use std::time::Instant;
use tonic::{Code, Request, Status};

pub(super) async fn call(
    api: &Api,
    request: Request<pb::PairRequest>,
) -> Result<pb::PairResponse, Status> {
    let peer = peer(&request)?;
    if peer.client.is_some() {
        let hint = "apply without pairing: the client certificate is proof enough";
        return Err(with_hint(Code::FailedPrecondition, "the node has a config already", hint));
    }
    let nonce = request.into_inner().client_nonce;
    let client_nonce = nonce.as_slice().try_into().map_err(|_| {
        let message = format!("the client nonce has {} bytes instead of 32", nonce.len());
        with_hint(Code::InvalidArgument, message, "")
    })?;
    let begun = api.pairing.begin(peer.server, client_nonce, Instant::now());
    let (server_nonce, server_proof) = begun.map_err(|error| failed(&error, ""))?;
    Ok(pb::PairResponse { server_nonce: server_nonce.to_vec(), server_proof })
}
