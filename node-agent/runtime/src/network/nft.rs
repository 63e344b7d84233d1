//! What nf_tables understands on netlink: one batch of changes that the kernel takes as a whole or not at all.
//!
//! It knows the kernel's numbers (`linux/netfilter/nf_tables.h`) and no rule of ours. Attributes and headers are written by
//! the netlink crates that rtnetlink brings; there is no crate for nf_tables that is kept, permissive and free of C.

use std::io;
use std::os::fd::AsFd as _;

use rtnetlink::packet_core::{
    DefaultNla, Emitable as _, NLA_F_NESTED, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST,
    NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// An attribute; expressions of a rule are attributes too.
pub(super) type Attribute = DefaultNla;

/// `NFPROTO_*`: both IP versions in one table, or one of them.
pub(super) const INET: u8 = 1;
pub(super) const IPV4: u8 = 2;
pub(super) const IPV6: u8 = 10;

/// `NFT_REG32_00` and the ones after it, four bytes each.
pub(super) const REGISTER: u32 = 8;
/// `NFT_REG_VERDICT`.
const VERDICT: u32 = 0;

/// `NFNL_SUBSYS_NFTABLES`, `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// Length of a netlink header, before the `nfgenmsg`.
const HEADER: usize = 16;

/// Elements in one message at most: an attribute is at most 64 KiB long, and an element here at most 100 bytes.
const ELEMENTS_MAX: usize = 500;

/// Room for the answers, which the kernel gives before the send returns: one for each refused message.
const RECEIVE_MAX: usize = 32 * 1024;

/// Room for the largest batch. The kernel takes a message as a whole.
const SEND_MAX: usize = 1 << 20;

/// What is looked up in the packet or about it: `NFT_META_*`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    OutName = 7,
    InType = 8,
    Protocol = 15,
    Transport = 16,
}

/// Where a chain hangs: `NF_INET_*`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hook {
    Prerouting = 0,
    Output = 3,
    Postrouting = 4,
}

/// How the kernel answered to a batch that it did not take.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NftError {
    /// No socket.
    #[error("open a netfilter socket")]
    Open(#[source] io::Error),
    /// The batch was not sent.
    #[error("send changes to nf_tables")]
    Send(#[source] io::Error),
    /// No answer.
    #[error("read the answer of nf_tables")]
    Receive(#[source] io::Error),
    /// One of the changes was refused, so none was made.
    #[error("change {what} in nf_tables")]
    Refused {
        /// Which one.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

pub(super) fn number(kind: u16, value: u32) -> Attribute {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

pub(super) fn text(kind: u16, value: &str) -> Attribute {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    DefaultNla::new(kind, bytes)
}

pub(super) fn nested(kind: u16, inside: &[Attribute]) -> Attribute {
    let mut bytes = vec![0; inside.buffer_len()];
    inside.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

/// `NFTA_DATA_VALUE` in an attribute.
fn value(kind: u16, bytes: &[u8]) -> Attribute {
    nested(kind, &[DefaultNla::new(1, bytes.to_vec())])
}

/// An expression with its name.
fn expression(name: &str, inside: &[Attribute]) -> Attribute {
    nested(1, &[text(1, name), nested(2, inside)])
}

/// Loads something about the packet.
pub(super) fn meta(what: Meta, to: u32) -> Attribute {
    expression("meta", &[number(1, to), number(2, what as u32)])
}

/// Loads bytes of the network header.
pub(super) fn network_header(offset: u32, length: u32, to: u32) -> Attribute {
    payload(1, offset, length, to)
}

/// Loads bytes of the transport header.
pub(super) fn transport_header(offset: u32, length: u32, to: u32) -> Attribute {
    payload(2, offset, length, to)
}

fn payload(base: u32, offset: u32, length: u32, to: u32) -> Attribute {
    expression("payload", &[number(1, to), number(2, base), number(3, offset), number(4, length)])
}

/// Loads the status bits of the connection (`IPS_*`), in the machine's byte order.
pub(super) fn connection_status(to: u32) -> Attribute {
    expression("ct", &[number(1, to), number(2, 2)])
}

/// Loads what kind of address (`RTN_*`) the destination is, in the machine's byte order.
pub(super) fn destination_type(to: u32) -> Attribute {
    expression("fib", &[number(1, to), number(2, 3), number(3, 2)])
}

/// Keeps the bits of a register that are in the mask.
pub(super) fn mask(register: u32, mask: &[u8]) -> Attribute {
    let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
    expression(
        "bitwise",
        &[
            number(1, register),
            number(2, register),
            number(3, length),
            value(4, mask),
            value(5, &vec![0; mask.len()]),
        ],
    )
}

/// Goes on with the rule when the register is equal (or not) to the bytes.
pub(super) fn compare(register: u32, equal: bool, bytes: &[u8]) -> Attribute {
    expression("cmp", &[number(1, register), number(2, u32::from(!equal)), value(3, bytes)])
}

/// Looks up what begins in register `from` in a map, and loads what it finds; the rule ends when nothing is found.
pub(super) fn lookup(map: &str, from: u32, to: u32) -> Attribute {
    expression("lookup", &[text(1, map), number(2, from), number(3, to)])
}

/// Gives the connection another destination.
pub(super) fn destination_nat(family: u8, address: u32, port: u32) -> Attribute {
    let inside = [number(1, 1), number(2, family.into()), number(3, address), number(5, port)];
    expression("nat", &inside)
}

/// Gives the connection the source address of the link it leaves by, and a random free port: two connections that begin at
/// once would otherwise try the same one, and one of them would lose its first packet.
pub(super) fn masquerade() -> Attribute {
    const RANDOM_FULLY: u32 = 1 << 4;
    expression("masq", &[number(1, RANDOM_FULLY)])
}

/// Ends the packet.
pub(super) fn drop_packet() -> Attribute {
    expression("immediate", &[number(1, VERDICT), nested(2, &[nested(2, &[number(1, 0)])])])
}

/// Goes through another chain and comes back.
pub(super) fn jump(chain: &str) -> Attribute {
    const JUMP: i32 = -3;
    let verdict = nested(2, &[number(1, JUMP.cast_unsigned()), text(2, chain)]);
    expression("immediate", &[number(1, VERDICT), nested(2, &[verdict])])
}

/// Removes what the kernel remembers of connectionless conversations with a port of the node, so that the next packet of each
/// is led by the rules of now. Best effort: what stays is forgotten when it is silent for a while.
pub(super) fn forget(family: u8, transport: u8, port: u16) -> Result<(), NftError> {
    // `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_DELETE`, and the bits of what is compared: protocol and destination port.
    const DELETE: u16 = (1 << 8) | 2;
    const COMPARED: u32 = (1 << 3) | (1 << 5);
    let protocol = DefaultNla::new(1, vec![transport]);
    let port = DefaultNla::new(3, port.to_be_bytes().to_vec());
    let tuple = nested(1, &[nested(2, &[protocol, port])]);
    let filter = DefaultNla::new(1, COMPARED.to_ne_bytes().to_vec());
    let other_way = DefaultNla::new(2, vec![0; 4]);
    let attributes = [tuple, nested(25, &[filter, other_way])];
    let bytes = message(DELETE, NLM_F_ACK, 1, (family, 0), &attributes);
    exchange(&bytes, |datagram| check(datagram, |_| "remembered connections".to_owned()))
}

/// Sends messages, and gives each datagram of the answer to `check`, which counts what was acknowledged in it.
fn exchange(
    bytes: &[u8],
    check: impl Fn(&[u8]) -> Result<usize, NftError>,
) -> Result<(), NftError> {
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(NftError::Open)?;
    socket.bind_auto().map_err(NftError::Open)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(NftError::Open)?;
    // A refusal only means that a very large batch will not fit, which then says so.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket.as_fd(), SEND_MAX);
    // Answers without what they answer to: they must fit.
    let _ = socket.set_cap_ack(true);
    socket.send(bytes, 0).map_err(NftError::Send)?;
    // All answers are there now, so nothing is waited for.
    socket.set_non_blocking(true).map_err(NftError::Receive)?;
    let mut buffer = Vec::with_capacity(RECEIVE_MAX);
    let mut answers = 0_usize;
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Ok(_) => answers += check(&buffer)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(NftError::Receive(error)),
        }
    }
    if answers == 0 {
        return Err(NftError::Receive(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

/// Counts the acknowledgements in a datagram, up to the first refusal; `about` says what a sequence number stands for.
fn check(mut datagram: &[u8], about: impl Fn(usize) -> String) -> Result<usize, NftError> {
    let mut answers = 0;
    while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
        let code = message.payload().first_chunk::<4>().map_or(0, |b| i32::from_ne_bytes(*b));
        if message.message_type() == NLMSG_ERROR {
            if code != 0 {
                let index = usize::try_from(message.sequence_number()).unwrap_or(usize::MAX);
                let source = io::Error::from_raw_os_error(-code);
                return Err(NftError::Refused { what: about(index), source });
            }
            answers += 1;
        }
        let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(answers)
}

/// A message with its header and `nfgenmsg` (address family, version 0, resource).
fn message(
    kind: u16,
    flags: u16,
    sequence: u32,
    (family, resource): (u8, u16),
    attributes: &[Attribute],
) -> Vec<u8> {
    let length = HEADER + 4 + attributes.buffer_len();
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(length).unwrap_or(u32::MAX);
    header.message_type = kind;
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut bytes = vec![0; length];
    header.emit(&mut bytes);
    let [high, low] = resource.to_be_bytes();
    bytes[HEADER..HEADER + 4].copy_from_slice(&[family, 0, high, low]);
    attributes.emit(&mut bytes[HEADER + 4..]);
    bytes
}

/// A map's key and value, or a key alone where one is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// Changes to one table of family [`INET`], in order.
pub(super) struct Batch {
    table: &'static str,
    bytes: Vec<u8>,
    /// What each message is about, by sequence number.
    about: Vec<String>,
}

impl Batch {
    pub(super) fn new(table: &'static str) -> Self {
        let mut batch = Self { table, bytes: Vec::new(), about: Vec::new() };
        batch.message(BATCH_BEGIN, 0, SUBSYSTEM, "the batch".to_owned(), &[]);
        batch
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        resource: u16,
        about: String,
        attributes: &[Attribute],
    ) {
        let family = if kind == BATCH_BEGIN || kind == BATCH_END { 0 } else { INET };
        let sequence = u32::try_from(self.about.len()).unwrap_or(u32::MAX);
        let message = message(kind, flags, sequence, (family, resource), attributes);
        self.bytes.extend(message);
        self.about.push(about);
    }

    fn change(&mut self, kind: u16, flags: u16, about: String, attributes: &[Attribute]) {
        self.message((SUBSYSTEM << 8) | kind, flags | NLM_F_ACK, 0, about, attributes);
    }

    /// Makes the table; one that is there is fine.
    pub(super) fn add_table(&mut self) {
        let attributes = [text(1, self.table), number(2, 0)];
        self.change(0, NLM_F_CREATE, format!("table {}", self.table), &attributes);
    }

    /// Removes the table with all that is in it.
    pub(super) fn delete_table(&mut self) {
        let attributes = [text(1, self.table)];
        self.change(2, 0, format!("table {}", self.table), &attributes);
    }

    /// Makes a chain that others jump to.
    pub(super) fn chain(&mut self, name: &str) {
        let attributes = [text(1, self.table), text(3, name)];
        self.change(3, NLM_F_CREATE, format!("chain {name}"), &attributes);
    }

    /// Makes a chain (`kind` is `nat` or `filter`) that packets go through.
    pub(super) fn hooked_chain(&mut self, name: &str, kind: &str, hook: Hook, priority: i32) {
        let hook = nested(4, &[number(1, hook as u32), number(2, priority.cast_unsigned())]);
        let attributes = [text(1, self.table), text(3, name), hook, text(7, kind)];
        self.change(3, NLM_F_CREATE, format!("chain {name}"), &attributes);
    }

    /// Makes a map. Types (`TYPE_*` of nft, six bits for each part) are for listings only; lengths are in bytes.
    pub(super) fn map(&mut self, name: &str, key: (u32, u32), value: (u32, u32)) {
        const MAP: u32 = 8;
        let id = u32::try_from(self.about.len()).unwrap_or(u32::MAX);
        let attributes = [
            text(1, self.table),
            text(2, name),
            number(3, MAP),
            number(4, key.0),
            number(5, key.1),
            number(6, value.0),
            number(7, value.1),
            number(10, id),
        ];
        self.change(9, NLM_F_CREATE, format!("map {name}"), &attributes);
    }

    /// Appends a rule to a chain.
    pub(super) fn rule(&mut self, chain: &str, expressions: &[Attribute]) {
        let attributes = [text(1, self.table), text(2, chain), nested(4, expressions)];
        self.change(6, NLM_F_CREATE | NLM_F_APPEND, format!("chain {chain}"), &attributes);
    }

    /// Adds elements to a map.
    pub(super) fn add_elements(&mut self, map: &str, elements: &[Element]) {
        self.elements(12, NLM_F_CREATE, map, elements, |element| {
            vec![value(1, &element.key), value(2, &element.value)]
        });
    }

    /// Removes elements from a map, which must have them.
    pub(super) fn delete_elements(&mut self, map: &str, elements: &[Element]) {
        self.elements(14, 0, map, elements, |element| vec![value(1, &element.key)]);
    }

    fn elements(
        &mut self,
        kind: u16,
        flags: u16,
        map: &str,
        elements: &[Element],
        attributes: impl Fn(&Element) -> Vec<Attribute>,
    ) {
        for some in elements.chunks(ELEMENTS_MAX) {
            let list: Vec<_> = some.iter().map(|e| nested(1, &attributes(e))).collect();
            let message = [text(1, self.table), text(2, map), nested(3, &list)];
            self.change(kind, flags, format!("elements of map {map}"), &message);
        }
    }

    /// Hands the batch to the kernel. Blocks while another program changes tables.
    pub(super) fn commit(mut self) -> Result<(), NftError> {
        self.message(BATCH_END, 0, SUBSYSTEM, "the batch".to_owned(), &[]);
        let about = |index: usize| self.about.get(index).cloned().unwrap_or_default();
        exchange(&self.bytes, |datagram| check(datagram, about))
    }
}
