//! A caller of the CRI that sends nonsense in every RPC: nothing at all, bytes that are no message, messages without end, fields that
//! mean nothing, and then one field at a time in a request that makes sense otherwise.

use anyhow::{Context as _, ensure};
use prost::Message as _;
use tonic::Code;
use tonic::transport::Channel;

use super::wire::{self, KINDS, Method, Schema};
use super::{BUSYBOX, Context, Node, remove_others};
use crate::cri::{self, Cri, RELAY_PORT, v1};
use crate::faults::Faults;
use crate::report::Report;

/// Longer than what the node takes for a message.
const TOO_LONG: usize = 17 << 20;
/// What a node answers for a request without any sense: these change nothing, and are asked again and again by a kubelet.
const HARMLESS: &[&str] = &[
    "Version",
    "Status",
    "List",
    "Stream",
    "Get",
    "RuntimeConfig",
    "ImageFsInfo",
    "ImageStatus",
    "StopPodSandbox",
    "RemovePodSandbox",
    "StopContainer",
    "RemoveContainer",
    "RemoveImage",
    "UpdateRuntimeConfig",
];

/// Runs the checks.
pub(super) async fn run(node: &mut Node<'_>, context: &Context, report: &Report) {
    let schema = match Schema::load() {
        Ok(schema) => schema,
        Err(error) => {
            return report.check_alone("the CRI is described", async { Err(error) }).await;
        }
    };
    for kind in 0..KINDS + 3 {
        let name = format!("every RPC refuses {}", word(kind));
        report
            .check(&name, node.machine, async |machine| {
                let channel = cri::channel(machine.forwarded(RELAY_PORT)?)?;
                for method in &schema.methods {
                    let request = request(&schema, method, kind);
                    let answer = wire::call(&channel, method, request).await?;
                    check(method, kind, &answer)?;
                }
                Ok(())
            })
            .await;
    }
    let mut faults = context.faults.part("bad_input");
    one_by_one(node, &schema, &mut faults, context.full, report).await;
    report
        .check("what nonsense made can be removed", node.machine, async |_| {
            remove_others(&mut node.cri.clone()).await
        })
        .await;
}

fn word(kind: usize) -> &'static str {
    match kind {
        0 => "paths that lead elsewhere and numbers below zero",
        1 => "control characters and the highest numbers",
        2 => "texts that are too long and the lowest numbers",
        3 => "numbers that mean nothing",
        4 => "an empty request",
        5 => "bytes that are no message",
        _ => "a message that is too long",
    }
}

fn request(schema: &Schema, method: &Method, kind: usize) -> Vec<u8> {
    match kind {
        4 => Vec::new(),
        5 => vec![0xff; 1000],
        6 => vec![0x0a; TOO_LONG],
        kind => schema.nonsense(&method.input, kind),
    }
}

fn check(
    method: &Method,
    kind: usize,
    answer: &Result<Vec<u8>, tonic::Status>,
) -> anyhow::Result<()> {
    let name = method.path.rsplit('/').next().unwrap_or_default();
    let is_harmless = HARMLESS.iter().any(|start| name.starts_with(start));
    match answer {
        // An empty list, or a removal of what is not there. Bytes that are no message mean nothing to anybody.
        Ok(_) => ensure!(is_harmless && kind < 5, "{name} was done"),
        Err(status) if kind == 6 => {
            let code = status.code();
            ensure!(
                matches!(code, Code::OutOfRange | Code::ResourceExhausted),
                "{name}: {status:?}"
            );
        }
        Err(_) => {}
    }
    Ok(())
}

/// Nonsense in one field of what makes a sandbox, and of what makes a container.
async fn one_by_one(
    node: &mut Node<'_>,
    schema: &Schema,
    faults: &mut Faults,
    full: bool,
    report: &Report,
) {
    let name = "nonsense in one field of a sandbox is refused or harmless";
    report
        .check(name, node.machine, async |machine| {
            let channel = cri::channel(machine.forwarded(RELAY_PORT)?)?;
            let (mut cri, mut kinds) = (node.cri.clone(), kinds(faults, full));
            let made = sandboxes(&channel, &mut cri, schema, &mut kinds);
            report
                .note(&format!("{} sandboxes were made in spite of a strange field", made.await?));
            Ok(())
        })
        .await;
    let name = "nonsense in one field of a container is refused or harmless";
    report
        .check(name, node.machine, async |machine| {
            let channel = cri::channel(machine.forwarded(RELAY_PORT)?)?;
            let (mut cri, mut kinds) = (node.cri.clone(), kinds(faults, full));
            let made = containers(&channel, &mut cri, schema, &mut kinds);
            report
                .note(&format!("{} containers were made in spite of a strange field", made.await?));
            Ok(())
        })
        .await;
}

/// Which kinds of nonsense the next field gets: all in a full run, else one.
fn kinds(faults: &mut Faults, full: bool) -> impl FnMut() -> Vec<usize> {
    move || if full { (0..KINDS).collect() } else { vec![faults.choice(KINDS)] }
}

async fn sandboxes(
    channel: &Channel,
    cri: &mut Cri,
    schema: &Schema,
    kinds: &mut impl FnMut() -> Vec<usize>,
) -> anyhow::Result<usize> {
    let method = method(schema, "RunPodSandbox")?;
    let mut made = 0;
    for (number, path) in schema.all_leaves(&method.input).iter().enumerate() {
        for kind in kinds() {
            let config = Some(cri::sandbox(&format!("nonsense-{number}-{kind}")));
            let sense = v1::RunPodSandboxRequest { config, ..Default::default() };
            let bytes = [sense.encode_to_vec(), wire::one_field(path, kind)].concat();
            let answer = wire::call(channel, method, bytes).await;
            let answer = answer.with_context(|| format!("{} {kind}", shown(path)))?;
            if let Ok(message) = answer {
                let id = v1::RunPodSandboxResponse::decode(&message[..])?.pod_sandbox_id;
                let removed = cri.remove_sandbox(&id).await;
                removed.with_context(|| format!("remove {} {kind}", shown(path)))?;
                made += 1;
            }
        }
    }
    Ok(made)
}

async fn containers(
    channel: &Channel,
    cri: &mut Cri,
    schema: &Schema,
    kinds: &mut impl FnMut() -> Vec<usize>,
) -> anyhow::Result<usize> {
    let method = method(schema, "CreateContainer")?;
    let sandbox_config = cri::sandbox("nonsense-containers");
    let sandbox = cri.run_sandbox(&sandbox_config).await?;
    let mut made = 0;
    for (number, path) in schema.all_leaves(&method.input).iter().enumerate() {
        // The sandbox's own config is only repeated here.
        if path.first().is_some_and(|field| field.name() != "config") {
            continue;
        }
        for kind in kinds() {
            let name = format!("c-{number}-{kind}");
            let sense = v1::CreateContainerRequest {
                pod_sandbox_id: sandbox.clone(),
                config: Some(cri::container(&name, BUSYBOX, &["sleep", "100000"])),
                sandbox_config: Some(sandbox_config.clone()),
            };
            let bytes = [sense.encode_to_vec(), wire::one_field(path, kind)].concat();
            let answer = wire::call(channel, method, bytes).await;
            let answer = answer.with_context(|| format!("{} {kind}", shown(path)))?;
            if let Ok(message) = answer {
                let id = v1::CreateContainerResponse::decode(&message[..])?.container_id;
                let removed = cri.remove(&id).await;
                removed.with_context(|| format!("remove {} {kind}", shown(path)))?;
                made += 1;
            }
        }
    }
    cri.remove_sandbox(&sandbox).await?;
    Ok(made)
}

fn method<'a>(schema: &'a Schema, name: &str) -> anyhow::Result<&'a Method> {
    let found = schema.methods.iter().find(|method| method.path.ends_with(name));
    found.with_context(|| format!("the CRI has no {name}"))
}

fn shown(path: &wire::Path) -> String {
    path.iter().map(prost_types::FieldDescriptorProto::name).collect::<Vec<_>>().join(".")
}
