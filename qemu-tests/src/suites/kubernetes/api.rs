//! What programs use of a cluster: its REST API, kinds of one's own, labels, watches, and metrics.

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{CHECK_LIMIT, POD_LIMIT, clear, text};
use crate::kubernetes::Cluster;
use crate::kubernetes::cluster::API_SERVER_PORT;
use crate::kubernetes::rest::Request;
use crate::report::Report;

const NAMESPACE: &str = "api";

pub(super) async fn run(cluster: &mut Cluster, report: &Report) {
    let prepared = async |cluster: &mut Cluster| {
        cluster.kubectl.ok(&["create", "namespace", NAMESPACE]).await.map(drop)
    };
    let c = cluster;
    if c.check(report, "a namespace for programs is taken", CHECK_LIMIT, prepared).await {
        c.check(report, "kinds of one's own are kept and validated", CHECK_LIMIT, own_kind).await;
        c.check(report, "labels select, and a watch tells of changes", CHECK_LIMIT, labels).await;
        let name = "a namespace is names of its own, and takes its objects with it";
        c.check(report, name, CHECK_LIMIT, namespaces).await;
        c.check(report, "a stale write is refused", CHECK_LIMIT, conflict).await;
        c.check(report, "the API describes itself", CHECK_LIMIT, described).await;
        c.check(report, "plain requests with a token are answered", CHECK_LIMIT, plain).await;
        c.check(report, "use of CPU and memory is measured", CHECK_LIMIT, metrics).await;
    }
    clear(c, NAMESPACE).await;
}

/// What needs no pods.
pub(super) async fn short(c: &mut Cluster, report: &Report) {
    let prepared = async |cluster: &mut Cluster| {
        cluster.kubectl.ok(&["create", "namespace", NAMESPACE]).await.map(drop)
    };
    if c.check(report, "a namespace for programs is taken", CHECK_LIMIT, prepared).await {
        c.check(report, "kinds of one's own are kept and validated", CHECK_LIMIT, own_kind).await;
        c.check(report, "plain requests with a token are answered", CHECK_LIMIT, plain).await;
    }
    clear(c, NAMESPACE).await;
}

async fn own_kind(cluster: &mut Cluster) -> anyhow::Result<()> {
    let schema = json!({
        "type": "object",
        "properties": {"spec": {
            "type": "object",
            "required": ["size"],
            "properties": {"size": {"type": "integer", "minimum": 1}, "color": {"type": "string", "default": "grey"}},
            "x-kubernetes-validations": [{"rule": "self.size < 10", "message": "too large"}],
        }},
    });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "stones.ingot.test"},
        "spec": {
            "group": "ingot.test",
            "scope": "Namespaced",
            "names": {"plural": "stones", "singular": "stone", "kind": "Stone"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    let kubectl = &cluster.kubectl;
    kubectl.apply(&definition.to_string()).await?;
    let definition = ["crd/stones.ingot.test"];
    kubectl.wait_for("condition=Established", &definition, POD_LIMIT).await?;
    let stone = |name: &str, size: i32| {
        json!({
            "apiVersion": "ingot.test/v1",
            "kind": "Stone",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"size": size},
        })
        .to_string()
    };
    kubectl.apply(&stone("small", 3)).await?;
    let color = kubectl.field(&["-n", NAMESPACE, "stone/small"], "{.spec.color}").await?;
    ensure!(color == "grey", "the default is {color:?}");
    kubectl.apply_refused(&stone("none", 0), &["greater than or equal to 1"]).await?;
    kubectl.apply_refused(&stone("huge", 10), &["too large"]).await?;
    kubectl.ok(&["delete", "crd", "stones.ingot.test"]).await?;
    // kubectl may remember that there was such a kind; its words then are the server's.
    kubectl.refused(&["get", "stones", "-n", NAMESPACE], &["stones"]).await?;
    Ok(())
}

async fn labels(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    for name in ["one", "two"] {
        kubectl.ok(&["create", "configmap", name, "-n", NAMESPACE]).await?;
        let label = format!("is={name}");
        kubectl.ok(&["label", "configmap", name, "-n", NAMESPACE, &label]).await?;
    }
    let words = ["get", "configmaps", "-n", NAMESPACE, "-l", "is in (two, three)", "-o", "name"];
    let found = kubectl.ok(&words).await?;
    ensure!(found.trim() == "configmap/two", "the label selects {found:?}");
    let one = ["-n", NAMESPACE, "configmap/one"];
    let watch = kubectl.wait_for("jsonpath={.data.heard}=yes", &one, POD_LIMIT);
    let change = async {
        let patch = r#"{"data":{"heard":"yes"}}"#;
        kubectl.ok(&["patch", "configmap", "one", "-n", NAMESPACE, "-p", patch]).await
    };
    let (watched, changed) = futures::join!(watch, change);
    changed?;
    watched
}

async fn namespaces(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    kubectl.ok(&["create", "namespace", "api-other"]).await?;
    for namespace in [NAMESPACE, "api-other"] {
        let value = format!("--from-literal=of={namespace}");
        kubectl.ok(&["create", "configmap", "same", "-n", namespace, &value]).await?;
    }
    kubectl.ok(&["delete", "namespace", "api-other", "--timeout=150s"]).await?;
    kubectl.refused(&["get", "configmap", "same", "-n", "api-other"], &["NotFound"]).await?;
    let kept = kubectl.field(&["-n", NAMESPACE, "configmap/same"], "{.data.of}").await?;
    ensure!(kept == NAMESPACE, "the one of the other namespace holds {kept:?}");
    Ok(())
}

async fn conflict(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    kubectl.ok(&["create", "configmap", "stale", "-n", NAMESPACE]).await?;
    let mut old = kubectl.get(&["-n", NAMESPACE, "configmap/stale"]).await?;
    kubectl.ok(&["label", "configmap", "stale", "-n", NAMESPACE, "is=newer"]).await?;
    old["data"] = json!({"from": "the past"});
    let ran = kubectl.run(&["replace", "-f", "-"], &old.to_string()).await?;
    ran.refused(&["the object has been modified"]).map(drop)
}

async fn described(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let kinds = kubectl.ok(&["api-resources", "-o", "name"]).await?;
    for kind in ["pods", "deployments.apps", "ingresses.networking.k8s.io"] {
        ensure!(kinds.lines().any(|line| line == kind), "there is no {kind}");
    }
    let explained = kubectl.ok(&["explain", "pod.spec.containers"]).await?;
    ensure!(explained.contains("imagePullPolicy"), "explain says {explained}");
    let version = kubectl.ok(&["version", "-o", "json"]).await?;
    let version: serde_json::Value = serde_json::from_str(&version)?;
    let (client, server) = (
        text(&version, "/clientVersion/gitVersion")?,
        text(&version, "/serverVersion/gitVersion")?,
    );
    ensure!(client == server && client.starts_with("v1."), "{client} asks {server}");
    Ok(())
}

/// As `curl --cacert ca.crt -H "Authorization: Bearer $TOKEN" https://...` does it.
async fn plain(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    kubectl.ok(&["create", "serviceaccount", "script", "-n", NAMESPACE]).await?;
    let user = format!("--serviceaccount={NAMESPACE}:script");
    let words = ["create", "rolebinding", "script", "-n", NAMESPACE, "--clusterrole=edit", &user];
    kubectl.ok(&words).await?;
    let token = kubectl.ok(&["create", "token", "script", "-n", NAMESPACE]).await?;
    let authority = "{.data.ca\\.crt}";
    let ca = kubectl.field(&["-n", NAMESPACE, "configmap/kube-root-ca.crt"], authority).await?;
    let request = Request {
        port: cluster.machine.forwarded(API_SERVER_PORT)?,
        ca,
        token: token.trim().to_owned(),
        method: "GET",
        path: format!("/api/v1/namespaces/{NAMESPACE}/configmaps"),
        body: String::new(),
    };
    let made = json!({"metadata": {"name": "by-hand"}, "data": {"by": "hand"}}).to_string();
    let create = Request { method: "POST", body: made, ..request.clone() };
    let by_hand = format!("{}/by-hand", request.path);
    let elsewhere = "/api/v1/namespaces/kube-system/secrets".to_owned();
    for (what, request, expected, part) in [
        ("create", create, 201, "by-hand"),
        ("list", request.clone(), 200, "by-hand"),
        ("get", Request { path: by_hand.clone(), ..request.clone() }, 200, "\"by\":\"hand\""),
        ("delete", Request { method: "DELETE", path: by_hand, ..request.clone() }, 200, "Success"),
        ("other secrets", Request { path: elsewhere, ..request.clone() }, 403, "script"),
        ("no token", Request { token: "none".to_owned(), ..request }, 401, "Unauthorized"),
    ] {
        let (status, body) = request.send().await.with_context(|| what.to_owned())?;
        ensure!(status == expected && body.contains(part), "{what}: {status} {body}");
    }
    Ok(())
}

async fn metrics(cluster: &mut Cluster) -> anyhow::Result<()> {
    let node = cluster.node().await?;
    let line = cluster.kubectl.until(&["top", "nodes", "--no-headers"], &node, POD_LIMIT).await?;
    ensure!(line.contains("Mi"), "kubectl top says {line:?}");
    let pods = ["top", "pods", "-n", "kube-system", "--no-headers"];
    cluster.kubectl.until(&pods, "coredns", POD_LIMIT).await.map(drop)
}
