//! The DHCPv4 client as a pure machine: messages and time in, messages and leases out (RFC 2131). No clock, no socket.

use super::course::{Course, Stage, Term, Times};
use super::{Leases, Protocol, name_of};
use dhcproto::v4::{CLIENT_PORT, DhcpOption, Flags, Message, MessageType, OptionCode, SERVER_PORT};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// First pause before a message is sent again; doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest pause before a message is sent again.
const RETRY_MAX: Duration = Duration::from_secs(64);
/// Requests for an offered address before asking everybody again.
const REQUESTS_MAX: u32 = 4;
/// Shortest lease believed; a server that says less would be asked all the time.
const LEASE_MIN: Duration = Duration::from_secs(60);
/// Longest lease believed; also what "infinite" becomes.
const LEASE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Addresses of one kind taken from a server at most.
const LIST_MAX: usize = 8;

/// What a server gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) server: Ipv4Addr,
    pub(crate) routers: Vec<Ipv4Addr>,
    /// Destination, prefix length, router (option 121); when given, `routers` does not count.
    pub(crate) routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    pub(crate) dns: Vec<Ipv4Addr>,
    pub(crate) ntp: Vec<Ipv4Addr>,
    pub(crate) search: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) mtu: Option<u16>,
    /// Since boot: when it was given, when to renew, when to ask anybody, when it ends.
    pub(crate) since: Duration,
    pub(crate) renew_at: Duration,
    pub(crate) rebind_at: Duration,
    pub(crate) ends_at: Duration,
}

impl Term for Lease {
    fn times(&self) -> Times {
        let Self { renew_at, rebind_at, ends_at, .. } = *self;
        Times { renew_at, rebind_at, ends_at }
    }
}

/// An address, and who has it to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    address: Ipv4Addr,
    server: Ipv4Addr,
}

/// What the caller is to do.
type Action = super::Action<Message, Lease>;

/// The client of one link.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    mac: [u8; 6],
    hostname: Option<String>,
    course: Course<Offer, Lease>,
}

impl Protocol for Machine {
    type Message = Message;
    type Lease = Lease;
    type Offer = Offer;
    const NAME: &'static str = "dhcp";
    const FOLDER: &'static str = "/run/ingot/dhcp";
    const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), CLIENT_PORT);
    const SERVER_PORT: u16 = SERVER_PORT;

    fn leases(all: &mut Leases) -> &mut BTreeMap<String, Lease> {
        &mut all.v4
    }

    fn address(lease: &Lease) -> IpAddr {
        lease.address.into()
    }

    fn new(mac: [u8; 6], old: Option<Lease>, now: Duration) -> Self {
        Self { mac, hostname: None, course: Course::new(old, now) }
    }

    fn set_hostname(&mut self, hostname: Option<String>) {
        self.hostname = hostname;
    }

    fn course(&self) -> &Course<Offer, Lease> {
        &self.course
    }

    fn course_mut(&mut self) -> &mut Course<Offer, Lease> {
        &mut self.course
    }

    fn timer(&mut self, now: Duration, random: u32) -> Vec<Action> {
        let ended = self.course.pass(now, REQUESTS_MAX);
        let mut actions: Vec<Action> = ended.then_some(Action::Drop).into_iter().collect();
        if !self.course.is_listening() {
            return actions;
        }
        if self.course.tries == 0 && !matches!(self.course.stage, Stage::Requesting(_)) {
            self.course.transaction = random;
        }
        actions.push(self.message(now));
        self.course.sent(now, (RETRY_MIN, RETRY_MAX), random);
        actions
    }

    fn received(&mut self, message: &Message, now: Duration, random: u32) -> Vec<Action> {
        let to_us = message.xid() == self.course.transaction && message.chaddr() == self.mac;
        if !to_us || !self.course.is_listening() {
            return Vec::new();
        }
        let server = match message.opts().get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(server)) => *server,
            _ => return Vec::new(),
        };
        match (message.opts().msg_type(), &self.course.stage) {
            (Some(MessageType::Offer), Stage::Asking) => {
                if !is_host(message.yiaddr()) {
                    return Vec::new();
                }
                let address = message.yiaddr();
                self.course.enter(Stage::Requesting(Offer { address, server }), now);
                self.timer(now, random)
            }
            (Some(MessageType::Ack), stage) if *stage != Stage::Asking => {
                let Some(lease) = lease(message, server, now) else { return Vec::new() };
                self.course.bind(lease.clone(), now);
                vec![Action::Use(Box::new(lease))]
            }
            (Some(MessageType::Nak), stage) if *stage != Stage::Asking => {
                // Not at once: a server that refuses everything must not be asked in a loop.
                if self.course.begin_anew(now, RETRY_MIN) { vec![Action::Drop] } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }
}

impl Machine {
    fn message(&self, now: Duration) -> Action {
        let mut message = Message::default();
        let seconds = now.saturating_sub(self.course.begun).as_secs();
        message
            .set_xid(self.course.transaction)
            .set_secs(u16::try_from(seconds).unwrap_or(u16::MAX))
            .set_chaddr(&self.mac);
        let mut client_id = vec![1];
        client_id.extend(self.mac);
        let options = message.opts_mut();
        options.insert(DhcpOption::ClientIdentifier(client_id));
        options.insert(DhcpOption::MaxMessageSize(1400));
        options.insert(DhcpOption::ParameterRequestList(vec![
            OptionCode::SubnetMask,
            OptionCode::ClasslessStaticRoute,
            OptionCode::Router,
            OptionCode::DomainNameServer,
            OptionCode::DomainName,
            OptionCode::Hostname,
            OptionCode::NtpServers,
            OptionCode::InterfaceMtu,
        ]));
        if let Some(hostname) = &self.hostname {
            options.insert(DhcpOption::Hostname(hostname.clone()));
        }
        let kind = match &self.course.stage {
            Stage::Asking => MessageType::Discover,
            _ => MessageType::Request,
        };
        options.insert(DhcpOption::MessageType(kind));
        if let Stage::Requesting(Offer { address, server }) = &self.course.stage {
            options.insert(DhcpOption::RequestedIpAddress(*address));
            options.insert(DhcpOption::ServerIdentifier(*server));
        }
        let mut to = Ipv4Addr::BROADCAST;
        match (&self.course.stage, &self.course.lease) {
            (Stage::Renewing, Some(lease)) => {
                message.set_ciaddr(lease.address);
                to = lease.server;
            }
            (Stage::Rebinding, Some(lease)) => {
                message.set_ciaddr(lease.address);
            }
            // Without an address we can only hear broadcasts.
            _ => {
                message.set_flags(Flags::default().set_broadcast());
            }
        }
        Action::Send(Box::new(message), to.into())
    }
}

fn is_host(address: Ipv4Addr) -> bool {
    !address.is_unspecified()
        && !address.is_broadcast()
        && !address.is_multicast()
        && !address.is_loopback()
}

/// The lease an ACK gives. `None` when it makes no sense.
fn lease(message: &Message, server: Ipv4Addr, now: Duration) -> Option<Lease> {
    let options = message.opts();
    let address = Some(message.yiaddr()).filter(|address| is_host(*address))?;
    let prefix = match options.get(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => prefix_of(*mask)?,
        _ => 24,
    };
    let seconds = match options.get(OptionCode::AddressLeaseTime) {
        Some(DhcpOption::AddressLeaseTime(seconds)) => Duration::from_secs((*seconds).into()),
        _ => return None,
    };
    let length = seconds.clamp(LEASE_MIN, LEASE_MAX);
    let renew = match options.get(OptionCode::Renewal) {
        Some(DhcpOption::Renewal(at)) => Duration::from_secs((*at).into()),
        _ => length / 2,
    };
    let rebind = match options.get(OptionCode::Rebinding) {
        Some(DhcpOption::Rebinding(at)) => Duration::from_secs((*at).into()),
        _ => length * 7 / 8,
    };
    // Times that contradict each other are replaced by the usual ones.
    let sane = renew >= LEASE_MIN / 4 && renew < rebind && rebind < length;
    let (renew, rebind) = if sane { (renew, rebind) } else { (length / 2, length * 7 / 8) };
    let hosts = |list: &[Ipv4Addr]| -> Vec<Ipv4Addr> {
        list.iter().copied().filter(|address| is_host(*address)).take(LIST_MAX).collect()
    };
    Some(Lease {
        address,
        prefix,
        server,
        routers: match options.get(OptionCode::Router) {
            Some(DhcpOption::Router(list)) => hosts(list),
            _ => Vec::new(),
        },
        routes: match options.get(OptionCode::ClasslessStaticRoute) {
            Some(DhcpOption::ClasslessStaticRoute(list)) => list
                .iter()
                .map(|(net, router)| (net.network(), net.prefix_len(), *router))
                .take(4 * LIST_MAX)
                .collect(),
            _ => Vec::new(),
        },
        dns: match options.get(OptionCode::DomainNameServer) {
            Some(DhcpOption::DomainNameServer(list)) => hosts(list),
            _ => Vec::new(),
        },
        ntp: match options.get(OptionCode::NtpServers) {
            Some(DhcpOption::NtpServers(list)) => hosts(list),
            _ => Vec::new(),
        },
        search: match options.get(OptionCode::DomainName) {
            Some(DhcpOption::DomainName(name)) => name_of(name),
            _ => None,
        },
        hostname: match options.get(OptionCode::Hostname) {
            Some(DhcpOption::Hostname(name)) => name_of(name),
            _ => None,
        },
        mtu: match options.get(OptionCode::InterfaceMtu) {
            Some(DhcpOption::InterfaceMtu(mtu)) if *mtu >= 576 => Some(*mtu),
            _ => None,
        },
        since: now,
        renew_at: now + renew,
        rebind_at: now + rebind,
        ends_at: now + length,
    })
}

fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let ones = bits.leading_ones();
    (bits.count_ones() == ones).then_some(u8::try_from(ones).ok()?)
}

#[cfg(test)]
mod tests;
