//! Containers that do not behave: one that does not end when asked, and one that says much while nobody listens.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::StreamExt as _;
use ingot_api::machine::v1 as api;
use tonic::Code;

use super::{BUSYBOX, GONE_LIMIT, Node};
use crate::client::Api;
use crate::cri::{self, Cri, v1};
use crate::report::Report;
use crate::wait;

/// Bytes that the talker says: more than a reader may be behind, and than all buffers on the way hold.
const SAYS: &str = "14000000";
/// The file in which it notes that it has said all.
const SAID: &str = "/said";

/// Runs the checks.
pub(super) async fn run(node: &mut Node<'_>, report: &Report) {
    let config = cri::sandbox("workloads");
    let mut sandbox = None;
    report
        .check(
            "a process that ignores SIGTERM is killed after its time",
            node.machine,
            async |_| {
                let id = node.cri.clone().run_sandbox(&config).await?;
                sandbox = Some(id.clone());
                deaf(&mut node.cri.clone(), &id, &config).await
            },
        )
        .await;
    let Some(id) = sandbox else { return };
    let name = "who does not read what a container says is cut off and told";
    report
        .check(name, node.machine, async |machine| {
            unread(&mut machine.api()?, &mut node.cri.clone(), &id, &config).await
        })
        .await;
    report
        .check("they can be removed", node.machine, async |_| {
            node.cri.clone().remove_sandbox(&id).await
        })
        .await;
}

async fn deaf(cri: &mut Cri, sandbox: &str, config: &v1::PodSandboxConfig) -> anyhow::Result<()> {
    let deaf = "trap '' TERM INT HUP; touch /deaf; while :; do sleep 1; done";
    let main = cri::container("deaf", BUSYBOX, &["sh", "-c", deaf]);
    let container = cri.create(sandbox, &main, config).await?;
    cri.start(&container).await?;
    wait::until("it to be deaf", GONE_LIMIT, async || {
        Ok(cri.exec(&container, &["ls", "/deaf"]).await.is_ok().then_some(()))
    })
    .await?;
    // Whoever asks first would wait for an hour and goes away; the next one is in a hurry.
    let patience = Duration::from_secs(2);
    let mut first = cri.clone();
    let first = tokio::time::timeout(patience, first.stop(&container, 3600)).await;
    ensure!(first.is_err(), "it ended at once: {first:?}");
    cri.stop(&container, 1).await?;
    let status = cri.status(&container).await?;
    ensure!(status.exit_code == 137, "{status:?}");
    cri.remove(&container).await
}

async fn unread(
    client: &mut Api,
    cri: &mut Cri,
    sandbox: &str,
    config: &v1::PodSandboxConfig,
) -> anyhow::Result<()> {
    let talk = format!(
        "while [ ! -e /go ]; do sleep 1; done; yes | head -c {SAYS}; touch {SAID}; sleep 100000"
    );
    let main = cri::container("talker", BUSYBOX, &["sh", "-c", &talk]);
    let container = cri.create(sandbox, &main, config).await?;
    cri.start(&container).await?;
    let start = api::AttachStart {
        container: Some(api::ContainerRef { id: container.clone(), ..Default::default() }),
        stdin: false,
    };
    let start = api::AttachRequest { step: Some(api::attach_request::Step::Start(start)) };
    // The caller's side stays open: closing it would be leaving.
    let messages = futures::stream::iter([start]).chain(futures::stream::pending());
    let mut output = client.rpc.attach(messages).await.context("attach")?.into_inner();
    cri.exec(&container, &["touch", "/go"]).await?;
    wait::until("it to have said all although nobody listens", GONE_LIMIT, async || {
        Ok(cri.exec(&container, &["ls", SAID]).await.is_ok().then_some(()))
    })
    .await?;
    let told = loop {
        let next = tokio::time::timeout(GONE_LIMIT, output.message()).await;
        match next.context("the caller hears nothing")? {
            Ok(Some(_)) => {}
            Ok(None) => bail!("the output ended as if the container had"),
            Err(status) => break status,
        }
    };
    ensure!(told.code() == Code::DataLoss && told.message().contains("cut off"), "{told:?}");
    Ok(())
}
