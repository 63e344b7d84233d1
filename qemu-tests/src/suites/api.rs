//! Suite `api`: who may call what, what everybody else is told, and that the node remembers it.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use ingot_api::FILE_DESCRIPTOR_SET;
use ingot_pki::{Identity, Role};
use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::SharedNode;
use crate::client::{self, whole_error};
use crate::credentials::Credentials;
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// The agent writes an event after it has answered.
const EVENT_LIMIT: Duration = Duration::from_secs(20);
/// One call of a wrong caller.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Calls that an allowed caller must not really make here: they end the node. Other suites make them.
const ENDS_THE_NODE: &[&str] = &["Reboot", "Shutdown"];

/// Runs the suite.
pub(super) async fn run(node: &mut SharedNode<'_>, report: &Report) {
    let Some(machine) = node.get(report).await else { return };
    report
        .check(
            "a client without a certificate is refused, clearly and on record",
            machine,
            async |machine| refused(machine, None, "certificate").await,
        )
        .await;
    report
        .check(
            "a client of another authority is refused, clearly and on record",
            machine,
            async |machine| {
                let other = Credentials::generate()?;
                refused(machine, Some(&other.admin), "unknown").await
            },
        )
        .await;
    report
        .check(
            "a client with an expired certificate is refused, clearly and on record",
            machine,
            async |machine| {
                let expired = machine.credentials().expired()?;
                refused(machine, Some(&expired), "expired").await
            },
        )
        .await;
    report
        .check("every RPC asks for exactly the role its comment names", machine, role_matrix)
        .await;
    report.check("too small a role is recorded as an event", machine, denial_is_recorded).await;
    report.check("the health service says that it serves", machine, health).await;
    report.check("reflection lists the machine API", machine, reflection).await;
}

/// The handshake with `identity` fails with words that contain `word`, and an event says that somebody failed.
async fn refused(
    machine: &mut Machine,
    identity: Option<&Identity>,
    word: &str,
) -> anyhow::Result<()> {
    let mut admin = machine.api()?;
    let last = admin.events().await?.last().map_or(0, |event| event.sequence);
    let mut api = machine.api_as(identity)?;
    let call = api.rpc.version(ingot_api::machine::v1::VersionRequest {});
    let answer = tokio::time::timeout(CALL_LIMIT, call).await.context("the refusal hangs")?;
    let Err(status) = answer else { bail!("the call was answered") };
    let text = whole_error(&status);
    ensure!(text.to_lowercase().contains(word), "the error does not say {word:?}: {text}");
    wait::until("an event about the refused client", EVENT_LIMIT, async || {
        let events = admin.events().await?;
        Ok(events
            .iter()
            .any(|event| event.sequence > last && event.reason == "AuthenticationFailed")
            .then_some(()))
    })
    .await
}

/// An RPC as the contract describes it.
#[derive(Debug)]
struct Method {
    name: String,
    /// From "Role: x" in its comment; `None` for what only maintenance mode knows.
    role: Option<Role>,
}

/// Every RPC of the machine API, with the role its comment names.
fn methods(descriptors: &[u8]) -> anyhow::Result<Vec<Method>> {
    /// Field numbers of `FileDescriptorProto.service` and `ServiceDescriptorProto.method`, for source locations.
    const SERVICE: i32 = 6;
    const METHOD: i32 = 2;
    let set = FileDescriptorSet::decode(descriptors).context("decode the API's descriptors")?;
    let is_ours = |file: &&FileDescriptorProto| file.package() == "ingot.machine.v1";
    let file = set.file.iter().find(is_ours).context("no machine API in the descriptors")?;
    let comments = file.source_code_info.as_ref().context("the descriptors carry no comments")?;
    let mut found = Vec::new();
    for (service_index, service) in file.service.iter().enumerate() {
        for (index, method) in service.method.iter().enumerate() {
            let path = [SERVICE, i32::try_from(service_index)?, METHOD, i32::try_from(index)?];
            let comment = comments.location.iter().find(|location| location.path == path);
            let comment = comment.map(|location| location.leading_comments()).unwrap_or_default();
            let role = match comment.split_once("Role: ") {
                Some((_, rest)) => {
                    let word = rest.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
                    Some(word.parse().with_context(|| format!("comment of {}", method.name()))?)
                }
                None => None,
            };
            found.push(Method { name: method.name().to_owned(), role });
        }
    }
    Ok(found)
}

async fn role_matrix(machine: &mut Machine) -> anyhow::Result<()> {
    let methods = methods(FILE_DESCRIPTOR_SET)?;
    ensure!(methods.len() > 10, "only {} RPCs were found", methods.len());
    let mut wrong = Vec::new();
    for role in Role::ALL {
        let identity = machine.credentials().client(role)?;
        let channel = client::channel(
            machine.port(),
            machine.credentials().ca.certificate(),
            Some(&identity),
        )?;
        for method in &methods {
            let allowed = method.role.is_some_and(|needed| role >= needed);
            if allowed && ENDS_THE_NODE.contains(&method.name.as_str()) {
                continue;
            }
            let code = call_empty(channel.clone(), &method.name).await?;
            // An empty request may be wrong for the RPC, but it was let in. RPCs without a role are for maintenance
            // mode: refused now, in whatever words.
            let fits = match method.role {
                Some(_) if allowed => !matches!(
                    code,
                    Code::PermissionDenied
                        | Code::Unauthenticated
                        | Code::Unavailable
                        | Code::Unimplemented
                ),
                Some(_) => code == Code::PermissionDenied,
                None => code != Code::Ok,
            };
            if !fits {
                wrong.push(format!("{} as {role}: {code:?}", method.name));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// Calls an RPC with an empty request, and returns how it was answered.
async fn call_empty(channel: tonic::transport::Channel, method: &str) -> anyhow::Result<Code> {
    let path = PathAndQuery::try_from(format!("/ingot.machine.v1.Machine/{method}"))?;
    let call = async {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        // Every RPC can be called as a stream of answers; one that has a single answer sends just that.
        let mut answers = grpc.server_streaming(Request::new(()), path, codec).await?.into_inner();
        answers.message().await.map(drop)
    };
    let answer =
        tokio::time::timeout(CALL_LIMIT, call).await.with_context(|| format!("{method} hangs"))?;
    Ok(answer.map_or_else(|status| status.code(), |()| Code::Ok))
}

async fn denial_is_recorded(machine: &mut Machine) -> anyhow::Result<()> {
    let mut admin = machine.api()?;
    let reader = machine.credentials().client(Role::Reader)?;
    let last = admin.events().await?.last().map_or(0, |event| event.sequence);
    let refusal = machine.api_as(Some(&reader))?.shutdown().await;
    let Err(error) = refusal else { bail!("a reader may shut the node down") };
    let text = format!("{error:#}");
    ensure!(
        text.contains("reader") && text.contains("operator"),
        "the error names no roles: {text}"
    );
    wait::until("an event about the denied call", EVENT_LIMIT, async || {
        let events = admin.events().await?;
        let is_denial = |event: &&ingot_api::machine::v1::Event| {
            event.sequence > last
                && event.reason == "PermissionDenied"
                && event.message.contains("Shutdown")
        };
        Ok(events.iter().find(is_denial).map(drop))
    })
    .await
}

async fn health(machine: &mut Machine) -> anyhow::Result<()> {
    let admin = &machine.credentials().admin;
    let channel =
        client::channel(machine.port(), machine.credentials().ca.certificate(), Some(admin))?;
    let mut health = HealthClient::new(channel);
    for service in ["", "ingot.machine.v1.Machine"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = tokio::time::timeout(CALL_LIMIT, health.check(request)).await?;
        let status =
            answer.map_err(|status| anyhow::anyhow!("{service:?}: {}", whole_error(&status)))?;
        ensure!(status.get_ref().status() == ServingStatus::Serving, "{service:?}: {status:?}");
    }
    Ok(())
}

async fn reflection(machine: &mut Machine) -> anyhow::Result<()> {
    let admin = &machine.credentials().admin;
    let channel =
        client::channel(machine.port(), machine.credentials().ca.certificate(), Some(admin))?;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let ask = async {
        let stream = futures::stream::iter([request]);
        let mut answers = reflection.server_reflection_info(stream).await?.into_inner();
        answers.message().await
    };
    let answer = tokio::time::timeout(CALL_LIMIT, ask).await?;
    let answer = answer.map_err(|status| anyhow::anyhow!("{}", whole_error(&status)))?;
    let Some(MessageResponse::ListServicesResponse(list)) =
        answer.and_then(|answer| answer.message_response)
    else {
        bail!("no list of services");
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    ensure!(names.contains(&"ingot.machine.v1.Machine"), "{names:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{FILE_DESCRIPTOR_SET, Role, methods};

    #[test]
    fn the_roles_are_read_from_the_comments_of_the_contract() {
        let methods = methods(FILE_DESCRIPTOR_SET).expect("methods");
        let role =
            |name: &str| methods.iter().find(|method| method.name == name).expect("method").role;
        assert_eq!(role("Version"), Some(Role::Reader));
        assert_eq!(role("Shutdown"), Some(Role::Operator));
        assert_eq!(role("RestartService"), Some(Role::Admin));
        assert_eq!(role("ApplyConfig"), Some(Role::Admin));
        let without: Vec<&str> = methods
            .iter()
            .filter(|method| method.role.is_none())
            .map(|method| method.name.as_str())
            .collect();
        assert_eq!(without, ["Pair"]);
    }
}
