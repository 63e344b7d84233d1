//! `kubeconfig`: access to the cluster, for a while.

use crate::cli::Kubeconfig;
use crate::failure::Failure;
use crate::session::Session;
use ingot_api::machine::v1::{KubeconfigRequest, KubeconfigResponse};

pub(super) async fn run(session: &Session<'_>, args: &Kubeconfig) -> Result<(), Failure> {
    let node = session.connect().await?;
    let message = KubeconfigRequest {
        lifetime: args.lifetime.try_into().ok(),
        server: args.server.clone().unwrap_or_default(),
    };
    let answer = node
        .call("Kubeconfig", message, async |mut api, request| api.kubeconfig(request).await)
        .await?;
    session.output.answer("KubeconfigResponse", &answer, |answer: &KubeconfigResponse| {
        answer.kubeconfig.clone()
    })
}
