//! What becomes of the cluster's pods when the machine ends: other nodes take over what they can, the kubelet goes before it starts
//! anything again, and what is left gets the time it asked for, what the cluster cannot do without last. Every step has its part of
//! the grace; the control plane and the node's own pods are stopped by the pod engine afterwards.

use super::Kubernetes;
use super::access::{client, get, patch};
use super::client::{Call, Client};
use super::components::{KUBELET, uid};
use super::nodes::{CORDONED, read};
use super::record::Record;
use futures::future::join_all;
use ingot_runtime::Engine;
use ingot_runtime::pod::SYSTEM_PRIORITY_MIN;
use ingot_runtime::sandboxes::Sandbox;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Part of the grace in which other nodes may take pods over.
const MOVE_PART: u32 = 3;
/// Part of what is then left that is kept for pods the cluster cannot do without, and as much for the control plane after them.
const LAST_PART: u32 = 4;
/// For the kubelet. It has nothing to finish.
const KUBELET_GRACE: Duration = Duration::from_secs(5);
/// Between two looks at what is still here.
const PAUSE: Duration = Duration::from_secs(1);
/// What a container gets when nobody said otherwise, as everywhere in Kubernetes.
const GRACE_DEFAULT: Duration = Duration::from_secs(30);
/// Where the kubelet writes how long a pod may take to end.
const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Namespace of pods that count as important when nobody can be asked.
const SYSTEM: &str = "kube-system";

/// A pod of this node, as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Here {
    uid: String,
    namespace: String,
    name: String,
    critical: bool,
    /// Another one is made elsewhere when this one goes.
    movable: bool,
}

/// Stops all pods of the cluster, within `grace`. Returns sooner when there are none.
pub(crate) async fn leave(kubernetes: &Kubernetes, engine: &Engine, grace: Duration) {
    let Some(record) = kubernetes.record() else { return };
    let begin = Instant::now();
    let end = begin + grace;
    // The API server may be gone, or slow: then everything is stopped where it is.
    let moved = timeout_at(begin + grace / MOVE_PART, give_away(kubernetes, &record)).await;
    let pods = match moved {
        Ok(Ok(pods)) => Some(pods),
        Ok(Err(error)) => {
            tracing::warn!("no other node is asked to take pods over: {error:#}");
            None
        }
        Err(_) => {
            tracing::warn!("other nodes did not take all pods over in time");
            None
        }
    };
    engine.stop_one(&uid(KUBELET), KUBELET_GRACE.min(grace / LAST_PART)).await;
    let important = |sandbox: &Sandbox| is_important(sandbox, pods.as_deref());
    let (last, first): (Vec<_>, Vec<_>) =
        engine.sandboxes().list().into_iter().partition(|sandbox| important(sandbox));
    let left = end.saturating_duration_since(Instant::now());
    stop(engine, &first, left.saturating_sub(left / LAST_PART * 2)).await;
    stop(engine, &last, left / LAST_PART).await;
}

async fn stop(engine: &Engine, sandboxes: &[Arc<Sandbox>], most: Duration) {
    let stops = sandboxes.iter().flat_map(|sandbox| &sandbox.containers).map(async |container| {
        let grace = grace_of(container.config.annotations.get(GRACE)).min(most);
        if let Err(error) = engine.sandboxes().stop_container(&container.id, grace).await {
            tracing::warn!(id = container.id, %error, "stop for the end of the machine");
        }
    });
    join_all(stops).await;
}

fn grace_of(annotation: Option<&String>) -> Duration {
    let seconds = annotation.and_then(|text| text.parse().ok());
    seconds.map_or(GRACE_DEFAULT, Duration::from_secs)
}

fn is_important(sandbox: &Sandbox, pods: Option<&[Here]>) -> bool {
    match pods {
        Some(pods) => pods.iter().any(|pod| pod.critical && pod.uid == sandbox.config.uid),
        None => sandbox.config.namespace == SYSTEM,
    }
}

/// Lets other nodes take over what they can, if there are any. Returns the pods that were here before.
async fn give_away(kubernetes: &Kubernetes, record: &Record) -> anyhow::Result<Vec<Here>> {
    let client = client(kubernetes, record)?;
    let nodes = read(&get(&client, "/api/v1/nodes?limit=500").await?);
    let list = here(&client, &record.node).await?;
    if !nodes.iter().any(|node| node.name != record.node && node.takes_pods()) {
        return Ok(list);
    }
    let schedulable = nodes.iter().any(|node| node.name == record.node && node.schedulable);
    if schedulable {
        let body = json!({
            "metadata": {"annotations": {CORDONED: "the next agent of the node takes this away"}},
            "spec": {"unschedulable": true},
        });
        patch(&client, &format!("/api/v1/nodes/{}", record.node), &body).await?;
    }
    let mut asked = HashSet::new();
    loop {
        let now = here(&client, &record.node).await?;
        let leaving: Vec<&Here> = now.iter().filter(|pod| pod.movable && !pod.critical).collect();
        if leaving.is_empty() {
            return Ok(list);
        }
        for pod in leaving {
            // A budget may forbid it now and allow it when another pod has moved.
            if !asked.contains(&pod.uid) && evict(&client, pod).await? {
                asked.insert(pod.uid.clone());
            }
        }
        sleep(PAUSE).await;
    }
}

async fn here(client: &Client, node: &str) -> anyhow::Result<Vec<Here>> {
    let path = format!("/api/v1/pods?limit=500&fieldSelector=spec.nodeName%3D{node}");
    let list = get(client, &path).await?;
    Ok(list["items"].as_array().into_iter().flatten().filter_map(one).collect())
}

fn one(pod: &Value) -> Option<Here> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let owner = owners.into_iter().flatten().find(|owner| owner["controller"] == true);
    // Pods of daemon sets are one on each node; those without an owner would be gone for good.
    let movable =
        owner.is_some_and(|owner| owner["kind"] != "DaemonSet" && owner["kind"] != "Node");
    Some(Here {
        uid: text(&pod["metadata"]["uid"]),
        namespace: text(&pod["metadata"]["namespace"]),
        name: text(&pod["metadata"]["name"]),
        critical: pod["spec"]["priority"].as_i64().unwrap_or(0) >= i64::from(SYSTEM_PRIORITY_MIN),
        movable,
    })
}

/// Whether the API server took the wish.
async fn evict(client: &Client, pod: &Here) -> anyhow::Result<bool> {
    let Here { namespace, name, .. } = pod;
    let body = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
    let answer = client.call(Call::post(&path, serde_json::to_vec(&body)?)).await?;
    Ok(answer.status.is_success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(kind: Option<&str>, priority: i64, phase: &str) -> Value {
        let owners = kind.map(|kind| json!([{"kind": kind, "controller": true}]));
        json!({
            "metadata": {"uid": "u", "namespace": "n", "name": "p", "ownerReferences": owners},
            "spec": {"priority": priority},
            "status": {"phase": phase},
        })
    }

    #[test]
    fn only_what_is_made_again_elsewhere_is_asked_to_go() {
        let movable = |kind| one(&pod(kind, 0, "Running")).unwrap().movable;
        assert!(movable(Some("ReplicaSet")) && movable(Some("StatefulSet")));
        assert!(!movable(Some("DaemonSet")), "it would come right back");
        assert!(!movable(None), "it would be gone for good");
        assert_eq!(one(&pod(Some("Job"), 0, "Succeeded")), None, "it has ended");
    }

    #[test]
    fn what_the_cluster_cannot_do_without_is_known_by_its_priority() {
        let critical = |priority| one(&pod(None, priority, "Running")).unwrap().critical;
        assert!(critical(2_000_001_000) && critical(2_000_000_000));
        assert!(!critical(1_000_000_000) && !critical(-1));
    }

    #[test]
    fn a_container_gets_the_time_that_its_pod_asked_for() {
        assert_eq!(grace_of(Some(&"7".to_owned())), Duration::from_secs(7));
        assert_eq!(grace_of(Some(&"x".to_owned())), GRACE_DEFAULT);
        assert_eq!(grace_of(None), GRACE_DEFAULT);
    }
}
