//! `get-config`: the config the node works towards, without secrets.

use crate::failure::Failure;
use crate::session::Session;
use ingot_api::machine::v1::GetConfigRequest;

pub(super) async fn run(session: &Session<'_>) -> Result<(), Failure> {
    let node = session.connect().await?;
    let answer = node
        .call("GetConfig", GetConfigRequest {}, async |mut api, request| {
            api.get_config(request).await
        })
        .await?;
    session.output.answer("GetConfigResponse", &answer, |answer| {
        format!("# generation {}, from {}\n{}", answer.generation, answer.source, answer.config)
    })
}
