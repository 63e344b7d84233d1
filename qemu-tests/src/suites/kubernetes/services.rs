//! How pods and the world outside find pods: cluster addresses, node ports, headless services, names.

use std::collections::BTreeSet;

use anyhow::ensure;

use super::pods::get;
use super::{CHECK_LIMIT, POD_LIMIT, clear, prepare};
use crate::kubernetes::Cluster;
use crate::kubernetes::cluster::NODE_PORT;
use crate::report::Report;
use crate::wait;

const NAMESPACE: &str = "services";
/// Requests whose answers are counted: with two pods, all by chance from one happens once in half a billion runs.
const REQUESTS: usize = 30;

pub(super) async fn run(cluster: &mut Cluster, report: &Report) {
    let prepared = async |cluster: &mut Cluster| {
        prepare(cluster, NAMESPACE, include_str!("services.yaml")).await?;
        let names = ["-n", NAMESPACE, "deployment/names"];
        cluster.kubectl.rolled_out(&names, POD_LIMIT).await?;
        let client = ["-n", NAMESPACE, "pod/client"];
        cluster.kubectl.wait_for("condition=Ready", &client, POD_LIMIT).await
    };
    if !cluster.check(report, "services are taken", CHECK_LIMIT, prepared).await {
        return;
    }
    let c = cluster;
    c.check(report, "a service spreads its load over its pods", CHECK_LIMIT, spread).await;
    c.check(report, "session affinity keeps a client at one pod", CHECK_LIMIT, sticky).await;
    c.check(report, "a headless service is the addresses of its pods", CHECK_LIMIT, headless).await;
    c.check(report, "a node port is reached from outside the node", CHECK_LIMIT, node_port).await;
    c.check(report, "names resolve, short and long, ports and other names too", CHECK_LIMIT, names)
        .await;
    c.check(report, "a service without pods refuses at once", CHECK_LIMIT, nobody).await;
    c.check(report, "the API server is reached from pods", CHECK_LIMIT, api_server).await;
    c.check(report, "a service of both versions of IP answers by both", CHECK_LIMIT, dual).await;
    clear(c, NAMESPACE).await;
}

async fn inside(cluster: &Cluster, script: &str) -> anyhow::Result<String> {
    cluster.kubectl.exec(&["-n", NAMESPACE, "client"], &["sh", "-c", script]).await
}

/// Names of the pods that answer so many requests to a service.
async fn answers(cluster: &Cluster, service: &str) -> anyhow::Result<BTreeSet<String>> {
    let script = format!(
        "for n in $(seq {REQUESTS}); do wget -qO- -T 60 http://{service}/ || echo lost; done"
    );
    let text = inside(cluster, &script).await?;
    let count = text.lines().count();
    ensure!(count == REQUESTS && !text.contains("lost"), "{service} answers {text}");
    Ok(text.lines().map(str::to_owned).collect())
}

async fn spread(cluster: &mut Cluster) -> anyhow::Result<()> {
    let found = answers(cluster, "spread").await?;
    ensure!(found.len() == 2, "{REQUESTS} requests went to {found:?}");
    Ok(())
}

async fn sticky(cluster: &mut Cluster) -> anyhow::Result<()> {
    let found = answers(cluster, "sticky").await?;
    ensure!(found.len() == 1, "one client's requests went to {found:?}");
    Ok(())
}

async fn headless(cluster: &mut Cluster) -> anyhow::Result<()> {
    let pods = ["-n", NAMESPACE, "pods", "-l", "app=names"];
    let addresses = cluster.kubectl.field(&pods, "{.items[*].status.podIP}").await?;
    let address = "{.spec.clusterIP}";
    let cluster_ip = cluster.kubectl.field(&["-n", NAMESPACE, "service/headless"], address).await?;
    ensure!(cluster_ip == "None", "it has the address {cluster_ip}");
    let text = inside(cluster, "nslookup headless.services.svc.cluster.local").await?;
    for one in addresses.split_whitespace() {
        ensure!(text.contains(one), "{one} is not in {text}");
    }
    Ok(())
}

async fn node_port(cluster: &mut Cluster) -> anyhow::Result<()> {
    let port = cluster.machine.forwarded(NODE_PORT)?;
    let answer = wait::until("a node port to answer", POD_LIMIT, async || {
        Ok(Some(get(port, "/").await?).filter(|answer| answer.contains("200 OK")))
    })
    .await?;
    ensure!(answer.contains("names-"), "it answers {answer:?}");
    Ok(())
}

async fn names(cluster: &mut Cluster) -> anyhow::Result<()> {
    let service = ["-n", NAMESPACE, "service/spread"];
    let address = cluster.kubectl.field(&service, "{.spec.clusterIP}").await?;
    for name in ["spread.services.svc.cluster.local", "elsewhere.services.svc.cluster.local"] {
        let text = inside(cluster, &format!("nslookup {name}")).await?;
        ensure!(text.contains(&address), "{name} is {text}");
    }
    let page = inside(cluster, "wget -qO- -T 60 http://spread.services/").await?;
    ensure!(page.contains("names-"), "by a short name comes {page:?}");
    let ports = "nslookup -type=srv _http._tcp.spread.services.svc.cluster.local";
    let text = inside(cluster, ports).await?;
    ensure!(text.contains("80 spread.services"), "the port's record is {text}");
    let unknown =
        inside(cluster, "nslookup nothing.services.svc.cluster.local 2>&1 || true").await?;
    ensure!(unknown.contains("NXDOMAIN"), "a name that is none is {unknown}");
    Ok(())
}

async fn nobody(cluster: &mut Cluster) -> anyhow::Result<()> {
    let text = inside(cluster, "wget -qO- -T 60 http://nobody/ 2>&1 || true").await?;
    ensure!(text.contains("refused"), "it says {text:?}");
    Ok(())
}

async fn api_server(cluster: &mut Cluster) -> anyhow::Result<()> {
    let script = "echo | nc -w 60 kubernetes.default 443 >/dev/null && echo reached";
    let text = inside(cluster, script).await?;
    ensure!(text.contains("reached"), "the service `kubernetes` is not reached");
    Ok(())
}

async fn dual(cluster: &mut Cluster) -> anyhow::Result<()> {
    let service = ["-n", NAMESPACE, "service/dual"];
    let addresses = cluster.kubectl.field(&service, "{.spec.clusterIPs[*]}").await?;
    let addresses: Vec<&str> = addresses.split_whitespace().collect();
    ensure!(addresses.len() == 2 && addresses[1].contains(':'), "it has {addresses:?}");
    let pods = ["-n", NAMESPACE, "pods", "-l", "app=names"];
    let of_pods = cluster.kubectl.field(&pods, "{.items[*].status.podIPs[*].ip}").await?;
    let count = of_pods.split_whitespace().count();
    ensure!(count == 4, "two pods have the addresses {of_pods}");
    for address in addresses {
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let found = answers(cluster, &host).await?;
        ensure!(found.len() == 2, "{REQUESTS} requests to {address} went to {found:?}");
    }
    let text = inside(cluster, "nslookup -type=aaaa dual.services.svc.cluster.local").await?;
    ensure!(text.contains("fd00:96::"), "its IPv6 name is {text}");
    Ok(())
}
