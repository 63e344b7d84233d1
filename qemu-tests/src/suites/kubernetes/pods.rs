//! What a pod can be: several containers, probes, limits, restarts, and everything that reaches into it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::{CHECK_LIMIT, POD_LIMIT, clear, prepare};
use crate::kubernetes::Cluster;
use crate::report::Report;

const NAMESPACE: &str = "pods";

pub(super) async fn run(cluster: &mut Cluster, report: &Report) {
    let manifest = include_str!("pods.yaml");
    let prepared = async |cluster: &mut Cluster| prepare(cluster, NAMESPACE, manifest).await;
    if !cluster.check(report, "pods are taken", CHECK_LIMIT, prepared).await {
        return;
    }
    let c = cluster;
    c.check(report, "containers of a pod share network and volumes", CHECK_LIMIT, shared).await;
    c.check(report, "each pod has an address that others reach", CHECK_LIMIT, addresses).await;
    c.check(report, "limits hold in the cgroup", CHECK_LIMIT, limits).await;
    c.check(report, "a container over its memory limit is ended and says why", CHECK_LIMIT, greedy)
        .await;
    c.check(report, "restart policies are kept", CHECK_LIMIT, restarts).await;
    c.check(
        report,
        "a failing liveness probe restarts, a readiness probe tells",
        CHECK_LIMIT,
        probes,
    )
    .await;
    c.check(report, "QoS classes are told apart, by the kernel too", CHECK_LIMIT, qos).await;
    c.check(report, "exec gives output, input and the exit code", CHECK_LIMIT, exec).await;
    c.check(report, "attach reaches the first process", CHECK_LIMIT, attach).await;
    c.check(report, "a port of a pod is forwarded", CHECK_LIMIT, port_forward).await;
    c.check(report, "files are copied in and out", CHECK_LIMIT, copy).await;
    c.check(report, "a deleted pod is gone, and described until then", CHECK_LIMIT, delete).await;
    clear(c, NAMESPACE).await;
}

async fn ready(cluster: &Cluster, pods: &[&str]) -> anyhow::Result<()> {
    let pods = [&["-n", NAMESPACE], pods].concat();
    cluster.kubectl.wait_for("condition=Ready", &pods, POD_LIMIT).await
}

async fn field(cluster: &Cluster, pod: &str, path: &str) -> anyhow::Result<String> {
    cluster.kubectl.field(&["-n", NAMESPACE, "pod", pod], path).await
}

/// Runs a program in the container `side`, which has a shell.
async fn inside(cluster: &Cluster, program: &[&str]) -> anyhow::Result<String> {
    cluster.kubectl.exec(&["-n", NAMESPACE, "several", "-c", "side"], program).await
}

async fn shared(cluster: &mut Cluster) -> anyhow::Result<()> {
    ready(cluster, &["pod/several"]).await?;
    let page = inside(cluster, &["wget", "-qO-", "http://127.0.0.1:8080/"]).await?;
    ensure!(page.trim() == "written first", "over the loopback comes {page:?}");
    let file = inside(cluster, &["cat", "/shared/index.html"]).await?;
    ensure!(file == page, "the file holds {file:?}");
    Ok(())
}

async fn addresses(cluster: &mut Cluster) -> anyhow::Result<()> {
    ready(cluster, &["pod/listener", "pod/guaranteed"]).await?;
    let mut all = Vec::new();
    for pod in ["several", "listener", "guaranteed"] {
        let address = field(cluster, pod, "{.status.podIP}").await?;
        ensure!(!address.is_empty() && !all.contains(&address), "{pod} has {address:?} of {all:?}");
        all.push(address);
    }
    let url = format!("http://{}:8080/", all[0]);
    let words = ["-n", NAMESPACE, "guaranteed"];
    let page = cluster.kubectl.exec(&words, &["wget", "-qO-", "-T", "60", &url]).await?;
    ensure!(page.contains("written first"), "from another pod comes {page:?}");
    Ok(())
}

async fn limits(cluster: &mut Cluster) -> anyhow::Result<()> {
    let web = ["-n", NAMESPACE, "several", "-c", "web"];
    for (file, expected) in [("memory.max", "67108864"), ("cpu.max", "20000 100000")] {
        let path = format!("/sys/fs/cgroup/{file}");
        let found = cluster.kubectl.exec(&web, &["cat", &path]).await?;
        ensure!(found.trim() == expected, "{file} is {found:?}");
    }
    Ok(())
}

async fn greedy(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let pod = ["-n", NAMESPACE, "pod/greedy"];
    kubectl.wait_for("jsonpath={.status.phase}=Failed", &pod, POD_LIMIT).await?;
    let ended = "{.status.containerStatuses[0].state.terminated.reason}";
    let reason = field(cluster, "greedy", ended).await?;
    ensure!(reason == "OOMKilled", "the reason is {reason:?}");
    Ok(())
}

async fn restarts(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    for (pod, phase) in [("fails", "Failed"), ("ends", "Succeeded")] {
        let condition = format!("jsonpath={{.status.phase}}={phase}");
        kubectl.wait_for(&condition, &["-n", NAMESPACE, "pod", pod], POD_LIMIT).await?;
    }
    let ended = "{.status.containerStatuses[0].state.terminated";
    let code = field(cluster, "fails", &format!("{ended}.exitCode}}")).await?;
    let message = field(cluster, "fails", &format!("{ended}.message}}")).await?;
    ensure!((code.as_str(), message.trim()) == ("3", "last words"), "{code}: {message:?}");
    let count = "{.status.containerStatuses[0].restartCount}";
    let again = ["-n", NAMESPACE, "get", "pod", "crashes", "-o", &format!("jsonpath=n{count}")];
    let name = "a pod that crashes to be started again";
    crate::wait::until(name, POD_LIMIT, async || {
        let text = kubectl.ok(&again).await?;
        let restarts: u32 = text.trim_start_matches('n').parse().unwrap_or(0);
        Ok((restarts >= 1).then_some(()))
    })
    .await?;
    for pod in ["fails", "ends"] {
        let restarts = field(cluster, pod, count).await?;
        ensure!(restarts == "0", "{pod} was started again {restarts} times");
    }
    Ok(())
}

async fn probes(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let events = ["get", "events", "-n", NAMESPACE, "--field-selector", "involvedObject.name=sick"];
    kubectl.until(&events, "failed liveness probe", POD_LIMIT).await?;
    let is_ready = "{.status.conditions[?(@.type=='Ready')].status}";
    let pod = ["-n", NAMESPACE, "pod/unready"];
    kubectl.wait_field(&pod, "{.status.phase}", "Running", POD_LIMIT).await?;
    let before = field(cluster, "unready", is_ready).await?;
    ensure!(before == "False", "a pod whose readiness probe fails is ready: {before:?}");
    kubectl.exec(&["-n", NAMESPACE, "unready"], &["touch", "/tmp/ready"]).await?;
    ready(cluster, &["pod/unready"]).await
}

async fn qos(cluster: &mut Cluster) -> anyhow::Result<()> {
    for (pod, class, adjustments) in [
        ("guaranteed", "Guaranteed", -998..=-996),
        ("several", "Burstable", 2..=999),
        ("unready", "BestEffort", 1000..=1000),
    ] {
        let found = field(cluster, pod, "{.status.qosClass}").await?;
        ensure!(found == class, "{pod} is {found}");
        let words = ["-n", NAMESPACE, pod];
        let text = cluster.kubectl.exec(&words, &["cat", "/proc/1/oom_score_adj"]).await?;
        let adjustment: i32 = text.trim().parse().context("read oom_score_adj")?;
        ensure!(adjustments.contains(&adjustment), "{pod} has oom_score_adj {adjustment}");
    }
    Ok(())
}

async fn exec(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let side = ["exec", "-i", "-n", NAMESPACE, "several", "-c", "side", "--"];
    let script = "read line; echo \"out $line\"; echo err >&2; exit 42";
    let ran = kubectl.run(&[&side[..], &["sh", "-c", script]].concat(), "word\n").await?;
    ensure!(ran.stdout.trim() == "out word" && ran.stderr.contains("err"), "{}", ran.said());
    ran.refused(&["exit code 42"])?;
    Ok(())
}

async fn attach(cluster: &mut Cluster) -> anyhow::Result<()> {
    let words = ["attach", "-i", "-n", NAMESPACE, "listener"];
    let ran = cluster.kubectl.run(&words, "over the line\n").await?;
    ensure!(ran.stdout.contains("over the line"), "attach says {}", ran.said());
    Ok(())
}

async fn port_forward(cluster: &mut Cluster) -> anyhow::Result<()> {
    let words = ["port-forward", "-n", NAMESPACE, "pod/several", ":8080"];
    let mut command = tokio::process::Command::from(cluster.kubectl.command(&words));
    command.stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("start kubectl")?;
    let mut lines = BufReader::new(child.stdout.take().context("kubectl has no output")?).lines();
    let ask = async {
        let line = lines.next_line().await?.context("kubectl port-forward ended")?;
        let port = line
            .strip_prefix("Forwarding from 127.0.0.1:")
            .and_then(|rest| rest.split(' ').next()?.parse::<u16>().ok())
            .with_context(|| format!("kubectl says {line:?}"))?;
        get(port, "/index.html").await
    };
    let page = tokio::time::timeout(POD_LIMIT, ask).await.context("a forwarded port hangs")??;
    ensure!(page.contains("written first"), "through the port comes {page:?}");
    Ok(())
}

/// The answer of a web server at a port of this machine.
pub(super) async fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    match tokio::time::timeout(Duration::from_secs(60), ask).await {
        Ok(answer) => answer.with_context(|| format!("ask port {port} for {path}")),
        Err(_) => bail!("port {port} does not answer"),
    }
}

async fn copy(cluster: &mut Cluster) -> anyhow::Result<()> {
    let folder = cluster.machine.directory().join("copied");
    fs_err::create_dir_all(&folder)?;
    let (sent, back) = (folder.join("sent"), folder.join("back"));
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    fs_err::write(&sent, &bytes)?;
    let inside = format!("{NAMESPACE}/several:/shared/copied");
    for (from, to) in [
        (sent.to_string_lossy(), inside.as_str().into()),
        (inside.as_str().into(), back.to_string_lossy()),
    ] {
        cluster.kubectl.ok(&["cp", "-c", "side", &from, &to]).await?;
    }
    ensure!(fs_err::read(&back)? == bytes, "another file came back");
    Ok(())
}

async fn delete(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let described = kubectl.ok(&["describe", "pod", "-n", NAMESPACE, "several"]).await?;
    for part in ["Init Containers:", "Readiness:", "Started"] {
        ensure!(described.contains(part), "describe does not say {part:?}:\n{described}");
    }
    kubectl.ok(&["delete", "pod", "-n", NAMESPACE, "several", "--timeout=180s"]).await?;
    kubectl.refused(&["get", "pod", "-n", NAMESPACE, "several"], &["NotFound"]).await?;
    Ok(())
}
