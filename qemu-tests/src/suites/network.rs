//! Suite `network`: who reaches whom: pods each other, the node and what is outside, and everybody the ports of the node that
//! lead to pods. A conversation over one connection shows that a restart of the agent is not noticed. A second card hangs on a
//! cable with a router of the tests.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::agent_crash::agent_pid;
use super::{Context, apply};
use crate::client::Api;
use crate::credentials::Credentials;
use crate::documents::{self, Pod};
use crate::machine::{API_PORT, Firmware, Machine, USER_NETWORK_CARD};
use crate::report::Report;
use crate::router::{self, Router};
use crate::wait;

/// A pod or the agent starts, in emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(120);

/// One answer over a connection that is open.
const ANSWER: Duration = Duration::from_secs(20);

/// Port of the node that leads to the pod `echo`, and the one it listens to.
const HOST_PORT: u16 = 8080;
const POD_PORT: u16 = 7;

/// Port of the pod with the node's network.
const NODE_PORT: u16 = 7000;

/// The node, to its pods.
const GATEWAYS: [&str; 2] = ["10.244.0.1", "[fd00:10:244::1]"];

/// What QEMU gives the guest, and the host as the guest sees it.
const GUEST: &str = "10.0.2.15";
const HOST: &str = "10.0.2.2";

/// Address of the card on the cable.
const WIRE: &str = "52:54:00:77:00:03";

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let mut world = None;
    let started = async {
        world = Some(World::boot(context).await?);
        Ok(())
    };
    report.check_alone("a node with pods starts", started).await;
    let Some(World { mut machine, outside, echo, router, _sockets }) = world else { return };
    let machine = &mut machine;
    report
        .check("addresses and names come from a DHCPv6 server and a router", machine, learned)
        .await;
    report
        .check("all that talk are started", machine, async |machine| {
            let mut pods = servers();
            pods.extend(talkers(&echo, outside));
            pods.push(greedy());
            apply_all(machine, &pods).await
        })
        .await;
    for (name, pod) in [
        ("a pod reaches another by IPv4", "to-pod4"),
        ("a pod reaches another by IPv6", "to-pod6"),
        ("a pod reaches the node by IPv4", "to-node4"),
        ("a pod reaches the node by IPv6", "to-node6"),
        ("a pod reaches what is outside of the node", "to-outside"),
        ("a pod reaches another through a port of the node", "to-port"),
        ("the node reaches a pod through its port at 127.0.0.1", "from-loopback"),
    ] {
        report.check(name, machine, async |machine| talks(machine, pod).await).await;
    }
    report.check("the node sees a pod's own address", machine, own_address).await;
    report.check("from outside a port of the node leads to the pod", machine, from_outside).await;
    report.check("a port that is taken is refused, and named", machine, refused).await;
    let solicited = router.solicitations();
    report.check("killing the agent ends no connection", machine, agent_killed).await;
    report
        .check("the next agent keeps what it learned, and asks nobody", machine, async |machine| {
            learned(machine).await?;
            let more = router.solicitations() - solicited;
            ensure!(more == 0, "the DHCPv6 server was solicited {more} times more");
            Ok(())
        })
        .await;
    report.check("a port is closed when its pod is gone", machine, closed).await;
}

/// What the suite plays with.
struct World {
    machine: Machine,
    /// Port of a listener of this host that echoes lines.
    outside: u16,
    /// Addresses of the pod that echoes lines.
    echo: Vec<String>,
    /// At the other end of the second card's cable.
    router: Router,
    /// Where both ends of the cable are.
    _sockets: tempfile::TempDir,
}

impl World {
    async fn boot(context: &Context) -> anyhow::Result<Self> {
        let credentials = Rc::new(Credentials::generate()?);
        let sockets = tempfile::Builder::new()
            .prefix("ingot-wire-")
            .tempdir()
            .context("make a directory for the ends of a cable")?;
        let (own, other) = (sockets.path().join("machine"), sockets.path().join("router"));
        let router = Router::start(&other, &own)?;
        let mut machine = Machine::builder(&context.artifacts, "network")
            .firmware(Firmware::Direct)
            .wire(&own, &other, WIRE)
            .cidata(machine_document(&credentials))
            .credentials(credentials)
            .forward(HOST_PORT)
            .boot()
            .await?;
        machine.wait_running().await?;
        apply_all(&machine, &servers()).await?;
        let mut api = machine.api()?;
        let echo = wait::until("the echo pod to have two addresses", LIMIT, async || {
            let pod = api.pod("echo").await?.context("no pod echo")?;
            ensure!(pod.phase == "Running" && pod.ips.len() == 2, "{pod:?}");
            Ok(Some(pod.ips))
        })
        .await?;
        Ok(Self { machine, outside: echo_outside()?, echo, router, _sockets: sockets })
    }
}

fn machine_document(credentials: &Credentials) -> String {
    let network = format!(
        "network:\n  pods:\n    ipv6Subnet: \"fd00:10:244::/64\"\n  links:\n    \
         - {{mac: \"{WIRE}\", dhcp4: false, dhcp6: true}}\n    - {{mac: \"{USER_NETWORK_CARD}\", routerAdvertisements: false}}\n"
    );
    documents::machine(credentials, "network").replacen("network:\n", &network, 1)
}

async fn apply_all(machine: &Machine, pods: &[String]) -> anyhow::Result<()> {
    let mut all = vec![machine_document(machine.credentials())];
    all.extend_from_slice(pods);
    apply(&mut machine.api()?, &documents::stream(&all)).await.map(drop)
}

fn servers() -> Vec<String> {
    vec![
        Pod::new("echo", &["echo", &POD_PORT.to_string()])
            .host_port(POD_PORT, HOST_PORT)
            .document(),
        Pod::new("node-echo", &["echo", &NODE_PORT.to_string()]).host_network().document(),
    ]
}

/// Pods that go on talking over one connection each.
fn talkers(echo: &[String], outside: u16) -> Vec<String> {
    let bracketed = |address: &String| match address.contains(':') {
        true => format!("[{address}]"),
        false => address.clone(),
    };
    let [v4, v6] = GATEWAYS;
    let mut talkers = vec![
        Pod::new("to-node4", &["converse", &format!("{v4}:{NODE_PORT}"), "200"]),
        Pod::new("to-node6", &["converse", &format!("{v6}:{NODE_PORT}"), "200"]),
        Pod::new("to-outside", &["converse", &format!("{HOST}:{outside}"), "200"]),
        Pod::new("to-port", &["converse", &format!("{GUEST}:{HOST_PORT}"), "200"]),
        Pod::new("from-loopback", &["converse", &format!("127.0.0.1:{HOST_PORT}"), "200"])
            .host_network(),
    ];
    for (name, address) in ["to-pod4", "to-pod6"].iter().zip(echo) {
        let to = format!("{}:{POD_PORT}", bracketed(address));
        talkers.push(Pod::new(name, &["converse", &to, "200"]));
    }
    talkers.iter().map(Pod::document).collect()
}

/// A pod that wants what the agent has. That two pods want the same is refused with the config.
fn greedy() -> String {
    Pod::new("api-port", &["echo", "7"]).host_port(7, API_PORT).document()
}

/// A listener of this host that sends every line back; it lives as long as this program.
fn echo_outside() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen outside")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let Ok(reader) = connection.try_clone() else { return };
                let mut writer = connection;
                for line in BufReader::new(reader).lines().map_while(Result::ok) {
                    if writeln!(writer, "{line}").is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(port)
}

/// The card on the cable has the leased address and one of its own making, and programs are told of the servers and domains.
async fn learned(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    wait::until("addresses and name servers of IPv6", LIMIT, async || {
        let status = api.status().await?;
        let link = status.links.iter().find(|link| link.mac == WIRE).context("no such card")?;
        let leased = format!("{}/128", router::LEASED);
        let own = |address: &String| address.starts_with("fd00:77::") && address.ends_with("/64");
        let complete = link.addresses.contains(&leased) && link.addresses.iter().any(own);
        ensure!(complete, "{link:?}");
        let conf = api.read_text("/run/ingot/etc/resolv.conf").await?;
        for server in [router::LEASED_SERVER, router::ADVERTISED_SERVER] {
            ensure!(conf.contains(&format!("nameserver {server}\n")), "no {server} in {conf}");
        }
        for domain in [router::LEASED_DOMAIN, router::ADVERTISED_DOMAIN] {
            let search = conf.lines().find(|line| line.starts_with("search ")).unwrap_or_default();
            ensure!(search.split(' ').any(|it| it == domain), "no {domain} in {conf}");
        }
        Ok(Some(()))
    })
    .await
}

/// A pod got some answers, on its only connection.
async fn talks(machine: &mut Machine, pod: &str) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    wait::until(&format!("{pod} to get answers"), LIMIT, async || {
        let lines = api.logs(pod).await?;
        let answered = lines.iter().any(|line| line == "answer 3");
        ensure!(answered, "{lines:?}");
        Ok(Some(()))
    })
    .await
}

/// What the pod with the node's network saw of those who talked to it.
async fn own_address(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    for pod in ["to-node4", "to-node6"] {
        let ips = api.pod(pod).await?.context("no such pod")?.ips;
        let lines = api.logs("node-echo").await?;
        let seen = ips.iter().any(|ip| lines.iter().any(|line| *line == format!("peer {ip}")));
        ensure!(seen, "{pod} has {ips:?}, seen were {lines:?}");
    }
    Ok(())
}

/// A connection from this host through the node's port to the pod.
struct Outside {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Outside {
    fn connect(machine: &Machine) -> anyhow::Result<Self> {
        let port = machine.forwarded(HOST_PORT)?;
        let writer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connect")?;
        writer.set_read_timeout(Some(ANSWER))?;
        Ok(Self { reader: BufReader::new(writer.try_clone()?), writer })
    }

    fn ask(&mut self, question: &str) -> anyhow::Result<()> {
        writeln!(self.writer, "{question}").context("send a line")?;
        let mut line = String::new();
        self.reader.read_line(&mut line).context("read a line")?;
        ensure!(line.trim_end() == question, "the answer to {question:?} is {line:?}");
        Ok(())
    }
}

async fn from_outside(machine: &mut Machine) -> anyhow::Result<()> {
    Outside::connect(machine)?.ask("hello")
}

async fn refused(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let port = API_PORT.to_string();
    wait::until("the pod to say why it does not run", LIMIT, async || {
        let pod = api.pod("api-port").await?.context("no such pod")?;
        let told = format!("{pod:?}");
        ensure!(told.contains(&format!("port {port}/TCP")), "it does not name the port: {told}");
        Ok(Some(()))
    })
    .await?;
    // The API is still there, as the very question showed, and so is the pod.
    Outside::connect(machine)?.ask("still")
}

async fn agent_killed(machine: &mut Machine) -> anyhow::Result<()> {
    const TALKERS: [&str; 4] = ["to-pod4", "to-pod6", "to-outside", "from-loopback"];
    let mut open = Outside::connect(machine)?;
    open.ask("before")?;
    let mut api = machine.api()?;
    let mut before = Vec::new();
    for pod in TALKERS {
        before.push((pod, api.container(pod).await?.id, answers(&mut api, pod).await?));
    }
    let killed = agent_pid(&mut api).await?;
    machine.crash_agent().await?;
    open.ask("while nobody is there")?;
    // Not until all of the config is true: one pod never gets its port.
    let mut api = wait::until("another agent to answer", LIMIT, async || {
        let mut api = machine.api()?;
        Ok((agent_pid(&mut api).await? != killed).then_some(api))
    })
    .await?;
    open.ask("after")?;
    Outside::connect(machine)?.ask("again")?;
    for (pod, id, count) in before {
        wait::until(&format!("{pod} to go on"), LIMIT, async || {
            let now = answers(&mut api, pod).await?;
            ensure!(now > count + 3, "{now} answers, {count} before");
            Ok(Some(()))
        })
        .await?;
        let container = api.container(pod).await?;
        ensure!(container.id == id, "{pod} was made anew: {container:?}");
    }
    Ok(())
}

async fn answers(api: &mut Api, pod: &str) -> anyhow::Result<usize> {
    Ok(api.logs(pod).await?.iter().filter(|line| line.starts_with("answer ")).count())
}

async fn closed(machine: &mut Machine) -> anyhow::Result<()> {
    apply_all(machine, &[]).await?;
    wait::until("the port to be closed", LIMIT, async || {
        // QEMU takes the connection in any case, and ends it when the guest does not.
        let answered = Outside::connect(machine)?.ask("anybody");
        ensure!(answered.is_err(), "somebody answers");
        Ok(Some(()))
    })
    .await
}
