//! `ApplyConfig`: checks a config and, unless it is a dry run, makes it the node's wish.

use super::peer;
use crate::apply::ApplyError;
use crate::grpc::Api;
use crate::grpc::auth::Peer;
use crate::grpc::status::{failed, with_hint};
use crate::pairing::PairingError;
use crate::report;
use crate::state::Severity;
use ingot_api::machine::v1 as pb;
use ingot_machine_config::Problem;
use ingot_pki::pairing::Exchange;
use std::time::Instant;
use tonic::{Code, Request, Status};

pub(super) async fn call(
    api: &Api,
    request: Request<pb::ApplyConfigRequest>,
) -> Result<pb::ApplyConfigResponse, Status> {
    let peer = peer(&request)?;
    let request = request.into_inner();
    if peer.client.is_none() {
        prove(api, &peer, &request)?;
    }
    let applied = api.applier.apply(request.config, request.dry_run).await.map_err(refuse)?;
    Ok(pb::ApplyConfigResponse {
        generation: applied.generation,
        problems: applied.problems.into_iter().map(problem).collect(),
        unchanged: applied.unchanged,
        changes: applied.changes,
    })
}

/// In maintenance mode: the caller must know the pairing code.
fn prove(api: &Api, peer: &Peer, request: &pb::ApplyConfigRequest) -> Result<(), Status> {
    let exchange = exchange(peer, request).ok_or_else(|| {
        with_hint(
            Code::Unauthenticated,
            "the node waits for its first config and takes it only with a pairing proof",
            "use `ingotctl apply --pairing-code CODE` with the code on the node's console",
        )
    })?;
    let checked =
        api.pairing.check(&exchange, &request.config, &request.pairing_proof, Instant::now());
    checked.map_err(|error| {
        let message = format!("{error} (from {})", peer.address);
        api.state.events.record(Severity::Warning, "AuthenticationFailed", "api", message);
        let (code, hint) = match error {
            PairingError::UnknownExchange => (Code::Unauthenticated, "run the command again"),
            PairingError::WrongCode => {
                (Code::Unauthenticated, "read the code from the node's console again")
            }
            PairingError::TooMany => (Code::ResourceExhausted, "wait a minute"),
        };
        with_hint(code, error.to_string(), hint)
    })
}

fn exchange(peer: &Peer, request: &pb::ApplyConfigRequest) -> Option<Exchange> {
    Some(Exchange {
        certificate: peer.server,
        client_nonce: request.client_nonce.as_slice().try_into().ok()?,
        server_nonce: request.server_nonce.as_slice().try_into().ok()?,
    })
}

fn refuse(error: ApplyError) -> Status {
    match &error {
        ApplyError::NoState(_) => with_hint(
            Code::FailedPrecondition,
            error.to_string(),
            "look at the node's console: the condition \"storage\" says what is wrong",
        ),
        ApplyError::Store(_) if report::chain(&error).contains("No space left") => with_hint(
            Code::ResourceExhausted,
            report::chain(&error),
            "the partition STATE is full; the config before it is still in use",
        ),
        ApplyError::Store(_) => failed(&error, "the config before it is still in use"),
        ApplyError::Stopping => with_hint(Code::Unavailable, error.to_string(), "try again"),
    }
}

fn problem(problem: Problem) -> pb::ConfigProblem {
    pb::ConfigProblem {
        document: problem.document,
        path: problem.path,
        line: problem.line,
        column: problem.column,
        message: problem.message,
        hint: problem.hint,
    }
}
