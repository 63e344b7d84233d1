//! A router and DHCPv6 server at the other end of a machine's cable, frame by frame: user-mode networking has no DHCPv6, and
//! advertises name servers only when the host has some. It answers one machine, checks nothing that it hears, and forwards nothing.

use std::net::Ipv6Addr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dhcproto::v6::{
    CLIENT_PORT, DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, OptionCode,
    SERVER_PORT,
};
use dhcproto::{Decodable as _, Decoder, Encodable as _, Encoder, Name};

/// The network on the cable; hosts make addresses of their own in it.
pub const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 0);
/// The address that the DHCPv6 server gives.
pub const LEASED: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0x15, 0x15);
/// The name server of the DHCPv6 server.
pub const LEASED_SERVER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 0x54);
/// The search domain of the DHCPv6 server.
pub const LEASED_DOMAIN: &str = "leased.test";
/// The name server that the router advertises.
pub const ADVERTISED_SERVER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 0x53);
/// The search domain that the router advertises.
pub const ADVERTISED_DOMAIN: &str = "wire.test";

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
const UDP: u8 = 17;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// Where the payload of an IPv6 packet begins in its frame.
const PAYLOAD: usize = 14 + 40;
/// Between advertisements nobody asked for.
const INTERVAL: Duration = Duration::from_secs(5);
/// So long it listens before it looks whether it is to end.
const TURN: Duration = Duration::from_millis(200);
/// Every lifetime that it names, in seconds.
const LIFETIME: u32 = 3600;

/// It runs until it is dropped.
#[derive(Debug)]
pub struct Router {
    ended: Arc<AtomicBool>,
    solicitations: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Router {
    /// Starts at `own`, the socket that the machine calls the other; the machine's is `machine`.
    pub fn start(own: &Path, machine: &Path) -> anyhow::Result<Self> {
        let socket = UnixDatagram::bind(own).context("listen at the end of a cable")?;
        socket.set_read_timeout(Some(TURN)).context("bound a wait")?;
        let (ended, solicitations) = (Arc::default(), Arc::default());
        let state = (Arc::clone(&ended), Arc::clone(&solicitations), machine.to_owned());
        let thread = std::thread::spawn(move || {
            let (ended, solicitations, machine) = state;
            run(&socket, &machine, &ended, &solicitations);
        });
        Ok(Self { ended, solicitations, thread: Some(thread) })
    }

    /// How often a DHCPv6 client has asked for an address without having one.
    #[must_use]
    pub fn solicitations(&self) -> usize {
        self.solicitations.load(Ordering::Relaxed)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it shows in the checks that wait for its answers.
            let _ended = thread.join();
        }
    }
}

fn run(socket: &UnixDatagram, machine: &Path, ended: &AtomicBool, solicitations: &AtomicUsize) {
    let mut frame = vec![0; 2048];
    let mut advertised: Option<Instant> = None;
    while !ended.load(Ordering::Relaxed) {
        let received = socket.recv(&mut frame).unwrap_or_default();
        let heard = frame.get(..received).unwrap_or_default();
        let due = advertised.is_none_or(|at| at.elapsed() >= INTERVAL);
        let answer = answer(heard, solicitations);
        if due || is_solicitation(heard) {
            advertised = Some(Instant::now());
            send(socket, machine, &advertisement());
        }
        if let Some(answer) = answer {
            send(socket, machine, &answer);
        }
    }
}

fn send(socket: &UnixDatagram, machine: &Path, frame: &[u8]) {
    // The machine may be off.
    let _unheard = socket.send_to(frame, machine);
}

/// The kind of payload of an IPv6 frame, and the payload.
fn payload(frame: &[u8]) -> Option<(u8, &[u8])> {
    let is_ipv6 = frame.get(12..14)? == [0x86, 0xdd];
    is_ipv6.then_some((*frame.get(20)?, frame.get(PAYLOAD..)?))
}

fn is_solicitation(frame: &[u8]) -> bool {
    payload(frame)
        .is_some_and(|(kind, bytes)| kind == ICMPV6 && bytes.first() == Some(&ROUTER_SOLICITATION))
}

fn advertisement() -> Vec<u8> {
    // Hop limit 64, addresses also by DHCPv6, a router for half an hour; no times of its own.
    let mut bytes = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0xc0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend([1, 1]);
    bytes.extend(MAC);
    bytes.extend([3, 4, 64, 0xc0]);
    bytes.extend([LIFETIME.to_be_bytes(), LIFETIME.to_be_bytes(), [0; 4]].concat());
    bytes.extend(PREFIX.octets());
    bytes.extend([25, 3, 0, 0]);
    bytes.extend(LIFETIME.to_be_bytes());
    bytes.extend(ADVERTISED_SERVER.octets());
    let mut labels = Vec::new();
    for label in ADVERTISED_DOMAIN.split('.') {
        labels.push(u8::try_from(label.len()).expect("a short label"));
        labels.extend(label.bytes());
    }
    labels.resize(labels.len().next_multiple_of(8).max(16), 0);
    bytes.extend([31, u8::try_from(labels.len() / 8 + 1).expect("a short list"), 0, 0]);
    bytes.extend(LIFETIME.to_be_bytes());
    bytes.extend(labels);
    framed(ALL_NODES_MAC, ALL_NODES, ICMPV6, bytes, 2)
}

/// What a DHCPv6 server says to a frame.
fn answer(frame: &[u8], solicitations: &AtomicUsize) -> Option<Vec<u8>> {
    let (kind, udp) = payload(frame)?;
    if kind != UDP || udp.get(2..4)? != SERVER_PORT.to_be_bytes() {
        return None;
    }
    let asked = Message::decode(&mut Decoder::new(udp.get(8..)?)).ok()?;
    let kind = match asked.msg_type() {
        MessageType::Solicit => {
            solicitations.fetch_add(1, Ordering::Relaxed);
            MessageType::Advertise
        }
        _ => MessageType::Reply,
    };
    let mut message = Message::new_with_id(kind, asked.xid());
    let options = message.opts_mut();
    options.insert(asked.opts().get(OptionCode::ClientId)?.clone());
    options.insert(DhcpOption::ServerId(DUID.to_vec()));
    options.insert(DhcpOption::DomainNameServers(vec![LEASED_SERVER]));
    options.insert(DhcpOption::DomainSearchList(vec![Name::from_ascii(LEASED_DOMAIN).ok()?]));
    let DhcpOption::IANA(wanted) = asked.opts().get(OptionCode::IANA)? else { return None };
    let mut opts = DhcpOptions::new();
    opts.insert(DhcpOption::IAAddr(IAAddr {
        addr: LEASED,
        preferred_life: LIFETIME,
        valid_life: LIFETIME,
        opts: DhcpOptions::new(),
    }));
    options.insert(DhcpOption::IANA(IANA { id: wanted.id, t1: 0, t2: 0, opts }));
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).ok()?;
    let length = u16::try_from(bytes.len() + 8).ok()?;
    let mut udp = [SERVER_PORT, CLIENT_PORT, length, 0].map(u16::to_be_bytes).concat();
    udp.extend(bytes);
    let client: [u8; 16] = frame.get(22..38)?.try_into().ok()?;
    Some(framed(frame.get(6..12)?.try_into().ok()?, client.into(), UDP, udp, 6))
}

/// An Ethernet frame with an IPv6 packet, whose payload has its checksum `at` this place.
fn framed(mac: [u8; 6], to: Ipv6Addr, kind: u8, mut payload: Vec<u8>, at: usize) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short packet").to_be_bytes();
    let sum = checksum(to, kind, &payload).to_be_bytes();
    payload.splice(at..at + 2, sum);
    let header = [0x60, 0, 0, 0, length[0], length[1], kind, 255];
    [&mac[..], &MAC, &[0x86, 0xdd], &header, &ADDRESS.octets(), &to.octets(), &payload].concat()
}

/// The Internet checksum with the header that is only thought of (RFC 8200 section 8.1).
fn checksum(to: Ipv6Addr, kind: u8, payload: &[u8]) -> u16 {
    let length = u32::try_from(payload.len()).expect("a short packet").to_be_bytes();
    let mut bytes =
        [&ADDRESS.octets()[..], &to.octets(), &length, &[0, 0, 0, kind], payload].concat();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).expect("it was folded twice")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_with_its_checksum_adds_up_to_nothing() {
        let frame = advertisement();
        assert_eq!(checksum(ALL_NODES, ICMPV6, &frame[PAYLOAD..]), 0);
        assert_eq!(payload(&frame).unwrap().0, ICMPV6);
        assert!(!is_solicitation(&frame));
    }
}
