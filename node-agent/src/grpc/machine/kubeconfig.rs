//! `Kubeconfig`: access to the cluster for the person who calls, for a while.

use crate::controllers::kubernetes::addresses;
use crate::grpc::Api;
use crate::grpc::convert;
use crate::grpc::status::{cancelled, with_hint};
use crate::kubernetes::access::{LIFETIME_DEFAULT, LIFETIME_MAX, kubeconfig, server};
use crate::state::Severity;
use ingot_api::machine::v1 as pb;
use std::time::{Duration, SystemTime};
use tonic::{Code, Request, Status};

pub(super) async fn call(
    api: &Api,
    request: Request<pb::KubeconfigRequest>,
) -> Result<pb::KubeconfigResponse, Status> {
    let peer = super::peer(&request)?;
    let request = request.into_inner();
    let user = peer.client.map_or_else(|| "admin".to_owned(), |client| client.name);
    let record = super::made_cluster(api)?;
    let lifetime = convert::grace(request.lifetime, LIFETIME_DEFAULT)
        .filter(|lifetime| (Duration::from_secs(60)..=LIFETIME_MAX).contains(lifetime))
        .ok_or_else(|| {
            with_hint(Code::InvalidArgument, "the lifetime is not from a minute to a year", "")
        })?;
    let config = api.state.desired.config();
    let section = config.as_ref().and_then(|config| config.config.machine.kubernetes.as_ref());
    let server = if request.server.is_empty() {
        server(section.and_then(|section| section.endpoint.as_deref()), &addresses(&api.state))
    } else if is_address(&request.server) {
        request.server
    } else {
        let message = format!("\"{}\" is no address of an API server", request.server);
        return Err(with_hint(
            Code::InvalidArgument,
            message,
            "write like https://192.0.2.10:6443",
        ));
    };
    let message = format!("for \"{user}\", good for {} h", lifetime.as_secs().div_ceil(3600));
    let now = SystemTime::now();
    let kubernetes = api.kubernetes.clone();
    let made = tokio::task::spawn_blocking(move || {
        kubeconfig(&kubernetes, &record, &user, lifetime, &server, now)
    });
    let text = made.await.map_err(|_| cancelled())?;
    let text = text.map_err(|error| Status::internal(format!("{error:#}")))?;
    api.state.events.record(Severity::Info, "KubeconfigIssued", "kubernetes", message);
    Ok(pb::KubeconfigResponse {
        kubeconfig: text,
        expires_at: Some(convert::timestamp(now + lifetime)),
    })
}

/// It stands in YAML as it is.
fn is_address(text: &str) -> bool {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-.:[]/".contains(c);
    text.starts_with("https://") && text.len() <= 256 && text.chars().all(harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_nothing_that_means_more_in_yaml() {
        assert!(is_address("https://[fd00::1]:6443"));
        assert!(!is_address("http://192.0.2.10:6443"));
        assert!(!is_address("https://a\nusers: []"));
    }
}
