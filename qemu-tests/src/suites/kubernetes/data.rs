//! What pods are given and what they leave: config maps, secrets, tokens, and volumes that outlive them.

use anyhow::ensure;

use super::{CHECK_LIMIT, POD_LIMIT, clear, prepare};
use crate::kubernetes::Cluster;
use crate::report::Report;

const NAMESPACE: &str = "data";

/// Reads what another pod left in the claim.
const SECOND: &str = "
apiVersion: v1
kind: Pod
metadata: {name: second}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: BUSYBOX
    command: [cat, /data/file]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: kept}}]
";

/// A job leaves what it was told on a volume, and a pod finds it there.
const SHORT: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {words: kept-words}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 16Mi}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: writer}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: main
        image: WORKLOAD
        imagePullPolicy: Never
        args: [write, /data/file, $(WORDS)]
        env: [{name: WORDS, valueFrom: {configMapKeyRef: {name: settings, key: words}}}]
        volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: kept}}]
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: WORKLOAD
    imagePullPolicy: Never
    args: [cat, /data/file]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: kept}}]
";

/// The way from a config map over a job to a volume and another pod.
pub(super) async fn short(c: &mut Cluster, report: &Report) {
    let kept = async |cluster: &mut Cluster| {
        prepare(cluster, NAMESPACE, SHORT).await?;
        let kubectl = &cluster.kubectl;
        let job = ["-n", NAMESPACE, "job/writer"];
        kubectl.wait_for("condition=Complete", &job, POD_LIMIT).await?;
        let reader = ["-n", NAMESPACE, "pod/reader"];
        kubectl.wait_for("jsonpath={.status.phase}=Succeeded", &reader, POD_LIMIT).await?;
        let text = kubectl.ok(&["logs", "-n", NAMESPACE, "reader"]).await?;
        ensure!(text.trim() == "kept-words", "the volume holds {text:?}");
        Ok(())
    };
    let name = "a job writes to a volume what a config map says, and a pod reads it";
    c.check(report, name, CHECK_LIMIT, kept).await;
    clear(c, NAMESPACE).await;
}

pub(super) async fn run(cluster: &mut Cluster, report: &Report) {
    let prepared = async |cluster: &mut Cluster| {
        prepare(cluster, NAMESPACE, include_str!("data.yaml")).await?;
        let pod = ["-n", NAMESPACE, "pod/reader"];
        cluster.kubectl.wait_for("condition=Ready", &pod, POD_LIMIT).await
    };
    let c = cluster;
    if c.check(report, "a pod with every kind of volume runs", CHECK_LIMIT, prepared).await {
        c.check(report, "a config map is an environment and files", CHECK_LIMIT, config_map).await;
        c.check(report, "a changed config map changes the files", CHECK_LIMIT, changed).await;
        c.check(report, "a secret is for its pod only", CHECK_LIMIT, secret).await;
        c.check(report, "secrets are not readable where etcd keeps them", CHECK_LIMIT, at_rest)
            .await;
        c.check(report, "a projected token is for whom it says", CHECK_LIMIT, token).await;
        c.check(report, "a pod is told about itself", CHECK_LIMIT, downward).await;
        c.check(report, "a persistent volume outlives its pod", CHECK_LIMIT, persistent).await;
    }
    clear(c, NAMESPACE).await;
}

async fn inside(cluster: &Cluster, script: &str) -> anyhow::Result<String> {
    cluster.kubectl.exec(&["-n", NAMESPACE, "reader"], &["sh", "-c", script]).await
}

async fn config_map(cluster: &mut Cluster) -> anyhow::Result<()> {
    let text =
        inside(cluster, "echo $COLOR; cat /settings/file.txt; echo; cat /etc/part.txt").await?;
    let lines: Vec<&str> = text.lines().collect();
    ensure!(lines == ["green", "from the map", "from the map"], "{lines:?}");
    Ok(())
}

async fn changed(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let patch = r#"{"data":{"color":"blue"}}"#;
    kubectl.ok(&["patch", "configmap", "settings", "-n", NAMESPACE, "-p", patch]).await?;
    let words = ["exec", "-n", NAMESPACE, "reader", "--", "cat", "/settings/color"];
    kubectl.until(&words, "blue", POD_LIMIT).await.map(drop)
}

async fn secret(cluster: &mut Cluster) -> anyhow::Result<()> {
    let script = "echo $PASSWORD; cat /hidden/password; echo; stat -L -c %a /hidden/password; \
                  grep -c ' /hidden tmpfs ' /proc/mounts";
    let text = inside(cluster, script).await?;
    let lines: Vec<&str> = text.lines().collect();
    ensure!(lines == ["swordfish", "swordfish", "400", "1"], "{lines:?}");
    Ok(())
}

/// Asks etcd for the stored bytes, as a backup of it would have them.
async fn at_rest(cluster: &mut Cluster) -> anyhow::Result<()> {
    let snapshot = cluster.machine.directory().join("at-rest.snapshot");
    let path = snapshot.to_string_lossy().into_owned();
    cluster.ingotctl(&["etcd", "snapshot", &path]).await?.ok()?;
    let bytes = fs_err::read(&snapshot)?;
    fs_err::remove_file(&snapshot)?;
    let has = |word: &str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
    ensure!(has("/registry/secrets/data/hidden"), "the snapshot does not have the secret at all");
    ensure!(has("from the map"), "the config map is not there in clear: the check shows nothing");
    ensure!(!has("swordfish"), "the secret is there in clear");
    Ok(())
}

async fn token(cluster: &mut Cluster) -> anyhow::Result<()> {
    let token = inside(cluster, "cat /tokens/vault").await?;
    let review = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token.trim(), "audiences": ["vault"]},
    });
    let words =
        ["create", "-f", "-", "-o", "jsonpath={.status.authenticated} {.status.user.username}"];
    let text = cluster.kubectl.run(&words, &review.to_string()).await?.ok()?;
    ensure!(text == "true system:serviceaccount:data:default", "the review says {text:?}");
    // Not for the API server itself.
    let stranger = cluster.kubectl.with_token("vault", token.trim()).await?;
    stranger.refused(&["get", "pods", "-n", NAMESPACE], &[]).await?;
    Ok(())
}

async fn downward(cluster: &mut Cluster) -> anyhow::Result<()> {
    let address =
        cluster.kubectl.field(&["-n", NAMESPACE, "pod/reader"], "{.status.podIP}").await?;
    let text = inside(cluster, "echo $POD_IP $LIMIT; cat /labels/labels").await?;
    ensure!(text.contains(&format!("{address} 33554432")), "{text}");
    ensure!(text.contains("app=\"reader\""), "{text}");
    Ok(())
}

async fn persistent(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let ended = "jsonpath={.status.phase}=Succeeded";
    kubectl.wait_for(ended, &["-n", NAMESPACE, "pod/writer"], POD_LIMIT).await?;
    kubectl.ok(&["delete", "pod", "-n", NAMESPACE, "writer"]).await?;
    let second = SECOND.replace("BUSYBOX", super::BUSYBOX);
    kubectl.run(&["apply", "-n", NAMESPACE, "-f", "-"], &second).await?.ok()?;
    kubectl.wait_for(ended, &["-n", NAMESPACE, "pod/second"], POD_LIMIT).await?;
    let text = kubectl.ok(&["logs", "-n", NAMESPACE, "second"]).await?;
    ensure!(text.trim() == "kept words", "the volume holds {text:?}");
    Ok(())
}
