//! A pod that reaches the node's processes and the files of the cluster: with it the suite breaks what no pod of a user could. It is a tool of
//! the tests, and nothing is tested of it.

use super::{BUSYBOX, POD_LIMIT};
use crate::kubernetes::{Cluster, Ran};

/// It asks for memory, so that it is let in where memory is short.
const TOOL: &str = "
apiVersion: v1
kind: Pod
metadata: {name: tool}
spec:
  hostPID: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: BUSYBOX
    command: [sleep, '100000']
    resources: {requests: {memory: 16Mi}}
    securityContext: {privileged: true}
    volumeMounts: [{name: cluster, mountPath: /cluster}]
  volumes: [{name: cluster, hostPath: {path: /var/lib/ingot/kubernetes}}]
";

/// Makes a namespace whose pods may do everything, and the tool in it.
pub(super) async fn make(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    kubectl.ok(&["create", "namespace", namespace]).await?;
    let allowed = "pod-security.kubernetes.io/enforce=privileged";
    kubectl.ok(&["label", "namespace", namespace, allowed]).await?;
    let accounts = ["get", "-n", namespace, "serviceaccounts"];
    kubectl.until(&accounts, "default", POD_LIMIT).await?;
    let manifest = TOOL.replace("BUSYBOX", BUSYBOX);
    kubectl.run(&["apply", "-n", namespace, "-f", "-"], &manifest).await?.ok()?;
    kubectl.wait_for("condition=Ready", &["-n", namespace, "pod/tool"], POD_LIMIT).await
}

/// Runs a script in the tool; it sees the files of the cluster at `/cluster`.
pub(super) async fn run(
    cluster: &Cluster,
    namespace: &str,
    script: &str,
    input: &str,
) -> anyhow::Result<Ran> {
    let words = ["exec", "-i", "-n", namespace, "tool", "--", "sh", "-c", script];
    cluster.kubectl.run(&words, input).await
}
