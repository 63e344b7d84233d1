//! What goes wrong around a cluster: it is wanted where it cannot be, a manifest of its config is broken, its certificates have expired,
//! its disk is full. Each is refused or survived, and somebody is told what to do.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use ingot_api::machine::v1::container::State;
use ingot_pki::kubernetes::{Subject, Usage};
use ingot_pki::{Ca, SubjectName, Validity};

use super::{CHECK_LIMIT, POD_LIMIT, WORKLOAD, clear, tool};
use crate::documents;
use crate::kubernetes::Cluster;
use crate::kubernetes::cluster::{CONTROL_PLANE, CONTROL_PLANE_NAMESPACE, READY_LIMIT};
use crate::report::Report;
use crate::wait;

const NAMESPACE: &str = "trouble";
/// Where the tool sees the node's files of the cluster.
const FILES: &str = "/cluster/files";

/// Further than certificates are made to bear, less than the tests' own do.
const PUT_BACK: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// A config map has room for 1 MiB; etcd gets its pages from the disk with writes like this one.
const LARGE: usize = 900_000;
/// etcd has room of its own for some of them: what it wrote once it uses again.
const LARGE_MANY: usize = 250;
/// What a pod of the node fills byte by byte, after it took all but that at once.
const SLOWLY: u64 = 64 << 20;

pub(super) async fn run(cluster: &mut Cluster, report: &Report) {
    let c = cluster;
    c.check(report, "a broken manifest in the config is refused", CHECK_LIMIT, not_yaml).await;
    let name = "a manifest that the API server refuses is told, and harms nothing else";
    c.check(report, name, CHECK_LIMIT, refused_manifest).await;
    let name = "a clock from before the cluster is told, and nothing is lost by it";
    c.check(report, name, READY_LIMIT * 2, clock).await;
    let name = "certificates that have expired are made anew, and all is whole";
    c.check(report, name, READY_LIMIT * 2, expired).await;
    let name = "a full disk is told with what to do, and costs no acknowledged write";
    c.check(report, name, READY_LIMIT * 3, full_disk).await;
    clear(c, NAMESPACE).await;
}

/// Before anything was bootstrapped.
pub(super) async fn no_control_plane(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.machine.wait_api().await?;
    let (without, _) = cluster.config.split_once("kubernetes:\n").context("no section")?;
    let worker = cluster.config.replace("role: control-plane", "role: worker");
    let cases = [(worker.as_str(), "a worker"), (without, "no section \"kubernetes\"")];
    for (config, why) in cases {
        cluster.apply_config(config).await?;
        cluster.ingotctl(&["bootstrap"]).await?.refused(&[why])?;
    }
    cluster.apply_config(&cluster.config).await
}

/// The node's config with one more add-on.
fn with_addon(cluster: &Cluster, manifest: &str) -> String {
    let manifest = manifest.replace('\n', "\n        ");
    format!("{}  addons:\n    house:\n      manifest: |\n        {manifest}\n", cluster.config)
}

async fn not_yaml(cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut api = cluster.machine.api()?;
    let before = api.status().await?.generation;
    for broken in ["apiVersion: v1\nkind: [", "kind: Pod\nmetadata: {name: a}"] {
        let answer = api.apply(&with_addon(cluster, broken)).await?;
        let told = answer.problems.iter().any(|problem| problem.path.contains("house"));
        ensure!(told, "{broken:?} is no problem: {:?}", answer.problems);
    }
    let after = api.status().await?.generation;
    ensure!(before == after, "a refused config is generation {after} after {before}");
    Ok(())
}

async fn refused_manifest(cluster: &mut Cluster) -> anyhow::Result<()> {
    let objects = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: house, namespace: default}\n\
                   ---\napiVersion: v1\nkind: House\nmetadata: {name: house}";
    cluster.apply_config(&with_addon(cluster, objects)).await?;
    let tried = async {
        wait::until("the refused manifest to be told", POD_LIMIT, async || {
            let said = cluster.ingotctl(&["health"]).await?.said();
            let line = said.lines().find(|line| line.contains("addon/house"));
            let told = line.is_some_and(|line| line.contains("failed") && line.contains("House"));
            if told { Ok(Some(())) } else { bail!("it says {said}") }
        })
        .await?;
        // The other object of the manifest, and the other add-ons.
        cluster.kubectl.ok(&["get", "configmap", "house", "-n", "default"]).await?;
        let coredns = ["-n", "kube-system", "deployment/coredns"];
        cluster.kubectl.rolled_out(&coredns, POD_LIMIT).await
    };
    let result = tried.await;
    cluster.apply_config(&cluster.config).await?;
    result?;
    wait::until("the refused manifest to be forgotten", POD_LIMIT, async || {
        let said = cluster.ingotctl(&["health"]).await?.said();
        Ok((!said.contains("addon/house")).then_some(()))
    })
    .await
}

async fn tool(cluster: &Cluster, script: &str, input: &str) -> anyhow::Result<String> {
    tool::run(cluster, NAMESPACE, script, input).await?.ok()
}

/// The node starts with a clock from before the cluster was made, and then with the right one.
async fn clock(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kept = ["get", "namespace/kube-system", "-o", "jsonpath={.metadata.uid}"];
    let before = cluster.kubectl.ok(&kept).await?;
    cluster.machine.shutdown().await?;
    cluster.machine.set_hardware_clock(Some(SystemTime::now() - PUT_BACK))?;
    cluster.machine.power_on().await?;
    let tried = behind(cluster).await;
    // The right time first, whatever is found.
    cluster.machine.cut_power()?;
    cluster.machine.set_hardware_clock(None)?;
    cluster.machine.power_on().await?;
    tried?;
    cluster.wait_api_server().await?;
    cluster.wait_ready().await?;
    let after = cluster.kubectl.ok(&kept).await?;
    ensure!(before == after, "it is another cluster: {before} and {after}");
    Ok(())
}

async fn behind(cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut api = cluster.machine.wait_api().await?;
    wait::until("the condition to tell of the clock", POD_LIMIT, async || {
        let conditions = api.status().await?.conditions;
        let condition = conditions.iter().find(|condition| condition.name == "kubernetes");
        let condition = condition.context("there is no condition \"kubernetes\"")?;
        let told = condition.message.contains("time.servers");
        ensure!(told, "it says {}", condition.message);
        Ok(Some(()))
    })
    .await?;
    let said = cluster.ingotctl(&["health"]).await?.refused(&["clock", "time.servers"])?;
    let runs = api.pods().await?.into_iter().find(|pod| {
        let running = pod.containers.iter().any(|one| one.state() == State::Running);
        pod.namespace == CONTROL_PLANE_NAMESPACE && running
    });
    ensure!(runs.is_none(), "{runs:?} was started; health says {said}");
    cluster.ingotctl(&["bootstrap"]).await?.refused(&["already bootstrapped"]).map(drop)
}

/// All certificates of the cluster's programs end a day ago, as if the node had been switched off for too long; then everything starts.
async fn expired(cluster: &mut Cluster) -> anyhow::Result<()> {
    tool::make(cluster, NAMESPACE).await?;
    let mut authorities = Vec::new();
    for name in ["cluster-ca", "etcd-ca", "front-proxy-ca"] {
        let text = tool(cluster, &format!("cat /cluster/pki/{name}.pem"), "").await?;
        let key = text.find("-----BEGIN PRIVATE KEY").context("an authority has no key")?;
        authorities.push(Ca::from_pem(&text[..key], &text[key..])?);
    }
    let list = tool(cluster, &format!("cd {FILES} && grep -l '^# ' */*.pem"), "").await?;
    let files: Vec<&str> = list.lines().collect();
    ensure!(files.len() >= 10, "the programs' certificates are {files:?}");
    let mut before = Vec::new();
    let mut script = String::new();
    for file in &files {
        let text = tool(cluster, &format!("cat {FILES}/{file}"), "").await?;
        let old = expired_like(&text, &authorities).with_context(|| (*file).to_owned())?;
        writeln!(script, "cat > {FILES}/{file} <<'END'\n{}\nEND", old.trim_end())?;
        before.push((text, old));
    }
    let mut runs = Vec::new();
    for component in CONTROL_PLANE {
        runs.push((component, cluster.run_of(component).await?));
    }
    all_at_once(cluster, &script).await;
    super::healing::kill_agent(cluster).await?;
    cluster.wait_api_server().await?;
    cluster.wait_ready().await?;
    for (component, run) in runs {
        // Restarts are counted from nought where a pod had to wait for another one.
        ensure!(cluster.run_of(component).await? != run, "{component} was not killed");
    }
    for (file, (first, old)) in files.iter().zip(&before) {
        let text = tool(cluster, &format!("cat {FILES}/{file}"), "").await?;
        ensure!(text != *old, "{file} is still the expired one");
        ensure!(text != *first, "{file} was never an expired one");
        ensure!(text.lines().next() == old.lines().next(), "{file} is for somebody else");
    }
    Ok(())
}

/// Runs a script and then kills every program of the control plane, in one go: programs read new certificates by themselves, and then no
/// other script gets through. Nobody is left to say how it went.
async fn all_at_once(cluster: &Cluster, script: &str) {
    // The kernel keeps 15 characters of a name. All ids first: nothing gets through once the kubelet is gone.
    let names: Vec<&str> = CONTROL_PLANE.iter().map(|name| &name[..name.len().min(15)]).collect();
    let ids = format!("$(for name in {}; do pgrep $name; done)", names.join(" "));
    let script = format!("{script}kill -9 {ids}\n");
    let running = tool::run(cluster, NAMESPACE, "sh", &script);
    let _broken = tokio::time::timeout(Duration::from_secs(60), running).await;
}

/// A certificate for the same one from the same authority, with its key in the same form, that has ended.
fn expired_like(text: &str, authorities: &[Ca]) -> anyhow::Result<String> {
    let head = text.lines().next().unwrap_or_default();
    let words: Vec<&str> = head.split(' ').collect();
    let ["#", name, group, usage, names, "by", signer] = words.as_slice() else {
        bail!("it begins with {head:?}")
    };
    let ca = authorities.iter().find(|ca| ca.certificate().fingerprint().to_string() == *signer);
    let ca = ca.context("nobody of the cluster signed it")?;
    let names = names.split(',').filter(|name| !name.is_empty());
    let subject = Subject {
        common_name: (*name).to_owned(),
        group: Some((*group).to_owned()).filter(|group| group != "-"),
        usage: match *usage {
            "Client" => Usage::Client,
            "Server" => Usage::Server,
            "Peer" => Usage::Peer,
            other => bail!("its use is {other:?}"),
        },
        names: names
            .map(|name| match name.parse() {
                Ok(address) => SubjectName::Ip(address),
                Err(_) => SubjectName::Dns(name.to_owned()),
            })
            .collect(),
    };
    let not_after = SystemTime::now() - Validity::days(1);
    let not_before = not_after - Validity::days(365);
    let identity = ca.issue_kubernetes(&subject, Validity { not_before, not_after })?;
    let key = identity.key.to_pem();
    Ok(format!("{head}\n{}{}", identity.certificate.to_pem(), key.as_str()))
}

async fn full_disk(cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut api = cluster.machine.api()?;
    let volumes = api.status().await?.volumes;
    let var = volumes.iter().find(|volume| volume.name == "VAR").context("no volume VAR")?;
    let at_once = var.available_bytes.saturating_sub(SLOWLY);
    let config = documents::stream(&[cluster.config.clone(), filler(at_once)]);
    cluster.apply_config(&config).await?;
    wait::until("the disk to be full", READY_LIMIT, async || {
        let pod = api.pod("filler").await?.context("there is no filler")?;
        let container = pod.containers.iter().find(|container| container.name == "main");
        let container = container.context("it has no container")?;
        let full = container.state() == State::Terminated && container.exit_code == 1;
        ensure!(full, "{container:?}");
        Ok(Some(()))
    })
    .await?;
    let written = write_until_refused(cluster).await;
    let said = cluster.ingotctl(&["health"]).await?.said();
    // Room again first, whatever is found.
    cluster.apply_config(&cluster.config).await?;
    let written = written?;
    let line = said.lines().find(|line| line.contains("of VAR are free"));
    let line = line.with_context(|| format!("health says nothing of the disk: {said}"))?;
    ensure!(line.contains("failed") && line.contains("delete pods"), "it says {line}");
    cluster.wait_api_server().await?;
    let found = cluster.kubectl.ok(&["get", "configmaps", "-n", "default", "-o", "name"]).await?;
    for name in &written {
        let there = found.lines().any(|line| line == format!("configmap/{name}"));
        ensure!(there, "{name} was acknowledged and is gone");
    }
    cluster.wait_ready().await?;
    let condition = "{.status.conditions[?(@.type=='DiskPressure')].status}";
    let node = format!("node/{}", cluster.node().await?);
    // The kubelet holds on to it for five minutes, and lets nothing in until then.
    cluster.kubectl.wait_field(&[&node], condition, "False", READY_LIMIT).await?;
    let coredns = ["-n", "kube-system", "deployment/coredns"];
    cluster.kubectl.rolled_out(&coredns, READY_LIMIT).await
}

/// Writes large objects until one is not acknowledged; returns those that were.
async fn write_until_refused(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let mut written = Vec::new();
    for number in 0..LARGE_MANY {
        let name = format!("large-{number}");
        // Nothing in it is like anything else in it.
        let data: String = (0..LARGE / 16).map(|_| format!("{:016x}", fastrand::u64(..))).collect();
        let object = serde_json::json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default"},
            "data": {"large": data},
        });
        let ran = cluster.kubectl.run(&["create", "-f", "-"], &object.to_string()).await;
        match ran {
            Ok(ran) if ran.succeeded => written.push(name),
            _ => return Ok(written),
        }
    }
    bail!("{LARGE_MANY} large writes were acknowledged by an etcd without room")
}

/// A pod of the node that takes all room but a little at once, the rest by writing until it is refused, and then fails.
fn filler(at_once: u64) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: filler}}
spec:
  restartPolicy: Never
  initContainers:
  - name: most
    image: {WORKLOAD}
    args: [allocate, /room/most, '{at_once}']
    volumeMounts: [{{name: room, mountPath: /room}}]
  containers:
  - name: main
    image: {WORKLOAD}
    args: [fill, /room/rest, '100000']
    volumeMounts: [{{name: room, mountPath: /room}}]
  volumes: [{{name: room, emptyDir: {{}}}}]
"
    )
}
