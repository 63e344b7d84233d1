//! The programs of the control plane as pods of the node's own: their arguments, what they see of the node, how much they may use.
//! Pure. Every argument that differs from upstream's default has its reason here.

use super::record::Record;
use super::{API_PORT, Cluster, ETCD_PORT, NAMESPACE, joined, restore};
use ingot_machine_config::v1::pod::Container;
use ingot_runtime::pod::{Pod, Source};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Where a program finds its files.
pub(crate) const FILES: &str = "/etc/kubernetes";
/// Processes and threads of one program: a Go program has a few dozen.
const PIDS_MAX: u64 = 4096;
/// Below this much memory everything is told to be frugal.
const SMALL_BYTES: u64 = 3 << 29;

/// The hard limit of a program's memory, in parts of where Go begins to collect harder: what is above is a leak or an attack, and costs
/// that program instead of the node.
const LIMIT_FACTOR: u64 = 3;

/// A program that has files of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Its name, that of its pod and of its folder.
    pub(crate) name: &'static str,
    /// Its user: the number of its port, so that no two are the same and none is anybody else.
    pub(crate) uid: u32,
}

impl Owner {
    /// Its folder, below the cluster's.
    pub(crate) fn folder(&self, cluster: &Path) -> PathBuf {
        cluster.join("files").join(self.name)
    }
}

/// Keeps the cluster's data.
pub(crate) const ETCD: Owner = Owner { name: "etcd", uid: 2379 };
/// Serves the cluster's API.
pub(crate) const API_SERVER: Owner = Owner { name: "kube-apiserver", uid: 6443 };
/// Makes the cluster follow its objects.
pub(crate) const CONTROLLER_MANAGER: Owner = Owner { name: "kube-controller-manager", uid: 10257 };
/// Gives pods to nodes.
pub(crate) const SCHEDULER: Owner = Owner { name: "kube-scheduler", uid: 10259 };
/// Runs the pods of this node. It is root: it mounts volumes and makes cgroups.
pub(crate) const KUBELET: Owner = Owner { name: "kubelet", uid: 0 };
/// Those of a control plane.
pub(crate) const OWNERS: [Owner; 5] = [ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER, KUBELET];

/// The programs of a node.
pub(crate) fn owners(record: &Record) -> &'static [Owner] {
    if record.joined.is_some() { &[KUBELET] } else { &OWNERS }
}

/// Folder of etcd's data, below the cluster's.
pub(crate) fn etcd_data(cluster: &Path) -> PathBuf {
    cluster.join("etcd")
}

/// Folder of the audit log.
pub(crate) const AUDIT_LOG: &str = "/var/log/ingot/audit";

/// Whether the machine is a small one.
pub(crate) fn is_small(cluster: &Cluster) -> bool {
    cluster.memory_bytes < SMALL_BYTES
}

/// The pod of a program. `with` is what the others need of it before they can start: whoever it waits for is in
/// [`needs`].
pub(crate) fn pod(cluster: &Cluster, owner: Owner) -> anyhow::Result<Pod> {
    match owner {
        ETCD => etcd(cluster),
        API_SERVER => api_server(cluster),
        CONTROLLER_MANAGER => controller_manager(cluster),
        SCHEDULER => scheduler(cluster),
        _ => super::kubelet::pod(cluster),
    }
}

/// What a program is of no use without. It is started once that is ready: programs of Kubernetes end when they wait too long, and
/// then the pauses between restarts would cost more than this.
pub(crate) fn needs(owner: Owner) -> Option<Owner> {
    match owner {
        API_SERVER => Some(ETCD),
        CONTROLLER_MANAGER | SCHEDULER => Some(API_SERVER),
        _ => None,
    }
}

/// Arguments in order, those of the config last and instead of ours of the same name.
pub(crate) fn arguments(ours: &[(&str, String)], extra: &BTreeMap<String, String>) -> Vec<String> {
    let kept = ours.iter().filter(|(name, _)| !extra.contains_key(*name));
    kept.map(|(name, value)| format!("--{name}={value}"))
        .chain(extra.iter().map(|(name, value)| format!("--{name}={value}")))
        .collect()
}

/// A path of a program's own files.
pub(crate) fn file(name: &str) -> String {
    format!("{FILES}/{name}")
}

/// What differs between the pods.
pub(crate) struct Parts {
    pub(crate) owner: Owner,
    pub(crate) args: Vec<String>,
    /// Where Go begins to collect harder, and what the pod is promised, in MiB.
    pub(crate) memory_mib: (u64, u64),
    pub(crate) cpu: &'static str,
    /// Scheme, port and path under which it says that it lives, and that it is ready.
    pub(crate) probes: (&'static str, u16, &'static str, &'static str),
    /// More folders of the node: name, path there, path inside.
    pub(crate) folders: Vec<(&'static str, String, &'static str)>,
}

/// A pod of one container, that sees its own files and nothing else of the node, as nobody in particular.
pub(crate) fn plain(cluster: &Cluster, parts: Parts) -> anyhow::Result<Pod> {
    let Parts { owner, args, memory_mib, cpu, probes, folders } = parts;
    let own = owner.folder(&cluster.folder);
    let mut volumes = vec![json!({"name": "files", "hostPath": {"path": own}}), temporary()];
    let mut mounts = vec![
        json!({"name": "files", "mountPath": FILES, "readOnly": true}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    for (name, there, inside) in folders {
        volumes.push(json!({"name": name, "hostPath": {"path": there}}));
        mounts.push(json!({"name": name, "mountPath": inside}));
    }
    let mut container = container(cluster, owner, args, memory_mib, cpu);
    with_probes(&mut container, probes);
    if cluster.record.restores > 0
        && owner != ETCD
        && let Some(variables) = container["env"].as_array_mut()
    {
        // What it has in memory is from another database. A pod whose containers are others is made anew.
        let restores = cluster.record.restores.to_string();
        variables.push(json!({"name": "INGOT_RESTORES", "value": restores}));
    }
    container["volumeMounts"] = json!(mounts);
    container["securityContext"] = json!({
        "runAsUser": owner.uid,
        "runAsGroup": owner.uid,
        "runAsNonRoot": true,
        "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
    });
    let spec = json!({
        "hostNetwork": true,
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": 20,
        "containers": [container],
        "volumes": volumes,
    });
    finish(owner, spec)
}

/// Room for what a program writes to /tmp.
pub(crate) fn temporary() -> Value {
    json!({"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}})
}

/// The container without what it mounts and may do.
pub(crate) fn container(
    cluster: &Cluster,
    owner: Owner,
    args: Vec<String>,
    memory_mib: (u64, u64),
    cpu: &str,
) -> Value {
    let (soft, promised) = memory_mib;
    let mut command = vec![format!("/usr/local/bin/{}", owner.name)];
    command.extend(args);
    // A small heap costs time that a small machine has: half of what lives is let go to waste instead of as much again.
    let percent = if is_small(cluster) { "40" } else { "75" };
    json!({
        "name": owner.name,
        "image": cluster.image,
        "imagePullPolicy": "Never",
        "command": command,
        "env": [
            {"name": "GOMEMLIMIT", "value": format!("{soft}MiB")},
            {"name": "GOGC", "value": percent},
        ],
        "resources": {
            "requests": {"cpu": cpu, "memory": format!("{promised}Mi")},
            "limits": {"memory": format!("{}Mi", soft * LIMIT_FACTOR)},
        },
    })
}

/// Asks generously: in emulation a start takes minutes, and who kills what is only slow makes it slower.
pub(crate) fn with_probes(
    container: &mut Value,
    (scheme, port, alive, ready): (&str, u16, &str, &str),
) {
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"scheme": scheme, "host": "127.0.0.1", "port": port.to_string(), "path": path},
            "timeoutSeconds": 15,
            "periodSeconds": period,
            "failureThreshold": failures,
        })
    };
    container["startupProbe"] = probe(alive, 2, 300);
    container["livenessProbe"] = probe(alive, 10, 8);
    container["readinessProbe"] = probe(ready, 5, 3);
}

/// Identity of a program's pod; its cgroup is named after it.
pub(crate) fn uid(owner: Owner) -> String {
    format!("control-plane-{}", owner.name)
}

/// A spec as a pod of the control plane.
pub(crate) fn finish(owner: Owner, spec: Value) -> anyhow::Result<Pod> {
    Ok(Pod {
        namespace: NAMESPACE.to_owned(),
        name: owner.name.to_owned(),
        uid: uid(owner),
        labels: BTreeMap::from([("component".to_owned(), owner.name.to_owned())]),
        annotations: BTreeMap::new(),
        source: Source::ControlPlane,
        pids_limit: Some(PIDS_MAX),
        spec: serde_json::from_value(spec)?,
    })
}

fn etcd(cluster: &Cluster) -> anyhow::Result<Pod> {
    let node = &cluster.record.node;
    // One member speaks with nobody; a second one will need the node's address here.
    let peer = "https://127.0.0.1:2380";
    let data = format!("/var/lib/etcd/{}", restore::data_folder(&cluster.record));
    let client = format!("https://127.0.0.1:{ETCD_PORT}");
    // A database of this size still fits into the page cache of the machine it is made for.
    let quota: u64 = if is_small(cluster) { 512 << 20 } else { 2 << 30 };
    let ours = [
        ("name", node.clone()),
        ("data-dir", data.clone()),
        ("listen-client-urls", client.clone()),
        ("advertise-client-urls", client),
        ("listen-peer-urls", peer.into()),
        ("initial-advertise-peer-urls", peer.into()),
        ("initial-cluster", format!("{node}={peer}")),
        ("initial-cluster-token", cluster.record.id.clone()),
        ("initial-cluster-state", "new".into()),
        ("client-cert-auth", "true".into()),
        ("trusted-ca-file", file("etcd-ca.crt")),
        ("cert-file", file("server.pem")),
        ("key-file", file("server.pem")),
        ("peer-client-cert-auth", "true".into()),
        ("peer-trusted-ca-file", file("etcd-ca.crt")),
        ("peer-cert-file", file("peer.pem")),
        ("peer-key-file", file("peer.pem")),
        // Health and metrics, for this node only.
        ("listen-metrics-urls", "http://127.0.0.1:2381".into()),
        ("quota-backend-bytes", quota.to_string()),
        // The API server compacts every five minutes; this is for what it forgets.
        ("auto-compaction-mode", "periodic".into()),
        ("auto-compaction-retention", "30m".into()),
        // A disk that takes a second for a write must not cost a leader; alone, nobody waits for an election.
        ("heartbeat-interval", "500".into()),
        ("election-timeout", "5000".into()),
        // Fewer pages to write when little changes.
        ("backend-bbolt-freelist-type", "map".into()),
        // A write is on the disk, in the log, before it is acknowledged. The database follows after this time or so many changes: an idle
        // cluster makes three in ten seconds, and each would cost a dozen pages of its own.
        ("backend-batch-interval", "10s".into()),
        ("backend-batch-limit", "40".into()),
        ("log-level", "warn".into()),
    ];
    let mut pod = plain(
        cluster,
        Parts {
            owner: ETCD,
            args: arguments(&ours, &cluster.section.etcd.extra_args),
            memory_mib: if is_small(cluster) { (64, 48) } else { (256, 100) },
            cpu: "100m",
            probes: ("HTTP", 2381, "/livez", "/readyz"),
            folders: vec![(
                "data",
                etcd_data(&cluster.folder).display().to_string(),
                "/var/lib/etcd",
            )],
        },
    )?;
    if cluster.record.restoring {
        pod.spec.init_containers = unpacks(cluster, &pod, &data, peer);
    }
    Ok(pod)
}

/// What unpacks a snapshot before etcd starts on it.
fn unpacks(cluster: &Cluster, pod: &Pod, data: &str, peer: &str) -> Vec<Container> {
    let node = &cluster.record.node;
    let of = |container: &Container| {
        let mut unpack = container.clone();
        unpack.name = "restore".to_owned();
        (unpack.startup_probe, unpack.liveness_probe, unpack.readiness_probe) = (None, None, None);
        unpack.command = vec![
            "/usr/local/bin/etcdutl".to_owned(),
            "snapshot".to_owned(),
            "restore".to_owned(),
            format!("/var/lib/etcd/{}", restore::SNAPSHOT),
            format!("--data-dir={data}"),
            format!("--name={node}"),
            format!("--initial-cluster={node}={peer}"),
            format!("--initial-cluster-token={}", cluster.record.id),
            format!("--initial-advertise-peer-urls={peer}"),
            // Whoever watches must not take the past for the future.
            "--bump-revision=1000000000".to_owned(),
            "--mark-compacted".to_owned(),
        ];
        unpack
    };
    pod.spec.containers.iter().map(of).collect()
}

/// Arguments of every server that asks the API server who its callers are.
fn asks_api_server() -> [(&'static str, String); 3] {
    ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
        .map(|name| (name, file("kubeconfig")))
}

fn api_server(cluster: &Cluster) -> anyhow::Result<Pod> {
    let any: IpAddr = match cluster.address() {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // Calls at a time; each holds memory while it is answered.
    let (calls, changes) = if is_small(cluster) { ("60", "30") } else { ("400", "200") };
    let ours = [
        ("advertise-address", cluster.address().to_string()),
        ("bind-address", any.to_string()),
        ("secure-port", API_PORT.to_string()),
        ("allow-privileged", "true".into()),
        // Strangers may ask for its health and nothing else.
        ("authentication-config", file("authentication.json")),
        ("authorization-mode", "Node,RBAC".into()),
        ("client-ca-file", file("ca.crt")),
        // Workers ask for their first certificate with one.
        ("enable-bootstrap-token-auth", "true".into()),
        ("enable-admission-plugins", "NodeRestriction".into()),
        ("admission-control-config-file", file("admission.json")),
        ("encryption-provider-config", file("encryption.json")),
        ("etcd-servers", format!("https://127.0.0.1:{ETCD_PORT}")),
        ("etcd-cafile", file("etcd-ca.crt")),
        ("etcd-certfile", file("etcd-client.pem")),
        ("etcd-keyfile", file("etcd-client.pem")),
        ("kubelet-certificate-authority", file("ca.crt")),
        ("kubelet-client-certificate", file("kubelet-client.pem")),
        ("kubelet-client-key", file("kubelet-client.pem")),
        ("kubelet-preferred-address-types", "InternalIP,Hostname".into()),
        ("proxy-client-cert-file", file("proxy-client.pem")),
        ("proxy-client-key-file", file("proxy-client.pem")),
        ("requestheader-allowed-names", "front-proxy-client".into()),
        ("requestheader-client-ca-file", file("front-proxy-ca.crt")),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".into()),
        ("requestheader-group-headers", "X-Remote-Group".into()),
        ("requestheader-username-headers", "X-Remote-User".into()),
        (
            "service-account-issuer",
            format!("https://kubernetes.default.svc.{}", cluster.record.dns_domain),
        ),
        ("service-account-key-file", file("service-account.pub")),
        ("service-account-signing-key-file", file("service-account.pem")),
        ("service-cluster-ip-range", joined(&cluster.record.service_cidrs)),
        ("tls-cert-file", file("serving.pem")),
        ("tls-private-key-file", file("serving.pem")),
        ("tls-min-version", "VersionTLS13".into()),
        ("profiling", "false".into()),
        ("audit-policy-file", file("audit-policy.json")),
        ("audit-log-path", "/var/log/audit.log".into()),
        // At most 30 MB on the disk.
        ("audit-log-maxsize", "10".into()),
        ("audit-log-maxbackup", "2".into()),
        ("audit-log-maxage", "30".into()),
        ("max-requests-inflight", calls.into()),
        ("max-mutating-requests-inflight", changes.into()),
    ];
    plain(
        cluster,
        Parts {
            owner: API_SERVER,
            args: arguments(&ours, &cluster.section.api_server.extra_args),
            memory_mib: if is_small(cluster) { (220, 160) } else { (1024, 300) },
            cpu: "250m",
            probes: ("HTTPS", API_PORT, "/livez", "/readyz"),
            folders: vec![("audit", AUDIT_LOG.to_owned(), "/var/log")],
        },
    )
}

/// With one control plane there is nobody to elect against, and an election writes to the disk every two seconds.
fn elects(cluster: &Cluster) -> String {
    (cluster.api_servers().len() > 1).to_string()
}

fn controller_manager(cluster: &Cluster) -> anyhow::Result<Pod> {
    let mut ours = asks_api_server().to_vec();
    ours.extend([
        ("bind-address", "127.0.0.1".into()),
        ("leader-elect", elects(cluster)),
        // Tokens of workers go away when they are good no more.
        ("controllers", "*,tokencleaner".into()),
        ("cluster-name", cluster.record.name.clone()),
        ("allocate-node-cidrs", "true".into()),
        ("cluster-cidr", joined(&cluster.record.pod_cidrs)),
        ("service-cluster-ip-range", joined(&cluster.record.service_cidrs)),
        ("root-ca-file", file("ca.crt")),
        ("service-account-private-key-file", file("service-account.pem")),
        // Each controller with rights of its own, not all with the sum.
        ("use-service-account-credentials", "true".into()),
        ("cluster-signing-cert-file", file("signer.pem")),
        ("cluster-signing-key-file", file("signer.pem")),
        ("profiling", "false".into()),
    ]);
    plain(
        cluster,
        Parts {
            owner: CONTROLLER_MANAGER,
            args: arguments(&ours, &cluster.section.controller_manager.extra_args),
            memory_mib: if is_small(cluster) { (70, 40) } else { (256, 80) },
            cpu: "50m",
            probes: ("HTTPS", 10257, "/healthz", "/healthz"),
            folders: Vec::new(),
        },
    )
}

fn scheduler(cluster: &Cluster) -> anyhow::Result<Pod> {
    let mut ours = asks_api_server().to_vec();
    ours.extend([
        ("bind-address", "127.0.0.1".into()),
        ("leader-elect", elects(cluster)),
        ("profiling", "false".into()),
    ]);
    plain(
        cluster,
        Parts {
            owner: SCHEDULER,
            args: arguments(&ours, &cluster.section.scheduler.extra_args),
            memory_mib: if is_small(cluster) { (48, 28) } else { (128, 48) },
            cpu: "50m",
            probes: ("HTTPS", 10259, "/livez", "/readyz"),
            folders: Vec::new(),
        },
    )
}
