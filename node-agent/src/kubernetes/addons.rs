//! Add-ons: manifests with the cluster's own values put in, applied by server-side apply so that what others set is left alone.

use super::client::{Call, Client};
use super::{Cluster, joined};
use anyhow::Context as _;
use http::{Method, StatusCode};
use ingot_machine_config::manifest::{Manifest, manifests};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Who applies, as the API server notes it for each field.
const MANAGER: &str = "ingot";
/// Longest manifest file.
const FILE_MAX: u64 = 1 << 20;

/// One add-on, ready to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addon {
    /// Its name.
    pub(crate) name: String,
    /// What it is made of, or why that cannot be told.
    pub(crate) objects: Result<Vec<Manifest>, String>,
}

/// Permissions that the cluster's own parts need besides those upstream brings.
const ACCESS: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: ingot:administrators
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'ingot:administrators'}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: ingot:kubelet-clients
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:kubelet-api-admin'}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'ingot:kubelet-clients'}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: ingot:joining-nodes
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:node-bootstrapper'}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:bootstrappers:ingot'}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: ingot:joining-nodes-approved
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:certificates.k8s.io:certificatesigningrequests:nodeclient'}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:bootstrappers:ingot'}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: ingot:renewing-nodes-approved
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:certificates.k8s.io:certificatesigningrequests:selfnodeclient'}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:nodes'}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: ingot:routes
rules:
- {apiGroups: [''], resources: [nodes], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: ingot:routes
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'ingot:routes'}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:nodes'}
";

/// Name of what is always applied, before all others.
const ACCESS_NAME: &str = "access";

/// The add-ons of a cluster: those of the image as the config wants them, and the config's own. Sorted by name, after the permissions.
pub(crate) fn wanted(cluster: &Cluster, folder: &Path) -> Vec<Addon> {
    let mut texts: BTreeMap<String, Result<String, String>> = BTreeMap::new();
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    for path in entries.map(|entry| entry.path()) {
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml");
        let Some(name) = path.file_stem().and_then(|name| name.to_str()).filter(|_| is_yaml) else {
            continue;
        };
        texts.insert(name.to_owned(), read(&path));
    }
    for (name, addon) in &cluster.section.addons {
        match (&addon.manifest, addon.enabled) {
            (_, false) => drop(texts.remove(name)),
            (Some(manifest), true) => drop(texts.insert(name.clone(), Ok(manifest.clone()))),
            (None, true) => {}
        }
    }
    let values = values(cluster);
    let own = Addon { name: ACCESS_NAME.to_owned(), objects: manifests(ACCESS) };
    let others = texts.into_iter().map(|(name, text)| {
        let objects = text.and_then(|text| fill(&text, &values)).and_then(|text| manifests(&text));
        Addon { name, objects }
    });
    std::iter::once(own).chain(others).collect()
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("read {}: {error}", path.display());
    if path.metadata().map_err(failed)?.len() > FILE_MAX {
        return Err(format!("{} is longer than {FILE_MAX} bytes", path.display()));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// What stands for what.
fn values(cluster: &Cluster) -> [(&'static str, String); 6] {
    let dns = cluster.dns_addresses().first().map(ToString::to_string).unwrap_or_default();
    [
        ("CLUSTER_DNS", dns),
        ("CLUSTER_DOMAIN", cluster.record.dns_domain.clone()),
        ("POD_CIDR", joined(&cluster.record.pod_cidrs)),
        ("SERVICE_CIDR", joined(&cluster.record.service_cidrs)),
        ("API_ENDPOINT", cluster.local_endpoint()),
        ("KUBE_IMAGE", cluster.image.clone()),
    ]
}

/// Puts values in the place of `${NAME}`.
fn fill(text: &str, values: &[(&str, String)]) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let (name, after) = after.split_once('}').ok_or("a \"${\" has no \"}\"")?;
        let value = values.iter().find(|(known, _)| *known == name);
        let (_, value) = value.ok_or_else(|| {
            let known: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
            format!("nothing is known as ${{{name}}}; there are {}", known.join(", "))
        })?;
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Tells one set of add-ons from another.
pub(crate) fn digest(addons: &[Addon]) -> String {
    let mut hash = Sha256::new();
    for addon in addons {
        hash.update(&addon.name);
        for object in addon.objects.iter().flatten() {
            hash.update(&object.text);
            hash.update([0]);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where objects of a kind are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    plural: String,
    namespaced: bool,
}

/// Applies manifests. It learns which kinds there are as it needs them.
pub(crate) struct Applier {
    client: Client,
    kinds: HashMap<(String, String), Place>,
}

impl Applier {
    /// Nothing learned.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, kinds: HashMap::new() }
    }

    /// Applies all objects of an add-on in order, going on after one that fails: an object may need another that comes later.
    ///
    /// # Errors
    /// The first that failed.
    pub(crate) async fn apply(&mut self, addon: &Addon) -> Result<(), String> {
        let mut first = Ok(());
        for object in addon.objects.as_ref().map_err(Clone::clone)? {
            if let Err(error) = self.one(object).await {
                let Manifest { kind, name, .. } = object;
                first = first.and(Err(format!("{kind} {name}: {error:#}")));
            }
        }
        first
    }

    async fn one(&mut self, object: &Manifest) -> anyhow::Result<()> {
        let place = self.place(&object.api_version, &object.kind).await?;
        let path = path(object, &place);
        let call = Call {
            method: Method::PATCH,
            path: &format!("{path}?fieldManager={MANAGER}&force=true"),
            content_type: "application/apply-patch+yaml",
            body: object.text.clone().into_bytes(),
        };
        let answer = self.client.call(call).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        anyhow::bail!("{}", refusal(answer.status, &answer.body))
    }

    async fn place(&mut self, api_version: &str, kind: &str) -> anyhow::Result<Place> {
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(place) = self.kinds.get(&key) {
            return Ok(place.clone());
        }
        let answer = self.client.call(Call::get(&root(api_version))).await?;
        if answer.status != StatusCode::OK {
            anyhow::bail!("{}", refusal(answer.status, &answer.body));
        }
        let list: Value = serde_json::from_slice(&answer.body).context("read the list of kinds")?;
        for resource in list["resources"].as_array().into_iter().flatten() {
            let text = |field: &str| resource[field].as_str().unwrap_or_default().to_owned();
            // Those with a slash are parts of others.
            if !text("name").contains('/') {
                let namespaced = resource["namespaced"].as_bool().unwrap_or(false);
                let place = Place { plural: text("name"), namespaced };
                self.kinds.insert((api_version.to_owned(), text("kind")), place);
            }
        }
        let place = self.kinds.get(&key).cloned();
        place.with_context(|| format!("the API server has no {kind} of {api_version}"))
    }

    /// What the API server says about a node: whether it is ready, in words.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(crate) async fn node(&self, name: &str) -> anyhow::Result<(bool, String)> {
        let answer = self.client.call(Call::get(&format!("/api/v1/nodes/{name}"))).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok((false, "the kubelet has not registered it".to_owned()));
        }
        if answer.status != StatusCode::OK {
            anyhow::bail!("{}", refusal(answer.status, &answer.body));
        }
        let node: Value = serde_json::from_slice(&answer.body).context("read the node")?;
        let conditions = node["status"]["conditions"].as_array();
        let ready = conditions.and_then(|all| all.iter().find(|one| one["type"] == "Ready"));
        Ok(ready.map_or((false, "it has no condition".to_owned()), |ready| {
            let message = ready["message"].as_str().unwrap_or_default().to_owned();
            (ready["status"] == "True", message)
        }))
    }

    /// Says on the node that it is a control plane; the kubelet itself may not.
    ///
    /// # Errors
    /// When it cannot be said.
    pub(crate) async fn label(&self, name: &str) -> anyhow::Result<()> {
        let label = "{\"metadata\":{\"labels\":{\"node-role.kubernetes.io/control-plane\":\"\"}}}";
        let call = Call {
            method: Method::PATCH,
            path: &format!("/api/v1/nodes/{name}?fieldManager={MANAGER}"),
            content_type: "application/merge-patch+json",
            body: label.as_bytes().to_vec(),
        };
        let answer = self.client.call(call).await?;
        anyhow::ensure!(answer.status.is_success(), "{}", refusal(answer.status, &answer.body));
        Ok(())
    }
}

/// Path of a group and version.
fn root(api_version: &str) -> String {
    if api_version.contains('/') {
        format!("/apis/{api_version}")
    } else {
        format!("/api/{api_version}")
    }
}

fn path(object: &Manifest, place: &Place) -> String {
    let root = root(&object.api_version);
    let Place { plural, namespaced } = place;
    let name = &object.name;
    if *namespaced {
        let namespace = object.namespace.as_deref().unwrap_or("default");
        format!("{root}/namespaces/{namespace}/{plural}/{name}")
    } else {
        format!("{root}/{plural}/{name}")
    }
}

/// What the API server says about something it does not do.
pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(body).ok();
    let message = said.as_ref().and_then(|said| said["message"].as_str()).unwrap_or_default();
    let short: String = message.chars().take(300).collect();
    format!("the API server says {}: {short}", status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::tests::cluster;
    use ingot_machine_config::v1::kubernetes::Addon as Wish;

    #[test]
    fn values_are_put_in_and_an_unknown_one_is_an_error() {
        let values = values(&cluster());
        let filled = fill("a ${CLUSTER_DNS} ${POD_CIDR}${KUBE_IMAGE} $x", &values).unwrap();
        assert_eq!(filled, "a 10.96.0.10 10.244.0.0/16ingot.local/kube:v1.36.3 $x");
        let unknown = fill("${NOBODY}", &values).unwrap_err();
        assert!(unknown.contains("NOBODY") && unknown.contains("CLUSTER_DNS"), "{unknown}");
        assert!(fill("${OPEN", &values).is_err());
    }

    #[test]
    fn the_config_switches_off_replaces_and_adds() {
        let folder = tempfile::tempdir().unwrap();
        let object =
            |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
        for name in ["coredns", "storage", "kube-proxy"] {
            std::fs::write(folder.path().join(format!("{name}.yaml")), object(name)).unwrap();
        }
        let mut cluster = cluster();
        let addons = &mut cluster.section.addons;
        addons.insert("coredns".into(), Wish { enabled: false, manifest: None });
        addons.insert("storage".into(), Wish { enabled: true, manifest: Some(object("other")) });
        addons.insert("mine".into(), Wish { enabled: true, manifest: Some("${WHAT}".into()) });
        let wanted = wanted(&cluster, folder.path());
        let names: Vec<_> = wanted.iter().map(|addon| addon.name.as_str()).collect();
        assert_eq!(names, ["access", "kube-proxy", "mine", "storage"]);
        assert_eq!(wanted[0].objects.as_ref().unwrap().len(), 7);
        assert!(wanted[2].objects.as_ref().unwrap_err().contains("WHAT"));
        assert_eq!(wanted[3].objects.as_ref().unwrap()[0].name, "other");
        assert_ne!(digest(&wanted), digest(&wanted[..3]));
    }

    #[test]
    fn objects_are_where_the_api_server_has_them() {
        let object = |api_version: &str, namespace: Option<&str>| Manifest {
            api_version: api_version.into(),
            kind: "X".into(),
            name: "n".into(),
            namespace: namespace.map(str::to_owned),
            text: String::new(),
        };
        let place = |namespaced| Place { plural: "xs".into(), namespaced };
        assert_eq!(path(&object("v1", None), &place(false)), "/api/v1/xs/n");
        assert_eq!(path(&object("v1", None), &place(true)), "/api/v1/namespaces/default/xs/n");
        assert_eq!(
            path(&object("apps/v1", Some("kube-system")), &place(true)),
            "/apis/apps/v1/namespaces/kube-system/xs/n"
        );
    }
}
