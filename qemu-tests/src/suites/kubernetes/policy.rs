//! What is refused, to whom, and where pods may go: rights, admission, quotas, taints, priorities.

use anyhow::ensure;
use serde_json::json;

use super::{CHECK_LIMIT, POD_LIMIT, WORKLOAD, clear};
use crate::kubernetes::Cluster;
use crate::report::Report;

const NAMESPACE: &str = "policy";

const MANIFEST: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: viewer, namespace: policy}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewer, namespace: policy}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: viewer, namespace: policy}]
---
apiVersion: v1
kind: Namespace
metadata: {name: policy-small}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: few, namespace: policy-small}
spec: {hard: {pods: '1', limits.memory: 64Mi}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: usual, namespace: policy-small}
spec:
  limits: [{type: Container, default: {memory: 24Mi}, max: {memory: 48Mi}}]
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: policy-high}
value: 1000
";

/// What is refused before a pod runs.
pub(super) async fn short(c: &mut Cluster, report: &Report) {
    if c.check(report, "rights, quotas and priorities are taken", CHECK_LIMIT, prepared).await {
        c.check(report, "whoever may only look may not change", CHECK_LIMIT, rights).await;
        c.check(report, "nobody gets in without a name", CHECK_LIMIT, anonymous).await;
        c.check(report, "quotas and limit ranges hold", CHECK_LIMIT, quotas).await;
    }
    clear(c, "policy-small").await;
    clear(c, NAMESPACE).await;
}

async fn prepared(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.kubectl.ok(&["create", "namespace", NAMESPACE]).await?;
    let accounts = ["get", "-n", NAMESPACE, "serviceaccounts"];
    cluster.kubectl.until(&accounts, "default", POD_LIMIT).await?;
    cluster.kubectl.apply(MANIFEST).await.map(drop)
}

pub(super) async fn run(cluster: &mut Cluster, report: &Report) {
    let c = cluster;
    if c.check(report, "rights, quotas and priorities are taken", CHECK_LIMIT, prepared).await {
        c.check(report, "whoever may only look may not change", CHECK_LIMIT, rights).await;
        c.check(report, "a node may only touch what is its own", CHECK_LIMIT, node_rights).await;
        c.check(report, "nobody gets in without a name", CHECK_LIMIT, anonymous).await;
        c.check(
            report,
            "privileged pods are refused where nobody allowed them",
            CHECK_LIMIT,
            pod_security,
        )
        .await;
        c.check(report, "a policy of the cluster's own is kept", CHECK_LIMIT, own_policy).await;
        let name = "who changed what is written down, without what was in it";
        c.check(report, name, CHECK_LIMIT, audited).await;
        let name = "whoever writes a network policy is told that nothing keeps it";
        c.check(report, name, CHECK_LIMIT, network_policy).await;
        c.check(report, "quotas and limit ranges hold", CHECK_LIMIT, quotas).await;
        c.check(report, "taints and affinity decide where pods go", CHECK_LIMIT, placement).await;
        c.check(report, "a pod with priority takes another one's place", CHECK_LIMIT, preemption)
            .await;
    }
    clear(c, "policy-small").await;
    clear(c, NAMESPACE).await;
}

/// A pod that sleeps, with further fields of its specification.
fn pod(name: &str, more: serde_json::Value) -> String {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": WORKLOAD, "imagePullPolicy": "Never", "args": ["sleep"],
            }],
        },
    });
    merge(&mut pod["spec"], more);
    pod.to_string()
}

/// Puts the fields of one value into another, deeply; lists are merged item by item.
fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
    use serde_json::Value;
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) if into.len() == from.len() => {
            into.iter_mut().zip(from).for_each(|(into, from)| merge(into, from));
        }
        (into, from) => *into = from,
    }
}

async fn create(cluster: &Cluster, namespace: &str, pod: &str) -> anyhow::Result<()> {
    cluster.kubectl.run(&["create", "-n", namespace, "-f", "-"], pod).await?.ok().map(drop)
}

async fn create_refused(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    parts: &[&str],
) -> anyhow::Result<()> {
    let ran = cluster.kubectl.run(&["create", "-n", namespace, "-f", "-"], pod).await?;
    ran.refused(parts).map(drop)
}

async fn rights(cluster: &mut Cluster) -> anyhow::Result<()> {
    let token = cluster.kubectl.ok(&["create", "token", "viewer", "-n", NAMESPACE]).await?;
    let viewer = cluster.kubectl.with_token("viewer", token.trim()).await?;
    viewer.ok(&["get", "pods", "-n", NAMESPACE]).await?;
    for words in [
        &["get", "secrets", "-n", NAMESPACE][..],
        &["get", "pods", "-n", "kube-system"],
        &["create", "configmap", "mine", "-n", NAMESPACE],
        &["get", "nodes"],
    ] {
        viewer.refused(words, &["forbidden", "system:serviceaccount:policy:viewer"]).await?;
    }
    Ok(())
}

async fn node_rights(cluster: &mut Cluster) -> anyhow::Result<()> {
    let node = cluster.node().await?;
    let own = format!("node/{node}");
    for (name, verb, object, expected) in [
        (node.as_str(), "get", own.as_str(), "yes"),
        (node.as_str(), "update", own.as_str(), "yes"),
        // Each node asks for the others' networks, to set its routes.
        ("another", "get", own.as_str(), "yes"),
        ("another", "delete", own.as_str(), "no"),
        (node.as_str(), "list", "secrets", "no"),
        (node.as_str(), "create", "clusterrolebindings", "no"),
    ] {
        let user = format!("--as=system:node:{name}");
        let words = ["auth", "can-i", verb, object, &user, "--as-group=system:nodes"];
        let said = cluster.kubectl.run(&words, "").await?.stdout;
        ensure!(said.split_whitespace().next() == Some(expected), "{name} {verb} {object}: {said}");
    }
    let label =
        ["label", &own, "taken=over", "--as=system:node:another", "--as-group=system:nodes"];
    cluster.kubectl.refused(&label, &["another", "not allowed"]).await.map(drop)
}

async fn anonymous(cluster: &mut Cluster) -> anyhow::Result<()> {
    let nobody = cluster.kubectl.with_token("nobody", "not-a-token").await?;
    nobody.refused(&["get", "pods"], &["Unauthorized"]).await.map(drop)
}

async fn pod_security(cluster: &mut Cluster) -> anyhow::Result<()> {
    let privileged = json!({"containers": [{"securityContext": {"privileged": true}}]});
    let of_host = json!({"hostNetwork": true, "hostPID": true});
    for (name, more) in [("privileged", privileged.clone()), ("of-host", of_host)] {
        let parts = ["violates PodSecurity \"baseline"];
        create_refused(cluster, NAMESPACE, &pod(name, more), &parts).await?;
    }
    let allowed = "pod-security.kubernetes.io/enforce=privileged";
    cluster.kubectl.ok(&["label", "namespace", NAMESPACE, allowed, "--overwrite"]).await?;
    create(cluster, NAMESPACE, &pod("privileged", privileged)).await?;
    let pod = ["-n", NAMESPACE, "pod/privileged"];
    cluster.kubectl.wait_for("condition=Ready", &pod, POD_LIMIT).await
}

async fn own_policy(cluster: &mut Cluster) -> anyhow::Result<()> {
    let policy = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "policy-no-loud-names"},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"],
                }]},
                "validations": [{
                    "expression": "!object.metadata.name.startsWith('loud')", "message": "speak softly",
                }],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "policy-no-loud-names"},
            "spec": {"policyName": "policy-no-loud-names", "validationActions": ["Deny"]},
        },
    ]});
    cluster.kubectl.apply(&policy.to_string()).await?;
    let name = "a policy to be in force";
    crate::wait::until(name, POD_LIMIT, async || {
        let words = ["create", "configmap", "loud-one", "-n", NAMESPACE, "--dry-run=server"];
        let ran = cluster.kubectl.run(&words, "").await?;
        Ok(ran.refused(&["speak softly"]).ok())
    })
    .await?;
    cluster.kubectl.ok(&["create", "configmap", "soft-one", "-n", NAMESPACE]).await?;
    let words = [
        "delete",
        "validatingadmissionpolicy,validatingadmissionpolicybinding",
        "policy-no-loud-names",
    ];
    cluster.kubectl.ok(&words).await.map(drop)
}

/// Of secrets above all.
async fn audited(cluster: &mut Cluster) -> anyhow::Result<()> {
    let secret = ["create", "secret", "generic", "audited", "-n", NAMESPACE];
    cluster.kubectl.ok(&[&secret[..], &["--from-literal=word=swordfish"]].concat()).await?;
    let mut api = cluster.machine.api()?;
    let log = crate::wait::until("a line about the secret", POD_LIMIT, async || {
        let log = api.read_text("/var/log/ingot/audit/audit.log").await?;
        let has_line = log.lines().any(|line| {
            line.contains("\"verb\":\"create\"") && line.contains("\"name\":\"audited\"")
        });
        Ok(has_line.then_some(log))
    })
    .await?;
    for word in ["swordfish", "c3dvcmRmaXNo"] {
        ensure!(!log.contains(word), "the log has what is in the secret");
    }
    Ok(())
}

async fn network_policy(cluster: &mut Cluster) -> anyhow::Result<()> {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nobody", "namespace": NAMESPACE},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    });
    let ran = cluster.kubectl.run(&["apply", "-f", "-"], &policy.to_string()).await?;
    let told = ran.said().contains("does not keep network policies");
    ensure!(ran.succeeded && told, "kubectl says {}", ran.said());
    Ok(())
}

async fn quotas(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    kubectl.until(&["get", "-n", "policy-small", "serviceaccounts"], "default", POD_LIMIT).await?;
    let small = "policy-small";
    let much = json!({"containers": [{"resources": {"limits": {"memory": "50Mi"}}}]});
    let parts = ["maximum memory usage per Container is 48Mi"];
    create_refused(cluster, small, &pod("much", much), &parts).await?;
    create(cluster, small, &pod("usual", json!({}))).await?;
    let limit = "{.spec.containers[0].resources.limits.memory}";
    let found = kubectl.field(&["-n", small, "pod/usual"], limit).await?;
    ensure!(found == "24Mi", "a pod that asks for nothing has {found:?}");
    create_refused(cluster, small, &pod("second", json!({})), &["exceeded quota: few"]).await
}

async fn placement(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let node = cluster.node().await?;
    kubectl.ok(&["taint", "node", &node, "policy=closed:NoSchedule"]).await?;
    let tried = async {
        create(cluster, NAMESPACE, &pod("kept-out", json!({}))).await?;
        let tolerant = json!({
            "tolerations": [{"key": "policy", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
                ]}],
            }}},
        });
        create(cluster, NAMESPACE, &pod("tolerant", tolerant)).await?;
        let tolerant = ["-n", NAMESPACE, "pod/tolerant"];
        kubectl.wait_for("condition=Ready", &tolerant, POD_LIMIT).await?;
        let message = "{.status.conditions[?(@.type=='PodScheduled')].message}";
        let why = kubectl.field(&["-n", NAMESPACE, "pod/kept-out"], message).await?;
        ensure!(why.contains("untolerated taint"), "the pod that tolerates nothing says {why:?}");
        Ok(())
    };
    let result = tried.await;
    kubectl.ok(&["taint", "node", &node, "policy-"]).await?;
    result?;
    let kept_out = ["-n", NAMESPACE, "pod/kept-out"];
    kubectl.wait_for("condition=Ready", &kept_out, POD_LIMIT).await?;
    let nowhere = json!({"nodeSelector": {"nowhere": "at-all"}});
    create(cluster, NAMESPACE, &pod("nowhere", nowhere)).await?;
    kubectl
        .wait_for("condition=PodScheduled=False", &["-n", NAMESPACE, "pod/nowhere"], POD_LIMIT)
        .await
}

async fn preemption(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    // A resource that there is one of, so that nothing else on the node matters.
    let node = cluster.node().await?;
    let patch = r#"[{"op":"add","path":"/status/capacity/ingot.test~1seat","value":"1"}]"#;
    let words = ["patch", "node", &node, "--subresource=status", "--type=json", "-p", patch];
    kubectl.ok(&words).await?;
    let seat = json!({"containers": [{"resources": {
        "requests": {"ingot.test/seat": 1}, "limits": {"ingot.test/seat": 1},
    }}]});
    create(cluster, NAMESPACE, &pod("low", seat.clone())).await?;
    let low = ["-n", NAMESPACE, "pod/low"];
    kubectl.wait_for("condition=Ready", &low, POD_LIMIT).await?;
    let mut high = seat;
    high["priorityClassName"] = json!("policy-high");
    create(cluster, NAMESPACE, &pod("high", high)).await?;
    kubectl.wait_for("condition=Ready", &["-n", NAMESPACE, "pod/high"], POD_LIMIT).await?;
    kubectl.refused(&["get", "-n", NAMESPACE, "pod/low"], &["NotFound"]).await.map(drop)
}
