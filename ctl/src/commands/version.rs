//! `version`: of this program, and of the node if there is one to ask.

use crate::cli::{Format, Version};
use crate::client::{Error, Node, Unpaired};
use crate::failure::Failure;
use crate::session::Session;
use ingot_api::machine::v1::{VersionRequest, VersionResponse};
use serde::Serialize;

#[derive(Serialize)]
struct Versions<'a> {
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodeVersion<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeVersion<'a> {
    version: &'a str,
    revision: &'a str,
    kernel: &'a str,
    architecture: &'a str,
    profile: &'a str,
    maintenance: bool,
}

pub(super) async fn run(session: &Session<'_>, args: &Version) -> Result<(), Failure> {
    let client = env!("CARGO_PKG_VERSION");
    let answer = if args.client { None } else { Some(Box::pin(ask(session)).await?) };
    if session.output.format != Format::Table {
        let node = answer.as_ref().map(|answer| NodeVersion {
            version: &answer.version,
            revision: &answer.revision,
            kernel: &answer.kernel,
            architecture: &answer.architecture,
            profile: &answer.profile,
            maintenance: answer.maintenance,
        });
        return session.output.data(&Versions { client, node }, false);
    }
    let mut text = format!("ingotctl     {client}\n");
    if let Some(answer) = answer {
        let rows = [
            ("node", format!("{} (revision {})", answer.version, answer.revision)),
            ("kernel", answer.kernel),
            ("architecture", answer.architecture),
            ("profile", answer.profile),
        ];
        text.extend(rows.map(|(name, value)| format!("{name:<12} {value}\n")));
        if answer.maintenance {
            text += "maintenance  yes; nothing above is proven before pairing\n";
        }
    }
    session.output.text(&text)
}

/// A node without config says its version to anyone, and needs no context.
async fn ask(session: &Session<'_>) -> Result<VersionResponse, Failure> {
    let target = match session.target() {
        Ok(target) => target,
        Err(failure) => {
            let Some(endpoint) = &session.globals.endpoint else { return Err(failure) };
            let node = Unpaired::connect(endpoint, session.timeout()).await?;
            return Ok(node.version().await?);
        }
    };
    match Node::connect(&target).await {
        Ok(node) => {
            let answer = node.call("Version", VersionRequest {}, async |mut api, request| {
                api.version(request).await
            });
            Ok(answer.await?)
        }
        Err(Error::Maintenance { endpoint }) => {
            Ok(Unpaired::connect(&endpoint, target.timeout).await?.version().await?)
        }
        Err(error) => Err(error.into()),
    }
}
