//! The network: links, addresses, routes, DHCP clients, and what other controllers read of it. The files that tell programs
//! of name servers and hosts are written by [`resolver`].

mod advertised;
pub(crate) mod dhcp;
pub(crate) mod netlink;
mod plan;
pub(crate) mod resolver;

use super::{Controller, Outcome, Want};
use crate::state::State;
use crate::state::desired::Wish;
use crate::state::observed::LinkState;
use advertised::{Entry, Heard};
use anyhow::Context as _;
use dhcp::{Clients, Version};
use ingot_machine_config::v1::network::Network as NetworkConfig;
use netlink::{Kernel, Netlink};
use plan::{Have, Step};
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Everything is looked at anew after this, whatever the kernel has said in between.
const INTERVAL: Duration = Duration::from_secs(300);
/// Once a first wait is over this long, the node still works; only the words on the console change.
const ADDRESS_DEADLINE: Duration = Duration::from_secs(60);
/// How long the addresses of a former agent stay while no DHCP server answers. The lease may end meanwhile, and then the
/// address may be somebody else's.
const INHERITED: Duration = Duration::from_secs(300);

/// The network controller.
pub(crate) struct Network {
    state: State,
    netlink: Option<Netlink>,
    clients: Clients,
    leases: watch::Receiver<dhcp::Leases>,
    heard: watch::Receiver<Heard>,
    wish: watch::Receiver<Wish>,
    started: Instant,
    /// Links that had a lease since then.
    leased: BTreeSet<(String, Version)>,
}

impl Network {
    /// Publishes links, and what DHCP and router advertisements bring, in `state.observed`.
    pub(crate) fn new(state: State) -> Self {
        let clients = Clients::new();
        let (leases, wish) = (clients.subscribe(), state.desired.subscribe());
        let (started, leased) = (Instant::now(), BTreeSet::new());
        let heard = advertised::listen();
        Self { state, netlink: None, clients, leases, heard, wish, started, leased }
    }

    /// The config, or what holds without one. Nothing but `lo` is touched before it is known which.
    fn config(&self, want: &Want) -> NetworkConfig {
        match &want.config {
            Some(config) => config.config.machine.network.clone(),
            None => self.state.observed.snapshot().drive_network.unwrap_or_default(),
        }
    }

    fn undecided(&self) -> bool {
        matches!(&*self.state.desired.borrow(), Wish::Unknown)
    }

    fn publish(&self, have: &Have, believed: &BTreeSet<u32>) {
        let links = have.kernel.links.iter().map(|link| link_state(link, &have.kernel)).collect();
        self.state.observed.set(|seen| &mut seen.links, links);
        let (v4, v6) = (have.leases.v4.values(), have.leases.v6.values());
        let mut dns: Vec<IpAddr> =
            v4.clone().flat_map(|lease| &lease.dns).map(|a| IpAddr::from(*a)).collect();
        dns.extend(v6.clone().flat_map(|lease| &lease.dns).map(|a| IpAddr::from(*a)));
        let mut search: Vec<String> = v4.clone().filter_map(|lease| lease.search.clone()).collect();
        search.extend(v6.clone().flat_map(|lease| lease.search.clone()));
        for entry in self.heard.borrow().of(|link| believed.contains(&link)) {
            match entry {
                Entry::Server(server) => dns.push((*server).into()),
                Entry::Domain(domain) => search.push(domain.clone()),
            }
        }
        self.state.observed.set(|seen| &mut seen.learned_dns, dns);
        self.state.observed.set(|seen| &mut seen.learned_search, search);
        let ntp = v4.clone().flat_map(|lease| &lease.ntp).map(|a| IpAddr::from(*a));
        let ntp = ntp.chain(v6.flat_map(|lease| &lease.ntp).map(|a| IpAddr::from(*a))).collect();
        self.state.observed.set(|seen| &mut seen.learned_ntp, ntp);
        let hostname = v4.clone().find_map(|lease| lease.hostname.clone());
        self.state.observed.set(|seen| &mut seen.dhcp_hostname, hostname);
    }
}

impl Controller for Network {
    type Have = Have;
    type Step = Step;

    const NAME: &'static str = "network";
    const WITHOUT_CONFIG: bool = true;

    async fn observe(&mut self, want: &Want) -> anyhow::Result<Have> {
        self.wish.borrow_and_update();
        self.leases.borrow_and_update();
        self.heard.borrow_and_update();
        let netlink = match self.netlink.take() {
            Some(netlink) => netlink,
            None => Netlink::connect().context("connect to netlink")?,
        };
        let kernel = netlink.look().await;
        self.netlink = Some(netlink);
        let mut kernel = kernel.context("read links, addresses and routes")?;
        if self.undecided() {
            kernel.links.retain(|link| !link.physical);
        }
        let clients_fit = self.clients.are(&plan::clients(&self.config(want), &kernel));
        let names = kernel.links.iter().map(|link| &link.name);
        let advertised = names.filter(|name| accepts_advertisements(name)).cloned().collect();
        let leases = self.clients.leases();
        self.leased.extend(leases.v4.keys().map(|name| (name.clone(), Version::V4)));
        self.leased.extend(leases.v6.keys().map(|name| (name.clone(), Version::V6)));
        let mut inherited = BTreeSet::new();
        if self.started.elapsed() < INHERITED {
            let names = kernel.links.iter().map(|link| link.name.clone());
            inherited.extend(names.clone().map(|name| (name, Version::V4)));
            inherited.extend(names.map(|name| (name, Version::V6)));
            inherited.retain(|link| !self.leased.contains(link));
        }
        let have = Have { kernel, leases, clients_fit, advertised, inherited };
        self.publish(&have, &plan::believed(&self.config(want), &have.kernel));
        Ok(have)
    }

    fn plan(&self, want: &Want, have: &Have) -> Vec<Step> {
        plan::plan(&self.config(want), have)
    }

    async fn apply(&mut self, _: &Want, step: Step) -> anyhow::Result<()> {
        let netlink = self.netlink.as_ref().context("not connected to netlink")?;
        let what = format!("{step:?}");
        match step {
            Step::SetUp(index, up) => netlink.set_up(index, up).await,
            Step::SetMtu(index, mtu) => netlink.set_mtu(index, mtu).await,
            Step::RemoveAddress(address) => netlink.remove_address(address).await,
            Step::AddAddress(address) => netlink.add_address(address).await,
            Step::RemoveRoute(route) => netlink.remove_route(route).await,
            Step::AddRoute(route) => netlink.add_route(route).await,
            Step::AcceptAdvertisements(name, accept) => {
                return set_advertisements(&name, accept).context(what);
            }
            Step::Clients(wanted) => {
                self.clients.set(&wanted);
                return Ok(());
            }
        }
        .context(what)
    }

    fn outcome(&self, want: &Want, have: &Have) -> Outcome {
        let config = self.config(want);
        match plan::waiting(&config, have) {
            Some(message) => Outcome::Waiting(message, Some(ADDRESS_DEADLINE)),
            None => Outcome::Ok(words(&have.kernel)),
        }
    }

    async fn woken(&mut self) {
        let kernel = async {
            match &self.netlink {
                Some(netlink) => netlink.changed().await,
                None => std::future::pending().await,
            }
        };
        // All arms are cancel safe. An error means that the program ends.
        tokio::select! {
            () = kernel => {}
            _ = self.leases.changed() => {}
            _ = self.heard.changed() => {}
            _ = self.wish.changed() => {}
        }
    }

    fn resync(&self) -> Option<Duration> {
        Some(INTERVAL)
    }
}

/// `accept_ra` of a link: 2 is "also while forwarding", which the pod bridge switches on.
fn advertisements_file(link: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{link}/accept_ra")
}

fn accepts_advertisements(link: &str) -> bool {
    fs::read_to_string(advertisements_file(link)).is_ok_and(|value| value.trim() == "2")
}

fn set_advertisements(link: &str, accept: bool) -> std::io::Result<()> {
    match fs::write(advertisements_file(link), if accept { "2" } else { "0" }) {
        // A kernel without IPv6 has nothing to switch off, and nobody can switch it on.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn link_state(link: &netlink::Link, kernel: &Kernel) -> LinkState {
    let addresses = kernel.addresses.iter().filter(|address| address.index == link.index);
    let mac: Vec<String> = link.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    LinkState {
        name: link.name.clone(),
        mac: mac.join(":"),
        up: link.up && link.carrier,
        mtu: link.mtu,
        physical: link.physical,
        addresses: addresses.map(|address| (address.address, address.prefix)).collect(),
    }
}

fn words(kernel: &Kernel) -> String {
    let physical: BTreeSet<u32> =
        kernel.links.iter().filter(|link| link.physical).map(|link| link.index).collect();
    let addresses = kernel.addresses.iter().filter(|address| physical.contains(&address.index));
    let words: Vec<String> =
        addresses.map(|address| format!("{}/{}", address.address, address.prefix)).collect();
    if words.is_empty() { "no links".into() } else { words.join(", ") }
}
