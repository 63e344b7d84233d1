//! `join-token`: lets workers into the cluster, for a while.

use crate::cli::JoinToken;
use crate::failure::Failure;
use crate::session::Session;
use ingot_api::machine::v1::{JoinTokenRequest, JoinTokenResponse};

pub(super) async fn run(session: &Session<'_>, args: &JoinToken) -> Result<(), Failure> {
    let node = session.connect().await?;
    let message = JoinTokenRequest {
        lifetime: args.lifetime.try_into().ok(),
        server: args.server.clone().unwrap_or_default(),
    };
    let answer = node
        .call("JoinToken", message, async |mut api, request| api.join_token(request).await)
        .await?;
    session.output.answer("JoinTokenResponse", &answer, |answer: &JoinTokenResponse| {
        format!("{}\n", answer.token)
    })
}
