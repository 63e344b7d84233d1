//! Suite `reach`: an operator's exec, attach, ports and files reach containers of the node's own pods, and whoever is not an administrator
//! is kept out.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::stream;
use ingot_api::machine::v1 as api;
use ingot_api::machine::v1::container::State;

use super::{SharedNode, apply_pods};
use crate::client::Api;
use crate::documents::Pod;
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// Longest wait for anything, in emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(90);

/// The program in the image of the pods.
const PROGRAM: &str = "/workload";

/// Runs the suite.
pub(super) async fn run(node: &mut SharedNode<'_>, report: &Report) {
    let Some(machine) = node.get(report).await else { return };
    report.check("a pod to reach into runs", machine, prepare).await;
    report
        .check("a program in a container gives its output and exit code", machine, exit_code)
        .await;
    report.check("its standard input reaches it and its end too", machine, stdin).await;
    report.check("it has a terminal when asked for", machine, terminal).await;
    report.check("a caller that goes away ends its program", machine, deserted).await;
    report.check("files are copied in and out again", machine, copy).await;
    report.check("a port of a pod's loopback is reached", machine, port).await;
    report.check("who attaches hears what the container says", machine, attach).await;
    report.check("containers and images are listed", machine, lists).await;
    report.check("what was done is an event, without arguments", machine, events).await;
}

async fn prepare(machine: &mut Machine) -> anyhow::Result<()> {
    let mut client = machine.api()?;
    let pods = [
        Pod::new("reached", &["serve", "8080"]).document(),
        Pod::new("talker", &["tick", "200"]).document(),
    ];
    apply_pods(machine, &mut client, &pods).await?;
    for name in ["reached", "talker"] {
        wait::until("a pod that runs", LIMIT, async || {
            let container = client.container(name).await?;
            Ok((container.state() == State::Running).then_some(()))
        })
        .await?;
    }
    Ok(())
}

fn of(pod: &str) -> Option<api::ContainerRef> {
    let (namespace, pod) = ("default".to_owned(), pod.to_owned());
    Some(api::ContainerRef { namespace, pod, ..Default::default() })
}

/// How a program ended, and what it said.
#[derive(Debug, Default)]
struct Ran {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

async fn exec(client: &mut Api, start: api::ExecStart, input: &[u8]) -> anyhow::Result<Ran> {
    use api::exec_request::Step;
    use api::exec_response::Output;
    use api::stream_input::Input;
    let step = |step| api::ExecRequest { step: Some(step) };
    let sent = |input| step(Step::Input(api::StreamInput { input: Some(input) }));
    let mut messages = vec![step(Step::Start(start))];
    if !input.is_empty() {
        messages.push(sent(Input::Stdin(input.to_vec())));
        messages.push(sent(Input::StdinEnd(true)));
    }
    let run = async {
        let mut answers = client.rpc.exec(stream::iter(messages)).await?.into_inner();
        let mut ran = Ran::default();
        while let Some(answer) = answers.message().await? {
            match answer.output {
                Some(Output::Stdout(bytes)) => ran.stdout += &String::from_utf8_lossy(&bytes),
                Some(Output::Stderr(bytes)) => ran.stderr += &String::from_utf8_lossy(&bytes),
                Some(Output::ExitCode(code)) => ran.code = Some(code),
                None => {}
            }
        }
        Ok::<_, tonic::Status>(ran)
    };
    Ok(tokio::time::timeout(LIMIT, run).await.context("wait for a program's end")??)
}

fn start(words: &[&str]) -> api::ExecStart {
    let words = std::iter::once(PROGRAM).chain(words.iter().copied());
    api::ExecStart {
        container: of("reached"),
        command: words.map(str::to_owned).collect(),
        ..Default::default()
    }
}

async fn exit_code(machine: &mut Machine) -> anyhow::Result<()> {
    let mut client = machine.api()?;
    let ran = exec(&mut client, start(&["exit", "42"]), b"").await?;
    ensure!(ran.code == Some(42), "{ran:?}");
    let ran = exec(&mut client, start(&["write", "/tmp-of-exec", "x"]), b"").await?;
    ensure!(ran.code == Some(0) && ran.stdout.contains("wrote"), "{ran:?}");
    let missing = api::ExecStart { command: vec!["/nothing".to_owned()], ..start(&[]) };
    let refused = exec(&mut client, missing, b"").await;
    ensure!(refused.is_err(), "a program that is not there ran: {refused:?}");
    Ok(())
}

async fn stdin(machine: &mut Machine) -> anyhow::Result<()> {
    let mut client = machine.api()?;
    let start = api::ExecStart { stdin: true, ..start(&["cat", "/proc/self/fd/0"]) };
    let ran = exec(&mut client, start, b"from the operator\n").await?;
    ensure!(ran.code == Some(0) && ran.stdout.contains("from the operator"), "{ran:?}");
    Ok(())
}

async fn terminal(machine: &mut Machine) -> anyhow::Result<()> {
    let mut client = machine.api()?;
    let size = Some(api::TerminalSize { columns: 100, rows: 30 });
    let start = api::ExecStart { tty: true, size, ..start(&["exit", "3"]) };
    let ran = exec(&mut client, start, b"").await?;
    ensure!(ran.code == Some(3) && ran.stderr.is_empty(), "{ran:?}");
    Ok(())
}

async fn deserted(machine: &mut Machine) -> anyhow::Result<()> {
    let mut client = machine.api()?;
    let processes = async |client: &mut Api| {
        let stats = client.stats("reached").await?;
        Ok::<_, anyhow::Error>(stats.pids)
    };
    let before = processes(&mut client).await?;
    let message =
        api::ExecRequest { step: Some(api::exec_request::Step::Start(start(&["sleep"]))) };
    let answers = client.rpc.exec(stream::iter(vec![message])).await?;
    wait::until("a program that runs", LIMIT, async || {
        Ok((processes(&mut client).await? > before).then_some(()))
    })
    .await?;
    drop(answers);
    wait::until("a program without a caller to end", LIMIT, async || {
        Ok((processes(&mut client).await? <= before).then_some(()))
    })
    .await
}

async fn copy(machine: &mut Machine) -> anyhow::Result<()> {
    use api::copy_in_request::Step;
    let mut client = machine.api()?;
    let request = api::CopyOutRequest { container: of("reached"), path: PROGRAM.to_owned() };
    let mut archive = Vec::new();
    let mut pieces = client.rpc.copy_out(request).await?.into_inner();
    while let Some(piece) = pieces.message().await? {
        archive.extend(piece.archive);
    }
    ensure!(archive.len() > 100_000, "only {} bytes came", archive.len());
    let container = of("reached");
    let begin = Step::Start(api::CopyInStart { container, path: "/copied".to_owned() });
    let pieces = archive.chunks(60_000).map(|piece| Step::Archive(piece.to_vec()));
    let messages: Vec<_> = std::iter::once(begin)
        .chain(pieces)
        .map(|step| api::CopyInRequest { step: Some(step) })
        .collect();
    let done = client.rpc.copy_in(stream::iter(messages)).await?.into_inner();
    ensure!(done.entries == 1, "{done:?}");
    // The copy of the program is as good as the program.
    let command = vec!["/copied".to_owned(), "exit".to_owned(), "9".to_owned()];
    let ran = exec(&mut client, api::ExecStart { command, ..start(&[]) }, b"").await?;
    ensure!(ran.code == Some(9), "{ran:?}");
    let outside =
        api::CopyOutRequest { container: of("reached"), path: "/../../proc/1/environ".to_owned() };
    match client.rpc.copy_out(outside).await?.into_inner().message().await {
        Err(_) => Ok(()),
        Ok(piece) => bail!("a file of the kernel was given out: {piece:?}"),
    }
}

async fn port(machine: &mut Machine) -> anyhow::Result<()> {
    use api::port_forward_request::Step;
    let mut client = machine.api()?;
    let begin = |port| {
        Step::Start(api::PortForwardStart {
            namespace: "default".to_owned(),
            pod: "reached".to_owned(),
            sandbox: String::new(),
            port,
        })
    };
    let request = Step::Data(b"GET / HTTP/1.0\r\n\r\n".to_vec());
    let messages = [begin(8080), request, Step::End(true)];
    let messages = messages.map(|step| api::PortForwardRequest { step: Some(step) });
    let mut answers = client.rpc.port_forward(stream::iter(messages)).await?.into_inner();
    let mut text = String::new();
    while let Some(answer) = answers.message().await? {
        text += &String::from_utf8_lossy(&answer.data);
    }
    ensure!(text.contains("hello from a pod"), "the pod said {text:?}");
    let nobody = [api::PortForwardRequest { step: Some(begin(9)) }];
    let refused = client.rpc.port_forward(stream::iter(nobody)).await;
    ensure!(refused.is_err(), "a port that nobody listens to was connected");
    Ok(())
}

async fn attach(machine: &mut Machine) -> anyhow::Result<()> {
    use api::attach_response::Output;
    let mut client = machine.api()?;
    let begin = api::AttachStart { container: of("talker"), stdin: false };
    let message = api::AttachRequest { step: Some(api::attach_request::Step::Start(begin)) };
    let heard = async {
        let mut answers = client.rpc.attach(stream::iter(vec![message])).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            if let Some(Output::Stdout(bytes)) = answer.output {
                return Ok(bytes);
            }
        }
        Err(tonic::Status::unknown("the streams ended"))
    };
    let heard = tokio::time::timeout(LIMIT, heard).await.context("wait for a word")??;
    ensure!(!heard.is_empty());
    Ok(())
}

async fn lists(machine: &mut Machine) -> anyhow::Result<()> {
    let mut client = machine.api()?;
    let containers = client.rpc.list_containers(api::ListContainersRequest {}).await?.into_inner();
    let reached = containers.containers.iter().find(|container| container.pod == "reached");
    let reached = reached.context("the container is not listed")?;
    ensure!(reached.state == "running" && reached.source == "config", "{reached:?}");
    let images = client.rpc.list_images(api::ListImagesRequest {}).await?.into_inner();
    let used = images.images.iter().find(|image| image.containers >= 2 && image.bundled);
    ensure!(used.is_some(), "no bundled image is used by both containers: {images:?}");
    Ok(())
}

async fn events(machine: &mut Machine) -> anyhow::Result<()> {
    let mut client = machine.api()?;
    let events = client.events().await?;
    for reason in ["Exec", "CopyIn", "CopyOut", "PortForward", "Attach"] {
        ensure!(events.iter().any(|event| event.reason == reason), "there is no event {reason}");
    }
    // Words that nothing else in an event can hold: digits alone may be part of the caller's port.
    let given = ["/proc/self/fd/0", " exit"];
    let told = events.iter().find(|event| {
        event.reason == "Exec" && given.iter().any(|word| event.message.contains(word))
    });
    ensure!(told.is_none(), "an argument is in an event: {told:?}");
    Ok(())
}
