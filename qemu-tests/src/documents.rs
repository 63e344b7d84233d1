//! Machine configs and pods as the tests write them. Text in, text out: the node is the one to understand it.

use crate::credentials::Credentials;
use crate::cri::RELAY_PORT;

/// The image with every workload the tests need; bundled in the `demo` image.
pub const WORKLOAD: &str = "ingot/workload:latest";

/// A machine document that trusts `credentials`. Time comes from the hardware clock: the tests have no network.
#[must_use]
pub fn machine(credentials: &Credentials, hostname: &str) -> String {
    format!(
        "apiVersion: ingot/v1\nkind: Machine\nnetwork:\n  hostname: {hostname}\ntime:\n  enabled: false\n{}",
        credentials.config_section()
    )
}

/// A machine document whose images of every registry come from one mirror.
#[must_use]
pub fn with_mirror(machine: &str, url: &str) -> String {
    format!(
        "{machine}registries:\n  mirrors:\n    - registry: \"*\"\n      endpoints: [\"{url}\"]\n      endpointsOnly: true\n"
    )
}

/// A machine document that asks a name server on the node itself.
#[must_use]
pub fn with_own_name_server(machine: &str) -> String {
    machine.replacen("network:\n", "network:\n  dns:\n    servers: [127.0.0.1]\n", 1)
}

/// The section of a registry that is spoken with in a way of its own: with an authority (PEM), a user and a password.
#[must_use]
pub fn registry_host(host: &str, ca: &str, user: &str, password: &str) -> String {
    let ca: String = ca.lines().map(|line| format!("        {line}\n")).collect();
    format!(
        "    - host: {host}\n      username: {user}\n      password: {password}\n      ca: |\n{ca}"
    )
}

/// A pod that makes the node's CRI reachable over the network, so that the tests can call it.
#[must_use]
pub fn relay() -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: relay\nspec:\n  hostNetwork: true\n  volumes:\n  \
         - name: sockets\n    hostPath:\n      path: /run/ingot\n  containers:\n  - name: main\n    image: {WORKLOAD}\n    \
         args: [\"relay\", \"{RELAY_PORT}\", \"/run/ingot/cri.sock\"]\n    securityContext:\n      privileged: true\n    \
         volumeMounts:\n    - name: sockets\n      mountPath: /run/ingot\n"
    )
}

/// A stream of documents.
#[must_use]
pub fn stream(documents: &[String]) -> String {
    documents.join("---\n")
}

/// A pod of one container that runs the workload program with some words.
#[derive(Debug, Clone)]
pub struct Pod {
    name: String,
    image: String,
    words: Vec<String>,
    limits: Vec<(&'static str, String)>,
    annotations: Vec<(&'static str, String)>,
    restart_policy: &'static str,
    host_network: bool,
    ports: Vec<(u16, u16)>,
}

impl Pod {
    /// A pod called `name` whose container `main` runs the workload with `words`.
    #[must_use]
    pub fn new(name: &str, words: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            image: WORKLOAD.to_owned(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            limits: Vec::new(),
            annotations: Vec::new(),
            restart_policy: "Always",
            host_network: false,
            ports: Vec::new(),
        }
    }

    /// Another image.
    #[must_use]
    pub fn image(mut self, image: &str) -> Self {
        image.clone_into(&mut self.image);
        self
    }

    /// A CPU limit as a Kubernetes quantity, like `250m`.
    #[must_use]
    pub fn cpu(mut self, quantity: &str) -> Self {
        self.limits.push(("cpu", quantity.to_owned()));
        self
    }

    /// A memory limit as a Kubernetes quantity, like `32Mi`.
    #[must_use]
    pub fn memory(mut self, quantity: &str) -> Self {
        self.limits.push(("memory", quantity.to_owned()));
        self
    }

    /// Most processes and threads.
    #[must_use]
    pub fn pids(mut self, limit: u32) -> Self {
        self.annotations.push(("ingot.dev/pids-limit", limit.to_string()));
        self
    }

    /// `Always` (when not said), `OnFailure` or `Never`.
    #[must_use]
    pub fn restart_policy(mut self, policy: &'static str) -> Self {
        self.restart_policy = policy;
        self
    }

    /// Shares the network of the node.
    #[must_use]
    pub fn host_network(mut self) -> Self {
        self.host_network = true;
        self
    }

    /// Leads a TCP port of the node to one of the pod.
    #[must_use]
    pub fn host_port(mut self, container_port: u16, host_port: u16) -> Self {
        self.ports.push((container_port, host_port));
        self
    }

    /// The `v1/Pod` document.
    #[must_use]
    pub fn document(&self) -> String {
        let mut text = format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {}\n", self.name);
        if !self.annotations.is_empty() {
            text.push_str("  annotations:\n");
            for (name, value) in &self.annotations {
                text.push_str(&format!("    {name}: \"{value}\"\n"));
            }
        }
        text.push_str(&format!("spec:\n  restartPolicy: {}\n", self.restart_policy));
        text.push_str("  terminationGracePeriodSeconds: 1\n");
        if self.host_network {
            text.push_str("  hostNetwork: true\n");
        }
        text.push_str(&format!("  containers:\n  - name: main\n    image: {}\n", self.image));
        text.push_str(&format!("    args: [{}]\n", quoted(&self.words)));
        if !self.ports.is_empty() {
            text.push_str("    ports:\n");
            for (container, host) in &self.ports {
                text.push_str(&format!(
                    "    - containerPort: {container}\n      hostPort: {host}\n"
                ));
            }
        }
        if !self.limits.is_empty() {
            text.push_str("    resources:\n      limits:\n");
            for (name, quantity) in &self.limits {
                text.push_str(&format!("        {name}: {quantity}\n"));
            }
        }
        text
    }
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{Credentials, Pod, machine, relay, stream, with_mirror};

    #[test]
    fn the_node_would_accept_what_the_tests_write() {
        let credentials = Credentials::generate().expect("credentials");
        let pod =
            Pod::new("spin", &["spin"]).cpu("250m").memory("32Mi").pids(64).host_port(80, 8080);
        let machine = with_mirror(&machine(&credentials, "test"), "http://192.0.2.1:5000");
        let text = stream(&[machine, pod.document(), relay()]);
        let problems = ingot_machine_config::load(&text).problems;
        assert!(problems.is_empty(), "{problems:#?}\n{text}");
    }
}
