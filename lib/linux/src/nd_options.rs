//! What router advertisements say that the kernel has no use for itself: name servers and search domains (RFC 8106). It
//! hands the options on to whoever listens (`RTM_NEWNDUSEROPT`, rtnetlink(7)).
//!
//! The bytes come from anybody on the link: everything is checked, and what makes no sense is left out. It does not decide
//! which link may be believed, and does not watch lifetimes.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

/// `RTNLGRP_ND_USEROPT` is group 20; a socket's address takes groups as bits.
const GROUP: u32 = 1 << 19;
/// `RTM_NEWNDUSEROPT`
const MESSAGE: u16 = 68;
/// Bytes of `nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `nduseroptmsg`.
const BODY: usize = 16;
/// `ND_ROUTER_ADVERT`, the only message whose options are believed.
const ROUTER_ADVERTISEMENT: u8 = 134;
/// Option "recursive DNS server".
const SERVERS: u8 = 25;
/// Option "DNS search list".
const DOMAINS: u8 = 31;
/// Bytes of both options before their list: type, length, two reserved, lifetime.
const LIST: usize = 8;
/// Largest datagram read; the kernel sends each option in one of its own.
const MESSAGE_MAX: usize = 8192;

/// What an option says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Name servers. One that is an address of a link only is of no use without that link's name.
    Servers(Vec<Ipv6Addr>),
    /// Domains to try for names without a dot; each is a host name in letters, digits, `-` and `_`.
    Domains(Vec<String>),
}

/// An option with where it came from and how long it may be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// Index of the link on which it came.
    pub link: u32,
    /// Believe it so long; zero takes back what was said.
    pub lifetime: Duration,
    /// What was said.
    pub said: Said,
}

/// A socket that gets those options.
#[derive(Debug)]
pub struct NdOptions(OwnedFd);

impl NdOptions {
    /// Opens the socket; options that come from now on are kept for the reader.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Protocol 0 is NETLINK_ROUTE.
        let kind = SocketType::RAW;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, None)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, GROUP))?;
        Ok(Self(fd))
    }

    /// Takes the next message; `None` when it is one of another kind, makes no sense, or was lost because nobody read in
    /// time: routers repeat themselves.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none; others when the kernel refuses.
    pub fn take(&self) -> io::Result<Option<Advertised>> {
        let mut buffer = [0; MESSAGE_MAX];
        match rustix::net::recv(&self.0, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => Ok(parse(buffer.get(..length).unwrap_or_default())),
            Err(Errno::NOBUFS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsRawFd for NdOptions {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A message of the kernel; `None` for whatever is not an option of the two kinds.
fn parse(message: &[u8]) -> Option<Advertised> {
    let kind = u16::from_ne_bytes(array(message, 4)?);
    let body = message.get(HEADER..)?;
    let family = *body.first()?;
    let length = usize::from(u16::from_ne_bytes(array(body, 2)?));
    let link = u32::try_from(i32::from_ne_bytes(array(body, 4)?)).ok()?;
    let of_a_router = *body.get(8)? == ROUTER_ADVERTISEMENT;
    if kind != MESSAGE || i32::from(family) != libc::AF_INET6 || !of_a_router {
        return None;
    }
    option(link, body.get(BODY..BODY + length)?)
}

fn option(link: u32, option: &[u8]) -> Option<Advertised> {
    // Its own length is in units of eight bytes.
    let option = option.get(..usize::from(*option.get(1)?) * 8)?;
    let lifetime = Duration::from_secs(u32::from_be_bytes(array(option, 4)?).into());
    let list = option.get(LIST..)?;
    let said = match *option.first()? {
        SERVERS => Said::Servers(list.chunks_exact(16).filter_map(server).collect()),
        DOMAINS => Said::Domains(domains(list)),
        _ => return None,
    };
    Some(Advertised { link, lifetime, said })
}

fn server(bytes: &[u8]) -> Option<Ipv6Addr> {
    let address = Ipv6Addr::from(array::<16>(bytes, 0)?);
    let usable = !address.is_unspecified() && !address.is_loopback() && !address.is_multicast();
    usable.then_some(address)
}

/// Names as labels (RFC 1035 section 3.1), without compression, filled up with zeros.
fn domains(mut list: &[u8]) -> Vec<String> {
    let mut domains = Vec::new();
    let mut name = String::new();
    while let Some((length, rest)) = list.split_first() {
        let Some((label, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
        list = rest;
        if label.is_empty() {
            if !name.is_empty() {
                domains.push(std::mem::take(&mut name));
            }
            continue;
        }
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if label.len() > 63 || name.len() + label.len() > 253 || !label.iter().all(good) {
            break;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&String::from_utf8_lossy(label));
    }
    domains
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(option: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + BODY];
        bytes[4..6].copy_from_slice(&MESSAGE.to_ne_bytes());
        bytes[HEADER] = u8::try_from(libc::AF_INET6).unwrap();
        bytes[HEADER + 2..HEADER + 4]
            .copy_from_slice(&u16::try_from(option.len()).unwrap().to_ne_bytes());
        bytes[HEADER + 4..HEADER + 8].copy_from_slice(&3_i32.to_ne_bytes());
        bytes[HEADER + 8] = ROUTER_ADVERTISEMENT;
        bytes.extend(option);
        bytes
    }

    fn list(kind: u8, lifetime: u32, list: &[u8]) -> Vec<u8> {
        let mut option = vec![kind, u8::try_from((LIST + list.len()) / 8).unwrap(), 0, 0];
        option.extend(lifetime.to_be_bytes());
        option.extend(list);
        option
    }

    #[test]
    fn name_servers_are_read_with_their_link_and_lifetime() {
        let server: Ipv6Addr = "2001:db8::53".parse().unwrap();
        let both = [server.octets(), Ipv6Addr::UNSPECIFIED.octets()].concat();
        let said = parse(&message(&list(SERVERS, 600, &both))).unwrap();
        let lifetime = Duration::from_secs(600);
        assert_eq!(said, Advertised { link: 3, lifetime, said: Said::Servers(vec![server]) });
    }

    #[test]
    fn search_domains_are_read_and_what_is_no_name_is_left_out() {
        let mut labels = b"\x04home\x04arpa\0\x03lan\0".to_vec();
        labels.resize(24, 0);
        let said = parse(&message(&list(DOMAINS, 60, &labels))).unwrap();
        assert_eq!(said.said, Said::Domains(vec!["home.arpa".into(), "lan".into()]));
        let mut hostile = b"\x02ok\0\x09a\nsearch b\0".to_vec();
        hostile.resize(16, 0);
        let said = parse(&message(&list(DOMAINS, 60, &hostile))).unwrap();
        assert_eq!(said.said, Said::Domains(vec!["ok".into()]));
    }

    #[test]
    fn what_was_cut_or_is_not_of_a_router_is_nothing() {
        let whole = message(&list(SERVERS, 600, &[1; 16]));
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length} bytes");
        }
        let mut other = whole;
        other[HEADER + 8] = 135;
        assert_eq!(parse(&other), None, "a neighbour is no router");
    }

    #[test]
    fn the_kernel_opens_the_socket_and_has_nothing_to_say() {
        let socket = NdOptions::open().unwrap();
        assert_eq!(socket.take().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
