//! `JoinToken`: lets workers into the cluster of this node, for a while.

use crate::controllers::kubernetes::addresses;
use crate::grpc::Api;
use crate::grpc::convert;
use crate::grpc::status::with_hint;
use crate::kubernetes::access::server;
use crate::kubernetes::tokens;
use crate::state::Severity;
use ingot_api::machine::v1 as pb;
use std::time::{Duration, SystemTime};
use tonic::{Code, Status};

/// A token is good for this long when nobody says otherwise.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// And at most for this long.
const LIFETIME_MAX: Duration = Duration::from_secs(31 * 24 * 60 * 60);

pub(super) async fn call(
    api: &Api,
    request: pb::JoinTokenRequest,
) -> Result<pb::JoinTokenResponse, Status> {
    let record = super::made_cluster(api)?;
    let lifetime = convert::grace(request.lifetime, LIFETIME_DEFAULT)
        .filter(|lifetime| (Duration::from_secs(60)..=LIFETIME_MAX).contains(lifetime))
        .ok_or_else(|| {
            with_hint(Code::InvalidArgument, "the lifetime is not from a minute to a month", "")
        })?;
    let config = api.state.desired.config();
    let section = config.as_ref().and_then(|config| config.config.machine.kubernetes.as_ref());
    let given = if request.server.is_empty() { None } else { Some(request.server.as_str()) };
    let endpoint = given.or_else(|| section.and_then(|section| section.endpoint.as_deref()));
    let server = server(endpoint, &addresses(&api.state));
    let server = server.trim_start_matches("https://").to_owned();
    let expires_at = SystemTime::now() + lifetime;
    let client = super::api_server(api, &record).await?;
    let failed = |error: anyhow::Error| super::no_api_server(&error);
    let secret = tokens::draw().map_err(failed)?;
    let authority = tokens::authority(&api.kubernetes).map_err(failed)?;
    let token = tokens::token(&record, authority, server, &secret).ok_or_else(|| {
        let message = format!("\"{}\" is no address of an API server", request.server);
        with_hint(Code::InvalidArgument, message, "write like 192.0.2.10:6443")
    })?;
    tokens::allow(&client, &secret, expires_at).await.map_err(failed)?;
    let message = format!("good for {} h", lifetime.as_secs().div_ceil(3600));
    api.state.events.record(Severity::Info, "JoinTokenIssued", "kubernetes", message);
    Ok(pb::JoinTokenResponse {
        token: token.expose().to_owned(),
        expires_at: Some(convert::timestamp(expires_at)),
    })
}
