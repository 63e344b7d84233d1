//! The DHCPv6 client as a pure machine: messages and time in, messages and leases out (RFC 8415). It asks for one address; routes and
//! the length of the network's prefix come from router advertisements. No clock, no socket.
//!
//! Left out: relays, authentication, reconfiguration, prefixes for others, and declining an address that the kernel finds taken.

use super::course::{Course, Stage, Term, Times};
use super::{Leases, Protocol, name_of};
use dhcproto::v6::{
    CLIENT_PORT, DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, NtpSuboption, ORO,
    OptionCode, SERVER_PORT, Status,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// All_DHCP_Relay_Agents_and_Servers: everybody who can answer, on the link.
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// First and longest pause before a message is sent again, while there is no lease.
const ASK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));
/// The same while there is one (REN_TIMEOUT, REN_MAX_RT).
const RENEW: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// Pause after a refusal: who refuses everything must not be asked in a loop.
const REFUSED: Duration = Duration::from_secs(2);
/// Requests for an offered address before asking everybody again (REQ_MAX_RC).
const REQUESTS_MAX: u32 = 10;
/// Shortest lease believed; a server that says less would be asked all the time.
const LEASE_MIN: Duration = Duration::from_secs(60);
/// Longest lease believed; also what "infinite" becomes.
const LEASE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Entries of one kind taken from a server at most.
const LIST_MAX: usize = 8;
/// A server that says this wants to be asked at once.
const PREFERENCE_MAX: u8 = 255;

/// What a server gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) address: Ipv6Addr,
    /// Who gave it: its DUID, which has no meaning to anybody else.
    pub(crate) server: Vec<u8>,
    pub(crate) dns: Vec<Ipv6Addr>,
    pub(crate) ntp: Vec<Ipv6Addr>,
    pub(crate) search: Vec<String>,
    /// Since boot: when to renew, when to ask anybody, when it ends.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    address: Ipv6Addr,
    server: Vec<u8>,
    preference: u8,
}

/// What the caller is to do.
type Action = super::Action<Message, Lease>;

/// The client of one link.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    mac: [u8; 6],
    course: Course<Offer, Lease>,
}

impl Protocol for Machine {
    type Message = Message;
    type Lease = Lease;
    type Offer = Offer;
    const NAME: &'static str = "dhcp6";
    const FOLDER: &'static str = "/run/ingot/dhcp6";
    const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), CLIENT_PORT);
    const SERVER_PORT: u16 = SERVER_PORT;

    fn leases(all: &mut Leases) -> &mut BTreeMap<String, Lease> {
        &mut all.v6
    }

    fn address(lease: &Lease) -> IpAddr {
        lease.address.into()
    }

    fn new(mac: [u8; 6], old: Option<Lease>, now: Duration) -> Self {
        Self { mac, course: Course::new(old, now) }
    }

    /// DHCPv6 tells names by another option (RFC 4704), which is for servers that keep a DNS zone.
    fn set_hostname(&mut self, _: Option<String>) {}

    fn course(&self) -> &Course<Offer, Lease> {
        &self.course
    }

    fn course_mut(&mut self) -> &mut Course<Offer, Lease> {
        &mut self.course
    }

    fn timer(&mut self, now: Duration, random: u32) -> Vec<Action> {
        let ended = self.course.pass(now, REQUESTS_MAX);
        let mut actions: Vec<Action> = ended.then_some(Action::Drop).into_iter().collect();
        // The best that was heard until the first pause was over.
        if let (Stage::Asking, Some(offer)) = (&self.course.stage, self.course.heard.take()) {
            self.course.enter(Stage::Requesting(offer), now);
        }
        if !self.course.is_listening() {
            return actions;
        }
        if self.course.tries == 0 {
            self.course.transaction = random & 0x00ff_ffff;
        }
        actions.push(Action::Send(Box::new(self.message(now)), SERVERS.into()));
        let asks = matches!(self.course.stage, Stage::Asking | Stage::Requesting(_));
        self.course.sent(now, if asks { ASK } else { RENEW }, random);
        actions
    }

    fn received(&mut self, message: &Message, now: Duration, random: u32) -> Vec<Action> {
        let options = message.opts();
        let Some(DhcpOption::ServerId(server)) = options.get(OptionCode::ServerId) else {
            return Vec::new();
        };
        let to_us = options.get(OptionCode::ClientId) == Some(&DhcpOption::ClientId(self.duid()));
        if !to_us || message.xid_num() != self.course.transaction || !self.course.is_listening() {
            return Vec::new();
        }
        match (message.msg_type(), &self.course.stage) {
            (MessageType::Advertise, Stage::Asking) => self.offered(options, server, now, random),
            (MessageType::Reply, stage) if *stage != Stage::Asking => {
                self.answered(options, server, now)
            }
            _ => Vec::new(),
        }
    }
}

impl Machine {
    /// DUID-LL: stays the same as long as the card does.
    fn duid(&self) -> Vec<u8> {
        [&[0, 3, 0, 1], &self.mac[..]].concat()
    }

    /// Our one address, among those of other links with the same DUID.
    fn association(&self) -> u32 {
        let [_, _, rest @ ..] = self.mac;
        u32::from_be_bytes(rest)
    }

    fn message(&self, now: Duration) -> Message {
        let (kind, server, address) = match (&self.course.stage, &self.course.lease) {
            (Stage::Requesting(offer), _) => {
                (MessageType::Request, Some(&offer.server), Some(offer.address))
            }
            (Stage::Renewing, Some(lease)) => {
                (MessageType::Renew, Some(&lease.server), Some(lease.address))
            }
            (Stage::Rebinding, Some(lease)) => (MessageType::Rebind, None, Some(lease.address)),
            _ => (MessageType::Solicit, None, None),
        };
        let mut message = Message::new_with_id(kind, [0; 3]);
        message.set_xid_num(self.course.transaction);
        let options = message.opts_mut();
        options.insert(DhcpOption::ClientId(self.duid()));
        if let Some(server) = server {
            options.insert(DhcpOption::ServerId(server.clone()));
        }
        // In hundredths of a second.
        let elapsed = now.saturating_sub(self.course.begun).as_millis() / 10;
        options.insert(DhcpOption::ElapsedTime(u16::try_from(elapsed).unwrap_or(u16::MAX)));
        options.insert(DhcpOption::ORO(ORO {
            opts: vec![
                OptionCode::DomainNameServers,
                OptionCode::DomainSearchList,
                OptionCode::NtpServer,
            ],
        }));
        let mut wanted = DhcpOptions::new();
        if let Some(addr) = address {
            let opts = DhcpOptions::new();
            let any = IAAddr { addr, preferred_life: 0, valid_life: 0, opts };
            wanted.insert(DhcpOption::IAAddr(any));
        }
        let id = self.association();
        options.insert(DhcpOption::IANA(IANA { id, t1: 0, t2: 0, opts: wanted }));
        message
    }

    /// The best offer within the first pause is taken, later the first, and at once one that wants to be.
    fn offered(
        &mut self,
        options: &DhcpOptions,
        server: &[u8],
        now: Duration,
        random: u32,
    ) -> Vec<Action> {
        let Ok(address) = self.given(options) else { return Vec::new() };
        let preference = match options.get(OptionCode::Preference) {
            Some(DhcpOption::Preference(preference)) => *preference,
            _ => 0,
        };
        let offer = Offer { address: address.addr, server: server.to_vec(), preference };
        if preference == PREFERENCE_MAX || self.course.tries > 1 {
            self.course.enter(Stage::Requesting(offer), now);
            return self.timer(now, random);
        }
        if self.course.heard.as_ref().is_none_or(|best| best.preference < preference) {
            self.course.heard = Some(offer);
        }
        Vec::new()
    }

    fn answered(&mut self, options: &DhcpOptions, server: &[u8], now: Duration) -> Vec<Action> {
        match self.given(options) {
            Ok(_) => {
                let Some(lease) = self.lease_of(options, server, now) else { return Vec::new() };
                self.course.bind(lease.clone(), now);
                vec![Action::Use(Box::new(lease))]
            }
            // A server that was started anew may give us the address once more; meanwhile it stays.
            Err(Refusal::Unknown) if self.course.lease.is_some() => {
                let address = self.course.lease.as_ref().map(|lease| lease.address);
                let address = address.unwrap_or(Ipv6Addr::UNSPECIFIED);
                let offer = Offer { address, server: server.to_vec(), preference: 0 };
                self.course.enter(Stage::Requesting(offer), now);
                self.course.wake = now + REFUSED;
                Vec::new()
            }
            Err(Refusal::Unknown | Refusal::Gone) => {
                if self.course.begin_anew(now, REFUSED) {
                    vec![Action::Drop]
                } else {
                    Vec::new()
                }
            }
            Err(Refusal::Nonsense) => Vec::new(),
        }
    }

    /// The address that a message gives us.
    fn given<'a>(&self, options: &'a DhcpOptions) -> Result<&'a IAAddr, Refusal> {
        refused(options)?;
        let associations = options.get_all(OptionCode::IANA).unwrap_or_default();
        let ours = associations.iter().find_map(|option| match option {
            DhcpOption::IANA(ours) if ours.id == self.association() => Some(ours),
            _ => None,
        });
        let ours = ours.ok_or(Refusal::Nonsense)?;
        refused(&ours.opts)?;
        let addresses = ours.opts.get_all(OptionCode::IAAddr).unwrap_or_default();
        let mut addresses = addresses.iter().filter_map(|option| match option {
            DhcpOption::IAAddr(address) => Some(address),
            _ => None,
        });
        // A lifetime of zero takes an address back.
        let usable = |given: &&IAAddr| {
            given.valid_life > 0 && given.preferred_life <= given.valid_life && is_host(given.addr)
        };
        addresses.find(usable).ok_or(Refusal::Gone)
    }

    /// The lease that a reply gives; `None` when it makes no sense.
    fn lease_of(&self, options: &DhcpOptions, server: &[u8], now: Duration) -> Option<Lease> {
        let given = self.given(options).ok()?;
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let length = seconds(given.valid_life).clamp(LEASE_MIN, LEASE_MAX);
        let preferred = seconds(given.preferred_life).clamp(LEASE_MIN, length);
        let (t1, t2) = match options.get(OptionCode::IANA) {
            Some(DhcpOption::IANA(ours)) => (seconds(ours.t1), seconds(ours.t2)),
            _ => return None,
        };
        // Times that contradict each other, or are left to us, are the usual ones.
        let sane = t1 >= LEASE_MIN / 4 && t1 < t2 && t2 < length;
        let (t1, t2) = if sane { (t1, t2) } else { (preferred / 2, preferred * 4 / 5) };
        Some(Lease {
            address: given.addr,
            server: server.to_vec(),
            dns: match options.get(OptionCode::DomainNameServers) {
                Some(DhcpOption::DomainNameServers(list)) => hosts(list.iter().copied()),
                _ => Vec::new(),
            },
            ntp: match options.get(OptionCode::NtpServer) {
                Some(DhcpOption::NtpServer(list)) => hosts(list.iter().filter_map(|it| match it {
                    NtpSuboption::ServerAddress(address) => Some(*address),
                    _ => None,
                })),
                _ => Vec::new(),
            },
            search: match options.get(OptionCode::DomainSearchList) {
                Some(DhcpOption::DomainSearchList(list)) => {
                    list.iter().filter_map(|it| name_of(&it.to_ascii())).take(LIST_MAX).collect()
                }
                _ => Vec::new(),
            },
            renew_at: now + t1,
            rebind_at: now + t2,
            ends_at: now + length,
        })
    }
}

/// Why a message gives no address.
enum Refusal {
    /// The server does not know what we ask it to renew.
    Unknown,
    /// There is none, or not any more.
    Gone,
    /// It says nothing of our address.
    Nonsense,
}

fn refused(options: &DhcpOptions) -> Result<(), Refusal> {
    match options.get(OptionCode::StatusCode) {
        Some(DhcpOption::StatusCode(code)) => match code.status {
            Status::Success => Ok(()),
            Status::NoBinding => Err(Refusal::Unknown),
            Status::NoAddrsAvail | Status::NotOnLink => Err(Refusal::Gone),
            _ => Err(Refusal::Nonsense),
        },
        _ => Ok(()),
    }
}

fn is_host(address: Ipv6Addr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_loopback()
        && !address.is_unicast_link_local()
        && address.to_ipv4_mapped().is_none()
}

fn hosts(list: impl Iterator<Item = Ipv6Addr>) -> Vec<Ipv6Addr> {
    list.filter(|address| is_host(*address)).take(LIST_MAX).collect()
}

#[cfg(test)]
mod tests;
