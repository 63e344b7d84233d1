//! `bootstrap`: has the node make a cluster.

use crate::failure::Failure;
use crate::session::Session;
use ingot_api::machine::v1::{BootstrapRequest, BootstrapResponse};

pub(super) async fn run(session: &Session<'_>) -> Result<(), Failure> {
    let node = session.connect().await?;
    let answer = node
        .call("Bootstrap", BootstrapRequest {}, async |mut api, request| {
            api.bootstrap(request).await
        })
        .await?;
    session.output.answer("BootstrapResponse", &answer, |answer: &BootstrapResponse| {
        format!(
            "cluster \"{}\" comes up on node \"{}\"; see: ingotctl health\n",
            answer.cluster, answer.node
        )
    })
}
