//! Processes: who sees whom, what happens when the one goes that all depend on, and programs that cannot be executed.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::super::agent_crash::agent_pid;
use super::bench::{Bench, Pod, mount, namespaces, rights};
use crate::cri::{Cri, RELAY_PORT, v1};
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// Something becomes true, in emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(120);

/// On the node: the process id of the one pod that shares its processes.
const FIND_FIRST: &str = "for p in /proc/[0-9]*; do [ \"$(cat $p/comm 2>/dev/null)\" = pod-init ] && echo ${p#/proc/}; done; true";

async fn sharing(bench: &mut Bench) -> anyhow::Result<Pod> {
    bench.pod(|it| namespaces(it).pid = v1::NamespaceMode::Pod.into()).await
}

fn share(it: &mut v1::ContainerConfig) {
    let options = rights(it).namespace_options.get_or_insert_default();
    options.pid = v1::NamespaceMode::Pod.into();
}

async fn is_ready(bench: &mut Bench, pod: &Pod) -> anyhow::Result<bool> {
    let request =
        v1::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    let status = bench.cri.runtime.pod_sandbox_status(request).await?.into_inner().status;
    Ok(status.context("no status")?.state() == v1::PodSandboxState::SandboxReady)
}

pub(super) async fn run(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    report
        .check("containers that share processes see each other, and none is the first", machine, async |_| {
            let pod = sharing(bench).await?;
            let one = bench
                .run(&pod, |it| {
                    share(it);
                    it.command = vec!["sleep".to_owned(), "12345".to_owned()];
                })
                .await?;
            let two = bench.run(&pod, share).await?;
            let script = "cat /proc/1/comm; ps | grep -c '[s]leep 12345'; kill -9 1; kill -9 $(pgrep sleep | head -n 1) && echo killed";
            let seen = bench.shell(&two, script).await?;
            ensure!(seen == "pod-init\n1\nkilled", "{seen:?}");
            wait::until("the other container to end", LIMIT, async || {
                let ended = v1::ContainerState::ContainerExited;
                let (one, two) = (bench.cri.status(&one).await?, bench.cri.status(&two).await?);
                Ok((one.state() == ended || two.state() == ended).then_some(()))
            })
            .await?;
            ensure!(is_ready(bench, &pod).await?, "the sandbox is not ready any more");
            bench.cri.remove_sandbox(&pod.id).await
        })
        .await;
    report
        .check(
            "a pod that shares processes is over when its first process is ended",
            machine,
            async |_| first_process_ends(bench, async |_| Ok(())).await,
        )
        .await;
    report
        .check("the same is seen after a restart of the agent", machine, async |machine| {
            let mut cri = Cri::at(machine.forwarded(RELAY_PORT)?)?;
            let mut api = machine.api()?;
            first_process_ends(bench, async |_| {
                let killed = agent_pid(&mut api).await?;
                api.kill_service("ingotd").await?;
                wait::until("another agent to answer", LIMIT, async || {
                    let other = agent_pid(&mut api).await.is_ok_and(|pid| pid != killed);
                    Ok((other && cri.version().await.is_ok()).then_some(()))
                })
                .await
            })
            .await
        })
        .await;
    report
        .check(
            "a program that the kernel does not execute is an error of the start",
            machine,
            async |_| not_executed(bench).await,
        )
        .await;
    report
        .check("a program that is not there is named", machine, async |_| {
            let pod = bench.pod(|_| {}).await?;
            let made = bench.run(&pod, |it| it.command = vec!["/no/such/program".to_owned()]).await;
            let error = format!("{:#}", made.err().context("it runs")?);
            ensure!(error.contains("/no/such/program"), "{error}");
            bench.cri.remove_sandbox(&pod.id).await
        })
        .await;
}

/// Ends the first process of a pod, with something done between its being made and that.
async fn first_process_ends(
    bench: &mut Bench,
    before: impl AsyncFnOnce(&Pod) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let pod = sharing(bench).await?;
    let id = bench.run(&pod, share).await?;
    before(&pod).await?;
    let first = bench.on_node(FIND_FIRST).await?;
    first.parse::<u32>().with_context(|| format!("one process, not {first:?}"))?;
    ensure!(is_ready(bench, &pod).await?, "the sandbox is not ready before");
    bench.on_node(&format!("kill -9 {first}")).await?;
    wait::until("the sandbox to be over", LIMIT, async || {
        Ok((!is_ready(bench, &pod).await?).then_some(()))
    })
    .await?;
    let ended = wait::until("its container to have ended", LIMIT, async || {
        let status = bench.cri.status(&id).await?;
        Ok((status.state() == v1::ContainerState::ContainerExited).then_some(status))
    })
    .await?;
    ensure!(ended.exit_code == 137, "it ended with {}", ended.exit_code);
    bench.cri.remove_sandbox(&pod.id).await
}

async fn not_executed(bench: &mut Bench) -> anyhow::Result<()> {
    bench
        .on_node(
            "mkdir -p /node/var/isolation/bad && cd /node/var/isolation/bad && \
             echo '#!/no/such/interpreter' >script && echo garbage >format && chmod 755 script format",
        )
        .await?;
    let pod = bench.pod(|_| {}).await?;
    for (program, says) in [("script", "No such file"), ("format", "Exec format error")] {
        let id = bench
            .create(&pod, |it| {
                it.mounts = vec![mount("/var/isolation/bad", "/bad")];
                it.command = vec![format!("/bad/{program}")];
            })
            .await?;
        let error = format!("{:#}", bench.cri.start(&id).await.err().context("it was started")?);
        ensure!(error.contains(says) && error.contains(program), "{error}");
        let status = wait::until("the container to have ended", LIMIT, async || {
            let status = bench.cri.status(&id).await?;
            Ok((status.state() == v1::ContainerState::ContainerExited).then_some(status))
        })
        .await?;
        let told = (status.exit_code, status.reason.as_str(), status.message.contains(says));
        ensure!(told == (128, "StartError", true), "{told:?}: {}", status.message);
    }
    bench.cri.remove_sandbox(&pod.id).await
}
