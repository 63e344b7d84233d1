//! Suite `pods_full`: everything that `v1/Pod` can say and one node can carry out, without Kubernetes.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ingot_api::machine::v1::{Container, Pod};

use super::{SharedNode, apply_pods};
use crate::documents::WORKLOAD;
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// Something becomes true, in emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs the suite.
pub(super) async fn run(node: &mut SharedNode<'_>, report: &Report) {
    let Some(machine) = node.get(report).await else { return };
    report
        .check("a config with every kind of pod is accepted", machine, async |machine| {
            let mut api = machine.api()?;
            apply_pods(machine, &mut api, &documents("blue")).await
        })
        .await;
    report
        .check("init containers come first, sidecars before the containers", machine, order)
        .await;
    report.check("config maps and secrets become variables", machine, variables).await;
    report.check("config maps and secrets become files with modes", machine, files).await;
    report.check("no secret is shown by the API", machine, redacted).await;
    report.check("a pod is ready when its probe says so", machine, readiness).await;
    report.check("probes over HTTP and TCP reach the pod", machine, network_probes).await;
    report.check("a container that fails its liveness probe is restarted", machine, liveness).await;
    report.check("a startup probe keeps the other probes waiting", machine, startup_probe).await;
    report.check("the hook after the start runs in the container", machine, post_start).await;
    report.check("last words are told", machine, last_words).await;
    report.check("a pod past its deadline has failed", machine, deadline).await;
    report.check("a pod that fills its emptyDir is evicted", machine, eviction).await;
    let name =
        "a pod is evicted for what a container writes beyond its limit, or all beyond theirs";
    report.check(name, machine, too_much_disk).await;
    report.check("users and groups are those of the pod", machine, identity).await;
    report.check("root of a pod with ids of its own is nobody", machine, user_namespace).await;
    report.check("a hostPath of the wrong type is named", machine, wrong_host_path).await;
    report.check("sub paths and images are mounted", machine, sub_paths).await;
    report.check("conditions and class are told", machine, conditions).await;
    report.check("files follow the config", machine, files_follow).await;
    report
        .check("a pod ends in the order of its containers, hooks first", machine, order_of_the_end)
        .await;
}

/// A pod of the workload image. `containers` and `more` are YAML in flow style.
fn pod(name: &str, containers: &[&str], more: &str) -> String {
    let containers: Vec<String> =
        containers.iter().map(|c| format!("{{image: {WORKLOAD}, {c}}}")).collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: shop}}}}\nspec: {{containers: [{}]{}{more}}}\n",
        containers.join(", "),
        if more.is_empty() { "" } else { ", " },
    )
}

fn documents(colour: &str) -> Vec<String> {
    let mut all = vec![
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{colour: {colour}}}\n"),
        "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {password: correct-horse}\n".to_owned(),
    ];
    all.extend(pods_with_data());
    all.extend(pods_with_probes());
    all.extend(pods_that_end());
    all.extend(pods_with_rights());
    all
}

fn pods_with_data() -> Vec<String> {
    let journal = "volumeMounts: [{name: log, mountPath: /log}]";
    vec![
        pod(
            "ordered",
            &[&format!(
                "name: main, args: [journal, /log/journal, main], {journal}, lifecycle: {{preStop: {{exec: {{command: [/workload, append, /log/journal, hook]}}}}}}"
            )],
            &format!(
                "initContainers: [{{name: prepare, image: {WORKLOAD}, args: [append, /log/journal, prepared], {journal}}}, {{name: beside, image: {WORKLOAD}, restartPolicy: Always, args: [journal, /log/journal, beside], {journal}, startupProbe: {{exec: {{command: [/workload, exists, /log/journal]}}, periodSeconds: 1}}}}], volumes: [{{name: log, hostPath: {{path: /var/journal, type: DirectoryOrCreate}}}}]"
            ),
        ),
        pod(
            "variables",
            &[
                "name: main, args: [env], envFrom: [{prefix: MAP_, configMapRef: {name: settings}}], resources: {limits: {memory: 32Mi}}, env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}, {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}, {name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}, {name: BOTH, value: $(POD)-$(MEMORY)}]",
            ],
            "restartPolicy: Never",
        ),
        pod(
            "files",
            &[
                "name: map, args: [show, /all/map/colour], volumeMounts: [{name: all, mountPath: /all}]",
                "name: secret, args: [show, /keys/password], volumeMounts: [{name: keys, mountPath: /keys}]",
                "name: labels, args: [show, /all/labels], volumeMounts: [{name: all, mountPath: /all}]",
            ],
            "volumes: [{name: all, projected: {defaultMode: 0444, sources: [{configMap: {name: settings, items: [{key: colour, path: map/colour, mode: 0600}]}}, {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}}, {name: keys, secret: {secretName: keys, defaultMode: 0400}}]",
        ),
        pod(
            "parts",
            &[
                "name: write, args: [write, /part/file, whole], volumeMounts: [{name: data, mountPath: /part, subPathExpr: a/$(NAME)}], env: [{name: NAME, value: b}]",
                "name: read, args: [cat, /all/a/b/file], volumeMounts: [{name: data, mountPath: /all, readOnly: true}]",
                "name: image, args: [exists, /image/workload], volumeMounts: [{name: image, mountPath: /image}]",
            ],
            &format!(
                "restartPolicy: OnFailure, volumes: [{{name: data, emptyDir: {{}}}}, {{name: image, image: {{reference: {WORKLOAD}}}}}]"
            ),
        ),
    ]
}

fn pods_with_probes() -> Vec<String> {
    vec![
        pod(
            "unready",
            &[
                "name: main, args: [sleep], readinessProbe: {exec: {command: [/workload, exists, /gone]}, periodSeconds: 1}",
            ],
            "",
        ),
        pod(
            "probed",
            &[
                "name: main, args: [serve, \"8080\"], ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {port: http, path: /}, periodSeconds: 2, timeoutSeconds: 5}, livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 10}",
            ],
            "",
        ),
        pod(
            "dying",
            &[
                "name: main, args: [sleep], livenessProbe: {exec: {command: [/workload, exists, /gone]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 2}",
            ],
            "terminationGracePeriodSeconds: 2",
        ),
        pod(
            "starting",
            &[
                "name: main, args: [sleep], startupProbe: {tcpSocket: {port: 9}, periodSeconds: 5, failureThreshold: 1000}, livenessProbe: {exec: {command: [/workload, exists, /gone]}, periodSeconds: 1, failureThreshold: 1}",
            ],
            "",
        ),
        pod(
            "hooked",
            &[
                "name: main, args: [cat, /tmp-hook/hook], volumeMounts: [{name: data, mountPath: /tmp-hook}], lifecycle: {postStart: {exec: {command: [/workload, write, /tmp-hook/hook, hooked]}}}",
            ],
            "restartPolicy: OnFailure, volumes: [{name: data, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]",
        ),
    ]
}

fn pods_that_end() -> Vec<String> {
    vec![
        pod(
            "speaking",
            &[
                "name: file, args: [write, /dev/termination-log, goodbye]",
                "name: log, args: [tick, \"1\", \"3\", \"4\"], terminationMessagePolicy: FallbackToLogsOnError",
            ],
            "restartPolicy: Never",
        ),
        pod("late", &["name: main, args: [sleep]"], "activeDeadlineSeconds: 5"),
        pod(
            "greedy",
            &[
                "name: main, args: [fill, /data/file, \"3\"], volumeMounts: [{name: data, mountPath: /data}]",
                "name: other, args: [sleep]",
            ],
            "volumes: [{name: data, emptyDir: {sizeLimit: 1Mi}}]",
        ),
        pod(
            "layered",
            &[
                "name: main, args: [keep, /file, \"3\"], resources: {limits: {ephemeral-storage: 2Mi}}",
                "name: other, args: [sleep], resources: {limits: {ephemeral-storage: 50Mi}}",
            ],
            "",
        ),
        pod(
            "together",
            &[
                "name: main, args: [keep, /data/file, \"5\"], volumeMounts: [{name: data, mountPath: /data}], \
                 resources: {limits: {ephemeral-storage: 2Mi}}",
                "name: other, args: [sleep], resources: {limits: {ephemeral-storage: 2Mi}}",
            ],
            "volumes: [{name: data, emptyDir: {}}]",
        ),
        pod(
            "modest",
            &[
                "name: main, args: [keep, /file, \"1\"], resources: {limits: {ephemeral-storage: 2Mi}}",
                "name: other, args: [keep, /file, \"3\"]",
            ],
            "",
        ),
    ]
}

fn pods_with_rights() -> Vec<String> {
    vec![
        pod(
            "somebody",
            &["name: main, args: [id], securityContext: {runAsUser: 1234}"],
            "restartPolicy: Never, securityContext: {runAsGroup: 55, runAsUser: 1, fsGroup: 77, supplementalGroups: [88]}",
        ),
        pod(
            "mapped",
            &[
                "name: main, args: [cat, /proc/self/uid_map]",
                "name: writes, args: [show, /keys/password], volumeMounts: [{name: keys, mountPath: /keys}, {name: data, mountPath: /data}]",
            ],
            "restartPolicy: Never, hostUsers: false, volumes: [{name: keys, secret: {secretName: keys, defaultMode: 0400}}, {name: data, emptyDir: {}}]",
        ),
        pod(
            "mistyped",
            &["name: main, args: [sleep], volumeMounts: [{name: host, mountPath: /host}]"],
            "volumes: [{name: host, hostPath: {path: /usr/bin/ingotd, type: Directory}}]",
        ),
    ]
}

/// The pod, once `fits` has nothing against it.
async fn until_pod(
    machine: &Machine,
    name: &str,
    what: &str,
    fits: impl Fn(&Pod) -> bool,
) -> anyhow::Result<Pod> {
    let mut api = machine.api()?;
    wait::until(&format!("pod {name} {what}"), LIMIT, async || {
        let pod = api.pod(name).await?.context("the pod is not there")?;
        ensure!(fits(&pod), "{pod:?}");
        Ok(Some(pod))
    })
    .await
}

/// Waits until a container has printed a line.
async fn until_printed(
    machine: &Machine,
    pod: &str,
    container: &str,
    line: &str,
) -> anyhow::Result<Vec<String>> {
    let mut api = machine.api()?;
    wait::until(&format!("{pod}/{container} to print {line:?}"), LIMIT, async || {
        let lines = api.logs_of(pod, container).await?;
        ensure!(lines.iter().any(|own| own == line), "it printed {lines:?}");
        Ok(Some(lines))
    })
    .await
}

fn container<'a>(pod: &'a Pod, name: &str) -> anyhow::Result<&'a Container> {
    pod.containers.iter().find(|c| c.name == name).with_context(|| format!("no container {name}"))
}

async fn order(machine: &mut Machine) -> anyhow::Result<()> {
    let lines = until_printed(machine, "ordered", "main", "beside begins").await?;
    ensure!(lines == ["prepared", "beside begins"], "the container found {lines:?}");
    let pod = until_pod(machine, "ordered", "to run", |pod| pod.phase == "Running").await?;
    let roles: Vec<_> = pod.containers.iter().map(|c| c.role.as_str()).collect();
    ensure!(roles == ["init", "sidecar", "container"], "{roles:?}");
    ensure!(pod.containers.iter().all(|c| c.restarts == 0), "{pod:?}");
    Ok(())
}

async fn variables(machine: &mut Machine) -> anyhow::Result<()> {
    let lines = until_printed(machine, "variables", "main", "BOTH=variables-32").await?;
    for line in ["MAP_colour=blue", "PASSWORD=correct-horse", "NODE=shared", "MEMORY=32"] {
        ensure!(lines.iter().any(|own| own == line), "no {line} in {lines:?}");
    }
    ensure!(lines.iter().any(|line| line.starts_with("ADDRESS=10.244.0.")), "{lines:?}");
    Ok(())
}

async fn files(machine: &mut Machine) -> anyhow::Result<()> {
    until_printed(machine, "files", "map", "0600 0 0 blue").await?;
    until_printed(machine, "files", "secret", "0400 0 0 correct-horse").await?;
    until_printed(machine, "files", "labels", "0444 0 0 app=\"shop\"").await.map(drop)
}

async fn redacted(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let config = api.config().await?.config;
    ensure!(config.contains("<redacted>"), "{config}");
    ensure!(!config.contains("correct-horse"), "the config shows the secret");
    let pods = format!("{:?}", api.pods().await?);
    ensure!(!pods.contains("correct-horse"), "the list of pods shows the secret");
    Ok(())
}

async fn readiness(machine: &mut Machine) -> anyhow::Result<()> {
    let unhealthy = |pod: &Pod| pod.phase == "Running" && pod.containers.iter().any(|c| c.started);
    let pod = until_pod(machine, "unready", "to run", unhealthy).await?;
    let ready = pod.conditions.iter().find(|c| c.name == "Ready").context("no condition Ready")?;
    ensure!(!ready.status && ready.reason == "ContainersNotReady", "{ready:?}");
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    pod.conditions.iter().any(|c| c.name == "Ready" && c.status)
}

async fn network_probes(machine: &mut Machine) -> anyhow::Result<()> {
    let pod = until_pod(machine, "probed", "to be ready", is_ready).await?;
    ensure!(pod.containers.iter().all(|c| c.restarts == 0), "{pod:?}");
    Ok(())
}

async fn liveness(machine: &mut Machine) -> anyhow::Result<()> {
    let restarted = |pod: &Pod| pod.containers.iter().any(|c| c.restarts > 0);
    until_pod(machine, "dying", "to be restarted", restarted).await?;
    let events = machine.api()?.events().await?;
    let of_pod = |reason: &str| {
        events.iter().any(|e| e.object == "container/default/dying/main" && e.reason == reason)
    };
    ensure!(of_pod("Unhealthy") && of_pod("Killing"), "{events:?}");
    Ok(())
}

async fn startup_probe(machine: &mut Machine) -> anyhow::Result<()> {
    let runs = |pod: &Pod| pod.phase == "Running";
    let pod = until_pod(machine, "starting", "to run", runs).await?;
    let main = container(&pod, "main")?;
    ensure!(!main.started && !main.ready && main.restarts == 0, "{main:?}");
    Ok(())
}

async fn post_start(machine: &mut Machine) -> anyhow::Result<()> {
    until_printed(machine, "hooked", "main", "hooked").await.map(drop)
}

async fn last_words(machine: &mut Machine) -> anyhow::Result<()> {
    let pod = until_pod(machine, "speaking", "to have failed", |pod| pod.phase == "Failed").await?;
    let words = |name: &str| -> anyhow::Result<String> {
        Ok(container(&pod, name)?.history.last().context("no end")?.message.clone())
    };
    ensure!(words("file")? == "goodbye\n", "{:?}", words("file"));
    ensure!(words("log")? == "tick 1\ntick 2\ntick 3", "{:?}", words("log"));
    Ok(())
}

async fn deadline(machine: &mut Machine) -> anyhow::Result<()> {
    let pod = until_pod(machine, "late", "to have failed", |pod| pod.phase == "Failed").await?;
    ensure!(pod.reason == "DeadlineExceeded", "{pod:?}");
    Ok(())
}

async fn eviction(machine: &mut Machine) -> anyhow::Result<()> {
    let ended = |pod: &Pod| pod.phase == "Failed" && pod.containers.iter().all(|c| c.pid == 0);
    let pod = until_pod(machine, "greedy", "to be evicted", ended).await?;
    ensure!(pod.reason == "Evicted" && pod.message.contains("\"data\""), "{pod:?}");
    Ok(())
}

async fn too_much_disk(machine: &mut Machine) -> anyhow::Result<()> {
    let ended = |pod: &Pod| pod.phase == "Failed" && pod.containers.iter().all(|c| c.pid == 0);
    for (name, says) in [
        ("layered", "Container main exceeded its local ephemeral storage limit \"2Mi\"."),
        ("together", "exceeds the total limit of containers 4194304."),
    ] {
        let pod = until_pod(machine, name, "to be evicted", ended).await?;
        ensure!(pod.reason == "Evicted" && pod.message.contains(says), "{pod:?}");
    }
    // It began with the others; below its limit, or without one, nobody is evicted.
    let pod = until_pod(machine, "modest", "to be there", |_| true).await?;
    ensure!(pod.reason != "Evicted", "{pod:?}");
    Ok(())
}

async fn identity(machine: &mut Machine) -> anyhow::Result<()> {
    until_pod(machine, "somebody", "to have ended", |pod| pod.phase == "Succeeded").await?;
    let lines = machine.api()?.logs("somebody").await?.join("\n");
    for number in ["1234", "55", "77", "88"] {
        ensure!(lines.contains(number), "no {number} in {lines}");
    }
    Ok(())
}

async fn user_namespace(machine: &mut Machine) -> anyhow::Result<()> {
    until_printed(machine, "mapped", "writes", "0400 0 0 correct-horse").await?;
    let mut api = machine.api()?;
    wait::until("the pod to print its map of ids", LIMIT, async || {
        let lines = api.logs_of("mapped", "main").await?;
        let words: Vec<String> =
            lines.iter().flat_map(|l| l.split_whitespace()).map(str::to_owned).collect();
        ensure!(words.len() == 3 && words[0] == "0" && words[2] == "65536", "{lines:?}");
        ensure!(words[1].parse::<u32>().is_ok_and(|first| first >= 65_536), "{lines:?}");
        Ok(Some(()))
    })
    .await
}

async fn wrong_host_path(machine: &mut Machine) -> anyhow::Result<()> {
    let says = |pod: &Pod| pod.message.contains("is not a directory");
    let pod = until_pod(machine, "mistyped", "to say why", says).await?;
    ensure!(pod.phase == "Pending", "{pod:?}");
    Ok(())
}

async fn sub_paths(machine: &mut Machine) -> anyhow::Result<()> {
    until_pod(machine, "parts", "to have ended", |pod| pod.phase == "Succeeded").await?;
    until_printed(machine, "parts", "read", "whole").await.map(drop)
}

async fn conditions(machine: &mut Machine) -> anyhow::Result<()> {
    let pod = until_pod(machine, "probed", "to be ready", is_ready).await?;
    let names: Vec<_> = pod.conditions.iter().map(|c| c.name.as_str()).collect();
    ensure!(names == ["PodScheduled", "Initialized", "ContainersReady", "Ready"], "{names:?}");
    ensure!(pod.qos_class == "BestEffort" && pod.labels["app"] == "shop", "{pod:?}");
    let probes = &container(&pod, "main")?.probes;
    ensure!(probes.iter().any(|p| p.starts_with("Readiness: http-get")), "{probes:?}");
    Ok(())
}

async fn files_follow(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let before = api.pod("files").await?.context("no pod")?;
    apply_pods(machine, &mut api, &documents("red")).await?;
    until_printed(machine, "files", "map", "0600 0 0 red").await?;
    let after = api.pod("files").await?.context("no pod")?;
    let ids = |pod: &Pod| pod.containers.iter().map(|c| c.id.clone()).collect::<Vec<_>>();
    ensure!(ids(&before) == ids(&after), "its containers were made anew");
    Ok(())
}

async fn order_of_the_end(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    apply_pods(machine, &mut api, &[]).await?;
    wait::until("the pods to be gone", LIMIT, async || {
        let left = api.pods().await?;
        ensure!(left.is_empty(), "{:?}", left.iter().map(|p| &p.name).collect::<Vec<_>>());
        Ok(Some(()))
    })
    .await?;
    let journal = api.read_text("/var/journal/journal").await?;
    let lines: Vec<_> = journal.lines().collect();
    let wanted = ["prepared", "beside begins", "main begins", "hook", "main ends", "beside ends"];
    ensure!(lines == wanted, "the journal says {lines:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Credentials;

    #[test]
    fn the_pods_are_a_sound_config() {
        let credentials = Credentials::generate().unwrap();
        let mut all = vec![crate::documents::machine(&credentials, "shared")];
        all.extend(documents("blue"));
        let loaded = ingot_machine_config::load(&crate::documents::stream(&all));
        let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}
