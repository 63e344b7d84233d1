//! The heart of a control plane as somebody starts it by hand: etcd and an API server with the flags that they cannot do without, and nothing
//! beside them. What our own is measured against; nobody should run this.

use std::time::{Duration, SystemTime};

use ingot_pki::kubernetes::{Subject, Usage};
use ingot_pki::{Ca, Identity, PrivateKey, SubjectName, Validity};
use serde_json::{Value, json};

use super::Cluster;
use crate::documents;

/// Far longer than a measurement.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Where each program finds the files.
const FILES: &str = "/files";
/// The programs as pods of a node, which must run no cluster of its own. A kubelet is not among them: pods of a node's config may not have
/// the node's cgroups.
#[derive(Debug)]
pub struct Bare {
    image: String,
    files: Value,
    admin: Identity,
    ca: Ca,
}

impl Bare {
    /// With the programs of this image.
    pub fn new(image: &str) -> anyhow::Result<Self> {
        let validity = Validity::starting(SystemTime::now(), LIFETIME);
        let ca = Ca::generate("bare", validity)?;
        let names = ["127.0.0.1", "10.96.0.1"].map(|text| text.parse().map(SubjectName::Ip));
        let serving = Subject {
            common_name: "kube-apiserver".to_owned(),
            group: None,
            usage: Usage::Server,
            names: names.into_iter().collect::<Result<_, _>>()?,
        };
        let serving = ca.issue_kubernetes(&serving, validity)?;
        let admin = Subject {
            common_name: "admin".to_owned(),
            group: Some("system:masters".to_owned()),
            usage: Usage::Client,
            names: Vec::new(),
        };
        let admin = ca.issue_kubernetes(&admin, validity)?;
        let accounts = PrivateKey::generate()?;
        let files = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "bare"},
            "data": {
                "ca.crt": ca.certificate().to_pem(),
                "serving.crt": serving.certificate.to_pem(),
                "serving.key": serving.key.to_pem().as_str(),
                "service-accounts.key": accounts.to_pem().as_str(),
                "service-accounts.pub": accounts.public_key_pem()?,
            },
        });
        Ok(Self { image: image.to_owned(), files, admin, ca })
    }

    /// Starts etcd and the API server on a node with this config, and returns when the API server is ready.
    pub async fn start(&self, cluster: &Cluster, config: &str) -> anyhow::Result<()> {
        let port = cluster.machine.forwarded(super::cluster::API_SERVER_PORT)?;
        let outside = kubeconfig(&self.ca, &self.admin, &format!("https://127.0.0.1:{port}"));
        cluster.write_kubeconfig(&outside.to_string())?;
        let first = [self.files.clone(), self.etcd(), self.api_server()];
        cluster.apply_config(&with(config, &first)).await?;
        cluster.wait_api_server().await
    }

    fn etcd(&self) -> Value {
        let mut pod = self.program(
            "etcd",
            &[
                ("data-dir", "/data/etcd"),
                ("listen-client-urls", "http://127.0.0.1:2379"),
                ("advertise-client-urls", "http://127.0.0.1:2379"),
            ],
        );
        add_volume(&mut pod, json!({"name": "data", "emptyDir": {}}), "/data");
        pod
    }

    fn api_server(&self) -> Value {
        self.program(
            "kube-apiserver",
            &[
                ("etcd-servers", "http://127.0.0.1:2379"),
                ("authorization-mode", "Node,RBAC"),
                ("client-ca-file", "/files/ca.crt"),
                ("tls-cert-file", "/files/serving.crt"),
                ("tls-private-key-file", "/files/serving.key"),
                ("service-account-key-file", "/files/service-accounts.pub"),
                ("service-account-signing-key-file", "/files/service-accounts.key"),
                ("service-account-issuer", "https://kubernetes.default.svc"),
                ("service-cluster-ip-range", "10.96.0.0/12"),
                ("allow-privileged", "true"),
            ],
        )
    }

    /// A pod that runs one program with these flags, in the node's network.
    fn program(&self, name: &str, flags: &[(&str, &str)]) -> Value {
        let mut command = vec![format!("/usr/local/bin/{name}")];
        command.extend(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
        let container = json!({
            "name": "main",
            "image": self.image,
            "imagePullPolicy": "Never",
            "command": command,
            "volumeMounts": [],
        });
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"hostNetwork": true, "containers": [container], "volumes": []},
        });
        let files = json!({"name": "files", "configMap": {"name": "bare"}});
        add_volume(&mut pod, files, FILES);
        let room = json!({"name": "tmp", "emptyDir": {}});
        add_volume(&mut pod, room, "/tmp");
        pod
    }
}

fn add_volume(pod: &mut Value, volume: Value, path: &str) {
    let mount = json!({"name": volume["name"], "mountPath": path});
    let spec = &mut pod["spec"];
    for (list, one) in [("/volumes", volume), ("/containers/0/volumeMounts", mount)] {
        if let Some(list) = spec.pointer_mut(list).and_then(Value::as_array_mut) {
            list.push(one);
        }
    }
}

fn with(config: &str, documents: &[Value]) -> String {
    let documents = documents.iter().map(|document| format!("{document:#}\n"));
    let all: Vec<String> = std::iter::once(config.to_owned()).chain(documents).collect();
    documents::stream(&all)
}

/// How somebody reaches the cluster, with everything in one file.
fn kubeconfig(ca: &Ca, user: &Identity, server: &str) -> Value {
    let base64 = |text: &str| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bare",
        "clusters": [{
            "name": "bare",
            "cluster": {
                "server": server,
                "certificate-authority-data": base64(&ca.certificate().to_pem()),
            },
        }],
        "users": [{
            "name": "admin",
            "user": {
                "client-certificate-data": base64(&user.certificate.to_pem()),
                "client-key-data": base64(user.key.to_pem().as_str()),
            },
        }],
        "contexts": [{"name": "bare", "context": {"cluster": "bare", "user": "admin"}}],
    })
}

#[cfg(test)]
mod tests {
    use super::{Bare, with};
    use crate::credentials::Credentials;
    use crate::documents;

    #[test]
    fn a_node_would_accept_the_programs() {
        let credentials = Credentials::generate().expect("credentials");
        let bare = Bare::new("ingot.local/kube:v1.36.3").expect("certificates");
        let machine = documents::machine(&credentials, "bare");
        let text = with(&machine, &[bare.files.clone(), bare.etcd(), bare.api_server()]);
        let problems = ingot_machine_config::load(&text).problems;
        assert!(problems.is_empty(), "{problems:#?}\n{text}");
    }
}
