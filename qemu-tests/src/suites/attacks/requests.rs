//! Requests that cost the node more than they should, or ask for what no caller may have.

use anyhow::{Context as _, ensure};

use crate::cri::v1;
use crate::leaks;
use crate::machine::Machine;
use crate::report::Report;
use crate::suites::isolation::bench::{BUSYBOX, Bench};

/// So many programs are started, and so many are announced and never fetched.
const EXECS: usize = 30;

pub(super) async fn run(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    report
        .check(
            "cve_2022_1708 cve_2022_31030 output without end costs the agent little",
            machine,
            async |machine| endless_output(machine, bench).await,
        )
        .await;
    report
        .check(
            "cve_2022_23471 cve_2025_64329 programs that nobody fetches leave nothing",
            machine,
            async |machine| execs(machine, bench).await,
        )
        .await;
    report
        .check("cve_2026_50195 cve_2026_53489 cve_2026_53492 cve_2024_8676 nothing is restored from an archive", machine, async |_| {
            let pod = bench.pod(|_| {}).await?;
            let id = bench.run(&pod, |_| {}).await?;
            let request = v1::CheckpointContainerRequest {
                container_id: id,
                location: "/var/attacks/checkpoint.tar".to_owned(),
                timeout: 10,
            };
            let code = bench.cri.runtime.checkpoint_container(request).await.err().map(|it| it.code());
            ensure!(code == Some(tonic::Code::Unimplemented), "{code:?}");
            bench.cri.remove_sandbox(&pod.id).await
        })
        .await;
    report.check("cve_2025_0750 an id is no path", machine, async |_| ids(bench).await).await;
    report
        .check(
            "cve_2026_30892 a program runs as the container's user, whatever it is called with",
            machine,
            async |_| {
                let pod = bench.pod(|_| {}).await?;
                let user = |it: &mut v1::ContainerConfig| {
                    let context = crate::suites::isolation::bench::rights(it);
                    context.run_as_username = "default-user".to_owned();
                };
                let id = bench.run(&pod, user).await?;
                let seen = bench
                    .shell(&id, "id -u; awk '/^Uid/ {print $2, $3, $4, $5}' /proc/self/status")
                    .await?;
                ensure!(seen == "1000\n1000 1000 1000 1000", "{seen:?}");
                bench.cri.remove_sandbox(&pod.id).await
            },
        )
        .await;
}

async fn endless_output(machine: &Machine, bench: &mut Bench) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let agent = leaks::agent(&mut api).await?;
    let pod = bench.pod(|_| {}).await?;
    let id = bench.run(&pod, |_| {}).await?;
    let request = v1::ExecSyncRequest {
        container_id: id.clone(),
        cmd: ["sh", "-c", "head -c 100000000 /dev/zero; head -c 100000000 /dev/zero >&2; true"]
            .map(str::to_owned)
            .to_vec(),
        timeout: 100,
    };
    // What is kept of both streams together is more than a client of the kubelet's kind takes; all the same the agent ...
    drop(bench.cri.runtime.exec_sync(request).await);
    // ... goes on, has not kept it, and the program is gone.
    ensure!(leaks::agent(&mut api).await? == agent, "there is another agent");
    let memory = leaks::memory_kib(&mut api, agent).await?;
    ensure!(memory < 100_000, "the agent has {memory} KiB");
    let left = bench.shell(&id, "pgrep head; true").await?;
    ensure!(left.is_empty(), "still there: {left}");
    bench.cri.remove_sandbox(&pod.id).await
}

async fn execs(machine: &Machine, bench: &mut Bench) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let pod = bench.pod(|_| {}).await?;
    let id = bench.run(&pod, |_| {}).await?;
    bench.shell(&id, "true").await?;
    let before = leaks::Held::count(&mut api).await?;
    for _ in 0..EXECS {
        let request = v1::ExecRequest {
            container_id: id.clone(),
            cmd: vec!["sh".to_owned()],
            tty: true,
            stdin: true,
            stdout: true,
            stderr: false,
        };
        bench.cri.runtime.exec(request).await.context("Exec")?;
        bench.shell(&id, "true").await?;
    }
    before.compare(&leaks::Held::count(&mut api).await?)?;
    bench.cri.remove_sandbox(&pod.id).await
}

async fn ids(bench: &mut Bench) -> anyhow::Result<()> {
    let secret = bench.on_node("cat /node/var/attacks/secret").await?;
    for id in ["../../../var/attacks", "/var/attacks", "..", "*", "a/b", "\u{0}"] {
        let seen = bench.cri.status(id).await;
        ensure!(seen.is_err(), "there is a container {id:?}");
        // Removing what is not there succeeds, and removes nothing.
        drop(bench.cri.remove(id).await);
        drop(bench.cri.remove_sandbox(id).await);
    }
    let pod = bench.pod(|_| {}).await?;
    let mut config = crate::cri::container("../../../var/attacks/x", BUSYBOX, &["true"]);
    config.log_path = String::new();
    if let Ok(id) = bench.cri.create(&pod.id, &config, &pod.config).await {
        bench.cri.start(&id).await?;
    }
    let seen =
        bench.on_node("cat /node/var/attacks/secret; ls /node/var/attacks | grep x$; true").await?;
    ensure!(seen == secret, "{seen:?}");
    bench.cri.remove_sandbox(&pod.id).await
}
