//! The certificates of the programs of a cluster on this node: one table, and the loop that makes and renews what it says. Programs
//! read a renewed file by themselves, so nothing is restarted for it.

use super::Cluster;
use super::authorities::{Authorities, lasts, split};
use super::components::{API_SERVER, CONTROLLER_MANAGER, ETCD, KUBELET, Owner, SCHEDULER};
use crate::durable::replace;
use anyhow::Context as _;
use ingot_pki::kubernetes::{Subject, Usage};
use ingot_pki::{Ca, Certificate, SubjectName, Validity};
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// Days a certificate lives.
const LIFETIME_DAYS: u32 = 365;
/// It is renewed when less than this is left.
const RENEW_BEFORE: Duration = Duration::from_secs(120 * 24 * 60 * 60);

/// Which authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    /// The cluster's.
    Cluster,
    /// etcd's.
    Etcd,
    /// That of the API server when it speaks for others.
    FrontProxy,
}

/// One certificate, in one file with its key, so that they always belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Whose it is.
    pub(crate) owner: Owner,
    /// Name of the file in the owner's folder.
    pub(crate) file: &'static str,
    /// Who signs it.
    pub(crate) signer: Signer,
    /// What is in it.
    pub(crate) subject: Subject,
}

fn client(name: &str, group: Option<&str>) -> Subject {
    Subject {
        common_name: name.to_owned(),
        group: group.map(str::to_owned),
        usage: Usage::Client,
        names: Vec::new(),
    }
}

/// The table.
pub(crate) fn table(cluster: &Cluster) -> Vec<Row> {
    let row = |owner, file, signer, subject| Row { owner, file, signer, subject };
    let node = &cluster.record.node;
    let dns = |name: &str| SubjectName::Dns(name.to_owned());
    let local = [dns("localhost"), SubjectName::Ip([127, 0, 0, 1].into())];
    let own = || cluster.addresses.iter().copied().map(SubjectName::Ip);
    let with_local = |mut names: Vec<SubjectName>| {
        names.extend(local.clone());
        names.extend(own());
        names
    };
    let server = |name: &str, usage, names| Subject {
        common_name: name.to_owned(),
        group: None,
        usage,
        names,
    };
    let kubelet = Subject {
        common_name: format!("system:node:{node}"),
        group: Some("system:nodes".to_owned()),
        usage: Usage::Server,
        names: std::iter::once(dns(node)).chain(own()).collect(),
    };
    let etcd_names = with_local(vec![dns(node)]);
    vec![
        row(ETCD, "server.pem", Signer::Etcd, server(node, Usage::Peer, etcd_names.clone())),
        row(ETCD, "peer.pem", Signer::Etcd, server(node, Usage::Peer, etcd_names)),
        row(
            API_SERVER,
            "serving.pem",
            Signer::Cluster,
            server("kube-apiserver", Usage::Server, with_local(api_names(cluster))),
        ),
        row(
            API_SERVER,
            "etcd-client.pem",
            Signer::Etcd,
            client("kube-apiserver-etcd-client", None),
        ),
        row(
            API_SERVER,
            "kubelet-client.pem",
            Signer::Cluster,
            client("kube-apiserver-kubelet-client", Some("ingot:kubelet-clients")),
        ),
        row(API_SERVER, "proxy-client.pem", Signer::FrontProxy, client("front-proxy-client", None)),
        row(
            CONTROLLER_MANAGER,
            "client.pem",
            Signer::Cluster,
            client("system:kube-controller-manager", None),
        ),
        row(SCHEDULER, "client.pem", Signer::Cluster, client("system:kube-scheduler", None)),
        row(
            KUBELET,
            "client.pem",
            Signer::Cluster,
            client(&format!("system:node:{node}"), Some("system:nodes")),
        ),
        row(KUBELET, "serving.pem", Signer::Cluster, kubelet),
    ]
}

/// Names and addresses under which the API server is reached, besides the node's addresses.
fn api_names(cluster: &Cluster) -> Vec<SubjectName> {
    let domain = &cluster.record.dns_domain;
    let mut names: Vec<SubjectName> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
            .into_iter()
            .map(|name| SubjectName::Dns(name.to_owned()))
            .collect();
    names.push(SubjectName::Dns(format!("kubernetes.default.svc.{domain}")));
    names.push(SubjectName::Dns(cluster.record.node.clone()));
    names.extend(cluster.service_addresses().into_iter().map(SubjectName::Ip));
    names.push(SubjectName::Ip(IpAddr::from(std::net::Ipv6Addr::LOCALHOST)));
    if let Some(endpoint) = &cluster.section.endpoint {
        let host = super::access::host_of(endpoint);
        names.push(match host.parse() {
            Ok(address) => SubjectName::Ip(address),
            Err(_) => SubjectName::Dns(host.to_owned()),
        });
    }
    names
}

/// Makes what is not there, not as the table says, or about to expire. Says which were made.
///
/// # Errors
/// When one cannot be made or written.
pub(crate) fn ensure(
    cluster: &Cluster,
    authorities: &Authorities,
    now: SystemTime,
) -> anyhow::Result<Vec<String>> {
    let mut made = Vec::new();
    for row in table(cluster) {
        let ca = match row.signer {
            Signer::Cluster => &authorities.cluster,
            Signer::Etcd => &authorities.etcd,
            Signer::FrontProxy => &authorities.front_proxy,
        };
        let path = row.owner.folder(&cluster.folder).join(row.file);
        let head = head(&row, ca);
        let good = fs::read_to_string(&path).is_ok_and(|text| is_good(&text, &head, now));
        if good {
            continue;
        }
        let validity = Validity::starting(now, Validity::days(LIFETIME_DAYS));
        let identity = ca.issue_kubernetes(&row.subject, validity)?;
        let key = identity.key.to_pem();
        let text = format!("{head}\n{}{}", identity.certificate.to_pem(), key.as_str());
        replace(&path, text.as_bytes(), 0o600, Some(row.owner.uid))
            .with_context(|| format!("write {}", path.display()))?;
        made.push(format!("{}/{}", row.owner.name, row.file));
    }
    Ok(made)
}

/// First line of the file: what the certificate was made from. Readers of PEM pass over it.
fn head(row: &Row, ca: &Ca) -> String {
    let Subject { common_name, group, usage, names } = &row.subject;
    let names: Vec<String> = names
        .iter()
        .map(|name| match name {
            SubjectName::Dns(name) => name.clone(),
            SubjectName::Ip(address) => address.to_string(),
        })
        .collect();
    let group = group.as_deref().unwrap_or("-");
    let signer = ca.certificate().fingerprint();
    format!("# {common_name} {group} {usage:?} {} by {signer}", names.join(","))
}

fn is_good(text: &str, head: &str, now: SystemTime) -> bool {
    let same = text.lines().next() == Some(head);
    let certificate =
        split(text).and_then(|(certificate, _)| Certificate::from_pem(certificate).ok());
    same && certificate.is_some_and(|certificate| lasts(&certificate, now, RENEW_BEFORE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::tests::cluster;

    #[test]
    fn certificates_are_made_once_renewed_in_time_and_follow_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = cluster();
        cluster.folder = folder.path().to_owned();
        for owner in crate::kubernetes::components::OWNERS {
            fs::create_dir_all(owner.folder(folder.path())).unwrap();
        }
        let now = SystemTime::now();
        let authorities = Authorities::ensure(folder.path(), now).unwrap();
        // Files of other owners can only be made by root; as anybody else there is nothing to see here.
        let Ok(made) = ensure(&cluster, &authorities, now) else {
            assert!(!rustix::process::geteuid().is_root(), "root can make them");
            return;
        };
        assert_eq!(made.len(), table(&cluster).len());
        assert!(ensure(&cluster, &authorities, now).unwrap().is_empty());
        let year = Duration::from_secs(300 * 24 * 60 * 60);
        assert_eq!(ensure(&cluster, &authorities, now + year).unwrap().len(), made.len());
        cluster.addresses = vec!["192.168.7.7".parse().unwrap()];
        let again = ensure(&cluster, &authorities, now + year).unwrap();
        assert!(again.contains(&"kube-apiserver/serving.pem".to_owned()), "{again:?}");
        assert!(!again.contains(&"kube-scheduler/client.pem".to_owned()), "{again:?}");
    }

    #[test]
    fn who_is_who_in_the_cluster() {
        let table = table(&cluster());
        let of = |owner: Owner, file: &str| {
            let row = table.iter().find(|row| row.owner == owner && row.file == file).unwrap();
            row.subject.clone()
        };
        assert_eq!(of(KUBELET, "client.pem").common_name, "system:node:node-1");
        assert_eq!(of(KUBELET, "client.pem").group.as_deref(), Some("system:nodes"));
        assert_eq!(of(SCHEDULER, "client.pem").common_name, "system:kube-scheduler");
        let serving = of(API_SERVER, "serving.pem").names;
        for name in ["10.0.2.15", "127.0.0.1", "10.96.0.1", "::1"] {
            assert!(serving.contains(&SubjectName::Ip(name.parse().unwrap())), "{name}");
        }
        for name in ["localhost", "node-1", "kubernetes.default.svc.cluster.local"] {
            assert!(serving.contains(&SubjectName::Dns(name.to_owned())), "{name}");
        }
        let master = table.iter().any(|row| row.subject.group.as_deref() == Some("system:masters"));
        assert!(!master, "no file of the node makes its reader an administrator of the cluster");
    }
}
