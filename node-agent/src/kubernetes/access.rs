//! Access to the API server: for people a kubeconfig with a certificate that soon expires, made when somebody asks; for the agent a
//! client.

use super::addons::refusal;
use super::authorities::Authorities;
use super::client::{Call, Client};
use super::kubelet::JOINED_IDENTITY;
use super::record::Record;
use super::{API_PORT, Kubernetes};
use anyhow::Context as _;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::{Method, StatusCode};
use ingot_pki::kubernetes::{Subject, Usage};
use ingot_pki::{Certificate, Identity, Validity};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

/// The group that may do everything, by a binding that the agent applies. Unlike `system:masters` it can be taken away.
pub(crate) const ADMINISTRATORS: &str = "ingot:administrators";
/// A certificate lives this long when nobody says otherwise.
pub(crate) const LIFETIME_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// And at most this long.
pub(crate) const LIFETIME_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// For how long the agent's own certificate is good; it is never written anywhere.
const AGENT_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(crate) fn host_of(endpoint: &str) -> &str {
    if let Some((address, _)) = endpoint.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    if endpoint.matches(':').count() > 1 {
        return endpoint;
    }
    endpoint.split(':').next().unwrap_or(endpoint)
}

/// Where people reach the API server: as the config says, or at the node's first address.
pub(crate) fn server(endpoint: Option<&str>, addresses: &[IpAddr]) -> String {
    let Some(endpoint) = endpoint else {
        let address = addresses.first().copied().unwrap_or(IpAddr::from([127, 0, 0, 1]));
        return format!("https://{}", SocketAddr::new(address, API_PORT));
    };
    let has_port = endpoint.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port { format!("https://{endpoint}") } else { format!("https://{endpoint}:{API_PORT}") }
}

/// The agent's own identity to the API server, as somebody who may do everything.
pub(crate) fn agent(authorities: &Authorities, now: SystemTime) -> anyhow::Result<Identity> {
    let subject = Subject {
        common_name: "ingot:agent".to_owned(),
        group: Some("system:masters".to_owned()),
        usage: Usage::Client,
        names: Vec::new(),
    };
    Ok(authorities.cluster.issue_kubernetes(&subject, Validity::starting(now, AGENT_LIFETIME))?)
}

/// A client of the API server for the agent: on a control plane as somebody who may do everything, on a worker as its kubelet.
///
/// # Errors
/// When the authorities, or the kubelet's certificate, are not there or cannot be read.
pub(crate) fn client(kubernetes: &Kubernetes, record: &Record) -> anyhow::Result<Client> {
    let servers = vec![SocketAddr::from(([127, 0, 0, 1], API_PORT))];
    let Some(joined) = &record.joined else {
        let now = SystemTime::now();
        let authorities = Authorities::ensure(kubernetes.folder(), now)?;
        return Client::new(servers, &authorities.cluster, &agent(&authorities, now)?);
    };
    let own = std::fs::read_to_string(JOINED_IDENTITY)
        .context("the kubelet has no certificate yet; if the token has expired, write a new one of `ingotctl join-token` to kubernetes.joinToken; `ingotctl logs -n control-plane kubelet` says more")?;
    good(&own, SystemTime::now())?;
    Client::from_pem(servers, &joined.authority, &own)
}

/// Whether a kubelet's certificate is good now. It renews it long before that ends, unless the node was off for so long.
fn good(own: &str, now: SystemTime) -> anyhow::Result<()> {
    let certificate = Certificate::from_pem(own).context("read the kubelet's certificate")?;
    let validity = certificate.info()?.validity;
    anyhow::ensure!(
        now >= validity.not_before,
        "the kubelet's certificate is not good yet: the clock of the node is wrong; set time.servers in the config"
    );
    anyhow::ensure!(
        now < validity.not_after,
        "the kubelet's certificate has expired; make a token on a control plane with `ingotctl join-token` and write it to kubernetes.joinToken"
    );
    Ok(())
}

/// Asks for something of the API server; the answer is JSON.
///
/// # Errors
/// When it does not answer, or with something else than that.
pub(crate) async fn get(client: &Client, path: &str) -> anyhow::Result<Value> {
    let answer = client.call(Call::get(path)).await?;
    anyhow::ensure!(answer.status == StatusCode::OK, "{}", refusal(answer.status, &answer.body));
    serde_json::from_slice(&answer.body).context("read the API server's answer")
}

/// Changes fields of an object, at its path.
///
/// # Errors
/// When the API server does not answer, or refuses.
pub(crate) async fn patch(client: &Client, path: &str, body: &Value) -> anyhow::Result<()> {
    let call = Call {
        method: Method::PATCH,
        path,
        content_type: "application/merge-patch+json",
        body: serde_json::to_vec(body)?,
    };
    let answer = client.call(call).await?;
    anyhow::ensure!(answer.status.is_success(), "{}", refusal(answer.status, &answer.body));
    Ok(())
}

/// A kubeconfig for a person.
///
/// # Errors
/// When the authorities cannot be read.
pub(crate) fn kubeconfig(
    kubernetes: &Kubernetes,
    record: &Record,
    user: &str,
    lifetime: Duration,
    server: &str,
    now: SystemTime,
) -> anyhow::Result<String> {
    let authorities =
        Authorities::ensure(kubernetes.folder(), now).context("read the cluster's authorities")?;
    let subject = Subject {
        common_name: user.to_owned(),
        group: Some(ADMINISTRATORS.to_owned()),
        usage: Usage::Client,
        names: Vec::new(),
    };
    let validity = Validity::starting(now, lifetime);
    let identity = authorities.cluster.issue_kubernetes(&subject, validity)?;
    let name = &record.name;
    let authority = BASE64_STANDARD.encode(authorities.cluster.certificate().to_pem().as_bytes());
    let certificate = BASE64_STANDARD.encode(identity.certificate.to_pem().as_bytes());
    let key = BASE64_STANDARD.encode(identity.key.to_pem().as_bytes());
    Ok(format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: admin@{name}\nclusters:\n- name: {name}\n  cluster:\n    \
         server: {server}\n    certificate-authority-data: {authority}\nusers:\n- name: admin@{name}\n  user:\n    \
         client-certificate-data: {certificate}\n    client-key-data: {key}\ncontexts:\n- name: admin@{name}\n  context:\n    \
         cluster: {name}\n    user: admin@{name}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_good_no_more_or_not_yet_is_told_with_what_to_do() {
        let now = SystemTime::now();
        let ca = ingot_pki::Ca::generate("ca", Validity::starting(now, Validity::days(9))).unwrap();
        let subject = Subject {
            common_name: "system:node:two".into(),
            group: None,
            usage: Usage::Client,
            names: Vec::new(),
        };
        let own =
            ca.issue_kubernetes(&subject, Validity::starting(now, Validity::days(1))).unwrap();
        let own = own.certificate.to_pem();
        let day = Duration::from_secs(24 * 60 * 60);
        assert!(good(&own, now).is_ok());
        let said = |at| good(&own, at).unwrap_err().to_string();
        assert!(said(now + day * 2).contains("ingotctl join-token"), "{}", said(now + day * 2));
        assert!(said(now - day).contains("time.servers"));
        assert!(good("nothing", now).is_err());
    }

    #[test]
    fn an_endpoint_becomes_an_address_that_kubectl_takes() {
        let own = ["10.0.2.15".parse().unwrap()];
        assert_eq!(server(None, &own), "https://10.0.2.15:6443");
        assert_eq!(server(None, &["fd00::1".parse().unwrap()]), "https://[fd00::1]:6443");
        assert_eq!(server(Some("k.example.org"), &own), "https://k.example.org:6443");
        assert_eq!(server(Some("k.example.org:443"), &own), "https://k.example.org:443");
        assert_eq!(server(Some("[fd00::1]"), &own), "https://[fd00::1]:6443");
        assert_eq!(server(Some("[fd00::1]:443"), &own), "https://[fd00::1]:443");
        let hosts = ["k.example.org", "k.example.org:443", "[fd00::1]:443", "[fd00::1]"];
        assert_eq!(hosts.map(host_of), ["k.example.org", "k.example.org", "fd00::1", "fd00::1"]);
    }
}
