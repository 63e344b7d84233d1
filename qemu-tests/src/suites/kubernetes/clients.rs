//! What other people's programs do with a cluster: Helm installs, changes and removes a chart, and a controller written with `kube` keeps
//! its objects as they should be.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{CHECK_LIMIT, KubernetesKit, POD_LIMIT, WORKLOAD, clear};
use crate::kubernetes::Cluster;
use crate::kubernetes::command::{Ran, run as run_program};
use crate::report::Report;

const NAMESPACE: &str = "clients";

/// The chart, file by file.
const CHART: &[(&str, &str)] = &[
    (
        "Chart.yaml",
        "apiVersion: v2\nname: greeter\nversion: 1.2.3\nappVersion: '4'\ndescription: Answers.\n",
    ),
    ("values.yaml", "replicas: 1\nport: 8080\nimage: WORKLOAD\n"),
    (
        "templates/_names.tpl",
        "{{- define \"labels\" -}}\napp: {{ .Release.Name }}\nchart: {{ .Chart.Name }}\n{{- end }}\n",
    ),
    (
        "templates/all.yaml",
        r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
  labels: {{- include "labels" . | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata:
      labels: {{- include "labels" . | nindent 8 }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: {{ .Values.image }}
        imagePullPolicy: Never
        args: [serve, {{ .Values.port | quote }}]
        readinessProbe: {tcpSocket: {port: {{ .Values.port }}}}
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {app: {{ .Release.Name }}}
  ports: [{port: 80, targetPort: {{ .Values.port }}}]
"#,
    ),
    (
        "templates/hook.yaml",
        r#"apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-before
  annotations: {helm.sh/hook: pre-install, helm.sh/hook-delete-policy: hook-succeeded}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: main, image: {{ .Values.image }}, imagePullPolicy: Never, args: [env]}
"#,
    ),
];

pub(super) async fn run(cluster: &mut Cluster, kit: &KubernetesKit, report: &Report) {
    let c = cluster;
    let prepared = async |cluster: &mut Cluster| {
        cluster.kubectl.ok(&["create", "namespace", NAMESPACE]).await.map(drop)
    };
    if !c.check(report, "a namespace for clients is taken", CHECK_LIMIT, prepared).await {
        return;
    }
    let name = "Helm installs a chart, changes it, takes that back, and removes it";
    match &kit.helm {
        Some(helm) => {
            let chart = async |cluster: &mut Cluster| chart(cluster, helm).await;
            c.check(report, name, CHECK_LIMIT * 2, chart).await;
        }
        None => report.skip(name, "Helm cannot be built; see the last lines"),
    }
    if let Some(program) = &kit.controller {
        let name = "a controller written with kube keeps its objects";
        let kept = async |cluster: &mut Cluster| controller(cluster, program).await;
        c.check(report, name, CHECK_LIMIT, kept).await;
    }
    clear(c, NAMESPACE).await;
}

/// A program with the user's kubeconfig.
fn program(cluster: &Cluster, program: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    // What kubectl is given decides which cluster, and where caches go.
    let like = cluster.kubectl.command(&[]);
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?)))).args(words);
    command
}

async fn chart(cluster: &mut Cluster, helm: &Path) -> anyhow::Result<()> {
    let folder = cluster.machine.directory().join("greeter");
    for (name, text) in CHART {
        let path = folder.join(name);
        fs_err::create_dir_all(path.parent().unwrap_or(&folder))?;
        fs_err::write(path, text.replace("WORKLOAD", WORKLOAD))?;
    }
    let folder = folder.to_string_lossy().into_owned();
    let call = async |words: &[&str]| -> anyhow::Result<Ran> {
        let words = [words, &["--namespace", NAMESPACE]].concat();
        run_program(program(cluster, helm, &words), "", POD_LIMIT * 2).await
    };
    call(&["lint", &folder]).await?.ok()?;
    call(&["install", "greeter", &folder, "--wait", "--timeout", "8m"]).await?.ok()?;
    let ready = "{.status.readyReplicas}";
    let deployment = ["-n", NAMESPACE, "deployment/greeter"];
    cluster.kubectl.wait_field(&deployment, ready, "1", POD_LIMIT).await?;
    let more = ["--set", "replicas=2", "--wait", "--timeout", "8m"];
    call(&[&["upgrade", "greeter", &folder][..], &more].concat()).await?.ok()?;
    cluster.kubectl.wait_field(&deployment, ready, "2", POD_LIMIT).await?;
    let list: Value = serde_json::from_str(&call(&["list", "-o", "json"]).await?.ok()?)?;
    ensure!(list[0]["revision"] == "2" && list[0]["status"] == "deployed", "it lists {list}");
    call(&["rollback", "greeter", "1", "--wait", "--timeout", "8m"]).await?.ok()?;
    cluster.kubectl.wait_field(&deployment, "{.spec.replicas}", "1", POD_LIMIT).await?;
    call(&["uninstall", "greeter", "--wait", "--timeout", "8m"]).await?.ok()?;
    cluster.kubectl.refused(&[&["get"], &deployment[..]].concat(), &["NotFound"]).await?;
    Ok(())
}

async fn controller(cluster: &mut Cluster, path: &Path) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let mut command = tokio::process::Command::from(program(cluster, path, &[]));
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let mut running = command.spawn().context("start the controller")?;
    let (all, one) = (["-n", NAMESPACE], "configmap/words-mirror");
    let made = ["create", "configmap", "words", "--from-literal=word=drawer"];
    kubectl.ok(&[&made[..], &all].concat()).await?;
    kubectl.ok(&[&["label", "configmap", "words", "mirror=yes"][..], &all].concat()).await?;
    let mirror = ["-n", NAMESPACE, one];
    kubectl.wait_field(&mirror, "{.data.word}", "reward", POD_LIMIT).await?;
    // What it owns comes back, and follows.
    kubectl.ok(&[&["delete", one], &all[..]].concat()).await?;
    kubectl.wait_field(&mirror, "{.data.word}", "reward", POD_LIMIT).await?;
    let patch = r#"{"data":{"word":"live"}}"#;
    kubectl.ok(&[&["patch", "configmap", "words", "-p", patch][..], &all].concat()).await?;
    kubectl.wait_field(&mirror, "{.data.word}", "evil", POD_LIMIT).await?;
    // The cluster's own collector takes what has lost its owner.
    kubectl.ok(&[&["delete", "configmap/words"], &all[..]].concat()).await?;
    let gone = async || {
        let ran = kubectl.run(&[&["get"], &mirror[..]].concat(), "").await?;
        Ok(ran.refused(&["NotFound"]).ok())
    };
    crate::wait::until("the mirror to go", POD_LIMIT, gone).await?;
    ensure!(running.try_wait()?.is_none(), "the controller has ended");
    running.kill().await.context("end the controller")
}
