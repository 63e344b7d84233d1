//! The kubelet: a pod of the node's own that is as good as the node, and what is in its configuration. Pure.
//!
//! It has the node's network, processes and cgroups, and shows the node what it mounts below /var/lib/kubelet. It outlives the
//! agent as every container does.

use super::components::{
    KUBELET, Parts, arguments, container, file, finish, is_small, owners, temporary, with_probes,
};
use super::{Cluster, joined};
use ingot_runtime::pod::Pod;
use serde_json::{Value, json};

/// Pods of the node besides those in the cluster get an address from the same network, so a few are left for them.
const PODS_MAX: u32 = 110;
/// Processes and threads of one pod: a fork bomb stops here.
const POD_PIDS_MAX: u32 = 4096;
/// What PID 1, the agent and the kernel's own books use, in MiB.
const NODE_MIB: u64 = 48;

/// Folders of the node that it sees, each at the same place inside: name, path, how mounts travel.
const FOLDERS: [(&str, &str, &str); 8] = [
    ("kubelet", "/var/lib/kubelet", "Bidirectional"),
    ("logs", "/var/log", "None"),
    // The socket of the CRI; a new agent makes a new one in the same folder.
    ("run", "/run/ingot", "HostToContainer"),
    ("sys", "/sys", "HostToContainer"),
    // Those of the node, not those that a container has of its own.
    ("cgroup", "/sys/fs/cgroup", "HostToContainer"),
    ("modules", "/lib/modules", "None"),
    // It tells from the disk below this folder how full the disk is.
    ("images", "/var/lib/ingot/images", "None"),
    // Its name and version are shown with the node.
    ("release", "/usr/lib/os-release", "None"),
];

/// Where a worker's kubelet keeps how it reaches the API server, once it has a certificate; root of the node finds it there too.
const JOINED_KUBECONFIG: &str = "/var/lib/kubelet/kubeconfig";
/// Certificate and key of a worker's kubelet, which it renews by itself.
pub(crate) const JOINED_IDENTITY: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";

/// Its pod.
pub(crate) fn pod(cluster: &Cluster) -> anyhow::Result<Pod> {
    let kubeconfig =
        if cluster.is_worker() { JOINED_KUBECONFIG.to_owned() } else { file("kubeconfig") };
    let mut ours = vec![
        ("config", file("kubelet.json")),
        ("kubeconfig", kubeconfig),
        ("hostname-override", cluster.record.node.clone()),
        ("node-ip", joined(&node_ips(cluster))),
        ("root-dir", "/var/lib/kubelet".into()),
        ("cert-dir", "/var/lib/kubelet/pki".into()),
    ];
    if cluster.is_worker() {
        ours.push(("bootstrap-kubeconfig", file("bootstrap-kubeconfig")));
    }
    let args = arguments(&ours, &cluster.section.kubelet.extra_args);
    let parts = Parts {
        owner: KUBELET,
        args,
        memory_mib: if is_small(cluster) { (90, 50) } else { (256, 80) },
        cpu: "100m",
        probes: ("HTTP", 10248, "/healthz", "/healthz"),
        folders: Vec::new(),
    };
    let mut container = container(cluster, KUBELET, parts.args, parts.memory_mib, parts.cpu);
    with_probes(&mut container, parts.probes);
    if let Some(token) = &cluster.token
        && let Some(variables) = container["env"].as_array_mut()
    {
        // It reads a token only when it starts. This part of it is no secret.
        let id = token.expose().split('.').next().unwrap_or_default();
        variables.push(json!({"name": "INGOT_JOIN_TOKEN_ID", "value": id}));
    }
    let own = KUBELET.folder(&cluster.folder);
    let mut volumes = vec![json!({"name": "files", "hostPath": {"path": own}}), temporary()];
    let mut mounts = vec![
        json!({"name": "files", "mountPath": super::components::FILES, "readOnly": true}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    for (name, path, propagation) in FOLDERS {
        volumes.push(json!({"name": name, "hostPath": {"path": path}}));
        let read_only = matches!(name, "modules" | "images" | "release");
        mounts.push(json!({
            "name": name, "mountPath": path, "mountPropagation": propagation, "readOnly": read_only,
        }));
    }
    container["volumeMounts"] = json!(mounts);
    container["securityContext"] = json!({"privileged": true});
    let spec = json!({
        "hostNetwork": true,
        "hostPID": true,
        "hostIPC": true,
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": 10,
        "containers": [container],
        "volumes": volumes,
    });
    finish(KUBELET, spec)
}

/// The node's addresses, at most one of each IP version that the cluster has, in its order.
fn node_ips(cluster: &Cluster) -> Vec<std::net::IpAddr> {
    let wanted = cluster.record.pod_cidrs.iter().map(|net| net.addr().is_ipv6());
    let own = |v6: bool| cluster.addresses.iter().find(|address| address.is_ipv6() == v6).copied();
    wanted.filter_map(own).collect()
}

/// Memory that pods of the cluster cannot have, in MiB: what the node's own programs are promised.
fn reserved_mib(cluster: &Cluster) -> u64 {
    let promised = owners(&cluster.record)
        .iter()
        .filter_map(|owner| super::components::pod(cluster, *owner).ok());
    let bytes: u64 = promised
        .flat_map(|pod| pod.spec.containers)
        .filter_map(|container| container.resources.requests.memory)
        .map(|memory| memory.units())
        .sum();
    (bytes >> 20) + NODE_MIB
}

/// Its configuration.
pub(crate) fn configuration(cluster: &Cluster) -> Value {
    let small = is_small(cluster);
    let worker = cluster.is_worker();
    let mut configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": file("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        // Beside the authorities the agent makes and renews both certificates; far from them the kubelet asks for them.
        "rotateCertificates": worker,
        "serverTLSBootstrap": worker,
        "tlsMinVersion": "VersionTLS13",
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "containerRuntimeEndpoint": "unix:///run/ingot/cri.sock",
        // The agent says so over the CRI as well.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        "clusterDNS": cluster.dns_addresses(),
        "clusterDomain": cluster.record.dns_domain,
        "resolvConf": "/etc/resolv.conf",
        "maxPods": PODS_MAX,
        "podPidsLimit": POD_PIDS_MAX,
        "systemReserved": {"cpu": "100m", "memory": format!("{}Mi", reserved_mib(cluster))},
        "evictionHard": {
            "memory.available": if small { "40Mi" } else { "100Mi" },
            "nodefs.available": "5%",
            "nodefs.inodesFree": "5%",
            "imagefs.available": "5%",
        },
        // Swap is the operator's affair; pods get none.
        "failSwapOn": false,
        "memorySwap": {"swapBehavior": "NoSwap"},
        "seccompDefault": true,
        "serializeImagePulls": false,
        "maxParallelImagePulls": 2,
        "containerLogMaxSize": "5Mi",
        "containerLogMaxFiles": 3,
        "volumePluginDir": "/var/lib/kubelet/plugins/volume",
        // Emulated machines are slow; a call that is given up is made again and makes them slower.
        "runtimeRequestTimeout": "5m",
        // It needs a login manager; the agent lets pods go when the machine ends.
        "shutdownGracePeriod": "0s",
        "enableDebuggingHandlers": true,
        "enableProfilingHandler": false,
        "enableDebugFlagsHandler": false,
        "registerNode": true,
    });
    if !worker {
        configuration["tlsCertFile"] = json!(file("serving.pem"));
        configuration["tlsPrivateKeyFile"] = json!(file("serving.pem"));
    }
    configuration
}
