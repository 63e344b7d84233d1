//! What the programs of the cluster read besides their certificates: configurations, kubeconfigs, authorities. Written only when it is
//! another one, each readable by its own program alone.

use super::Cluster;
use super::authorities::Authorities;
use super::components::{
    API_SERVER, AUDIT_LOG, CONTROLLER_MANAGER, ETCD, KUBELET, Owner, SCHEDULER, etcd_data, file,
    owners,
};
use crate::durable::replace;
use anyhow::Context as _;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::Path;

/// One file.
pub(crate) struct File {
    /// Whose it is.
    pub(crate) owner: Owner,
    /// Name in the owner's folder.
    pub(crate) name: &'static str,
    /// What is in it. May be a secret.
    pub(crate) text: String,
}

/// Makes the folders of all programs.
pub(crate) fn folders(cluster: &Cluster) -> anyhow::Result<()> {
    let folder = &cluster.folder;
    let make = |path: &Path, uid: u32| {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .and_then(|()| chown(path, Some(uid), Some(uid)))
            .with_context(|| format!("create {}", path.display()))
    };
    for owner in owners(&cluster.record) {
        make(&owner.folder(folder), owner.uid)?;
    }
    if !cluster.is_worker() {
        make(&etcd_data(folder), ETCD.uid)?;
        make(Path::new(AUDIT_LOG), API_SERVER.uid)?;
    }
    for path in ["/var/lib/kubelet", "/var/log/pods"] {
        fs::create_dir_all(path).with_context(|| format!("create {path}"))?;
    }
    Ok(())
}

/// Writes what is not there or not the same.
pub(crate) fn ensure(cluster: &Cluster, files: Vec<File>) -> anyhow::Result<()> {
    for file in files {
        let path = file.owner.folder(&cluster.folder).join(file.name);
        if fs::read_to_string(&path).is_ok_and(|text| text == file.text) {
            continue;
        }
        replace(&path, file.text.as_bytes(), 0o600, Some(file.owner.uid))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The files of a worker: what its kubelet needs to ask for a certificate.
pub(crate) fn of_worker(cluster: &Cluster) -> Vec<File> {
    let file = |name, text| File { owner: KUBELET, name, text };
    let authority = cluster.record.joined.as_ref().map(|joined| joined.authority.clone());
    let configuration = super::kubelet::configuration(cluster);
    let mut files = vec![
        file("ca.crt", authority.unwrap_or_default()),
        file("kubelet.json", format!("{configuration:#}\n")),
    ];
    if let Some(token) = &cluster.token {
        let user = json!({"token": token.expose()});
        let text = kubeconfig(&cluster.local_endpoint(), user);
        files.push(file("bootstrap-kubeconfig", format!("{text:#}\n")));
    }
    files
}

/// All files of a control plane.
pub(crate) fn all(cluster: &Cluster, authorities: &Authorities) -> anyhow::Result<Vec<File>> {
    let file = |owner, name, text| File { owner, name, text };
    // JSON is YAML.
    let json_file = |owner, name, value: Value| file(owner, name, format!("{value:#}\n"));
    let ca = authorities.cluster.certificate().to_pem();
    let etcd_ca = authorities.etcd.certificate().to_pem();
    let signer = format!("{ca}{}", authorities.cluster.key().to_pem().as_str());
    let service_account = authorities.service_account.to_pem().to_string();
    let mut files = vec![
        file(ETCD, "etcd-ca.crt", etcd_ca.clone()),
        file(API_SERVER, "etcd-ca.crt", etcd_ca),
        file(API_SERVER, "front-proxy-ca.crt", authorities.front_proxy.certificate().to_pem()),
        file(API_SERVER, "service-account.pem", service_account.clone()),
        file(API_SERVER, "service-account.pub", authorities.service_account.public_key_pem()?),
        json_file(API_SERVER, "authentication.json", authentication()),
        json_file(API_SERVER, "admission.json", admission()),
        json_file(API_SERVER, "encryption.json", encryption(&authorities.encryption)),
        json_file(API_SERVER, "audit-policy.json", audit_policy()),
        file(CONTROLLER_MANAGER, "service-account.pem", service_account),
        file(CONTROLLER_MANAGER, "signer.pem", signer),
        json_file(KUBELET, "kubelet.json", super::kubelet::configuration(cluster)),
    ];
    for owner in [API_SERVER, CONTROLLER_MANAGER, SCHEDULER, KUBELET] {
        files.push(file(owner, "ca.crt", ca.clone()));
    }
    for owner in [CONTROLLER_MANAGER, SCHEDULER, KUBELET] {
        let text = kubeconfig(&cluster.local_endpoint(), certified());
        files.push(json_file(owner, "kubeconfig", text));
    }
    Ok(files)
}

/// A program with a certificate of its own, as users are in a kubeconfig.
fn certified() -> Value {
    json!({"client-certificate": file("client.pem"), "client-key": file("client.pem")})
}

/// How a program of this node reaches the API server, and who it is.
fn kubeconfig(server: &str, user: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "cluster",
        "clusters": [{
            "name": "cluster",
            "cluster": {"server": server, "certificate-authority": file("ca.crt")},
        }],
        "users": [{"name": "own", "user": user}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "own"}}],
    })
}

/// Strangers may ask for health and nothing else.
fn authentication() -> Value {
    let paths = ["/livez", "/readyz", "/healthz"];
    let conditions: Vec<Value> = paths.iter().map(|path| json!({"path": path})).collect();
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": {"enabled": true, "conditions": conditions},
    })
}

/// Pods of strangers may not take over the node; the cluster's own must do things that others may not.
fn admission() -> Value {
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{
            "name": "PodSecurity",
            "configuration": {
                "apiVersion": "pod-security.admission.config.k8s.io/v1",
                "kind": "PodSecurityConfiguration",
                "defaults": {
                    "enforce": "baseline", "enforce-version": "latest",
                    "audit": "restricted", "audit-version": "latest",
                    "warn": "restricted", "warn-version": "latest",
                },
                "exemptions": {"usernames": [], "runtimeClasses": [], "namespaces": ["kube-system"]},
            },
        }],
    })
}

/// Secrets are encrypted on the disk. What was written before can still be read: there is nothing before.
fn encryption(key: &str) -> Value {
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{
            "resources": ["secrets"],
            "providers": [
                {"secretbox": {"keys": [{"name": "key1", "secret": key}]}},
                {"identity": {}},
            ],
        }],
    })
}

/// Who changed what, without what was in it. What the node's own programs do all day is left out: it would be nearly all of it, and
/// every line is a write to the disk.
fn audit_policy() -> Value {
    let own = ["system:kube-scheduler", "system:kube-controller-manager", "system:apiserver"];
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": true,
        "rules": [
            {"level": "None", "users": own},
            {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
            {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi/*"]},
            {"level": "None", "verbs": ["get", "list", "watch"], "resources": [{"group": ""}, {"group": "apps"}, {"group": "discovery.k8s.io"}]},
            {"level": "None", "resources": [{"group": "", "resources": ["events"]}, {"group": "events.k8s.io"}, {"group": "coordination.k8s.io"}]},
            {"level": "Metadata"},
        ],
    })
}
