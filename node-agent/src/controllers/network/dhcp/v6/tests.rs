//! The life of a lease, servers that forget, and servers that lie.

use super::*;
use dhcproto::v6::StatusCode;
use dhcproto::{Decodable as _, Decoder, Encodable as _, Encoder, Name};
use proptest::prelude::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x15);
const DNS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What was sent last, as it goes over the wire.
fn sent(actions: &[Action]) -> Message {
    let Some(Action::Send(message, to)) = actions.last() else {
        panic!("nothing sent: {actions:?}")
    };
    assert_eq!(*to, IpAddr::from(SERVERS));
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).unwrap();
    Message::decode(&mut Decoder::new(&bytes)).unwrap()
}

/// An answer that gives the address for so long, or a status instead.
fn answer(to: &Message, kind: MessageType, given: Result<u32, Status>) -> Message {
    let mut message = Message::new_with_id(kind, to.xid());
    let options = message.opts_mut();
    options.insert(to.opts().get(OptionCode::ClientId).unwrap().clone());
    options.insert(DhcpOption::ServerId(SERVER.to_vec()));
    options.insert(DhcpOption::DomainNameServers(vec![DNS, Ipv6Addr::LOCALHOST]));
    options.insert(DhcpOption::DomainSearchList(vec![Name::from_ascii("home.arpa.").unwrap()]));
    let Some(DhcpOption::IANA(asked)) = to.opts().get(OptionCode::IANA) else { panic!("{to:?}") };
    let mut opts = DhcpOptions::new();
    match given {
        Ok(valid_life) => opts.insert(DhcpOption::IAAddr(IAAddr {
            addr: ADDRESS,
            preferred_life: valid_life,
            valid_life,
            opts: DhcpOptions::new(),
        })),
        Err(status) => {
            let msg = String::new();
            opts.insert(DhcpOption::StatusCode(StatusCode { status, msg }));
        }
    }
    options.insert(DhcpOption::IANA(IANA { opts, ..asked.clone() }));
    message
}

/// A machine that got a lease of 1000 s at second 1.
fn bound() -> Machine {
    let mut machine = Machine::new(MAC, None, seconds(0));
    let solicit = sent(&machine.timer(seconds(0), 7));
    assert_eq!(solicit.msg_type(), MessageType::Solicit);
    let offer = answer(&solicit, MessageType::Advertise, Ok(1000));
    assert_eq!(machine.received(&offer, seconds(0), 8), [], "a better one may come");
    let request = sent(&machine.timer(machine.course.wake, 9));
    assert_eq!(request.msg_type(), MessageType::Request);
    assert_eq!(
        request.opts().get(OptionCode::ServerId),
        Some(&DhcpOption::ServerId(SERVER.to_vec()))
    );
    let actions = machine.received(&answer(&request, MessageType::Reply, Ok(1000)), seconds(1), 10);
    assert!(matches!(&actions[..], [Action::Use(lease)] if lease.address == ADDRESS));
    machine
}

#[test]
fn a_lease_is_solicited_requested_and_used() {
    let machine = bound();
    let lease = machine.course.lease.as_ref().unwrap();
    assert_eq!(lease.dns, [DNS], "the server's own loopback is nobody's name server");
    assert_eq!(lease.search, ["home.arpa"]);
    assert_eq!((lease.renew_at, lease.rebind_at), (seconds(501), seconds(801)));
    assert_eq!((lease.ends_at, machine.course.wake), (seconds(1001), seconds(501)));
    assert!(!machine.course.is_listening(), "no socket is open while nothing is expected");
}

#[test]
fn the_server_that_is_preferred_is_asked_and_at_once_when_it_wants_to_be() {
    let mut machine = Machine::new(MAC, None, seconds(0));
    let solicit = sent(&machine.timer(seconds(0), 7));
    let mut better = answer(&solicit, MessageType::Advertise, Ok(1000));
    better.opts_mut().remove(OptionCode::ServerId);
    better.opts_mut().insert(DhcpOption::ServerId(vec![9]));
    better.opts_mut().insert(DhcpOption::Preference(10));
    machine.received(&answer(&solicit, MessageType::Advertise, Ok(1000)), seconds(0), 8);
    machine.received(&better, seconds(0), 8);
    let request = sent(&machine.timer(machine.course.wake, 9));
    let server = request.opts().get(OptionCode::ServerId);
    assert_eq!(server, Some(&DhcpOption::ServerId(vec![9])));

    let mut machine = Machine::new(MAC, None, seconds(0));
    let solicit = sent(&machine.timer(seconds(0), 7));
    let mut best = answer(&solicit, MessageType::Advertise, Ok(1000));
    best.opts_mut().insert(DhcpOption::Preference(PREFERENCE_MAX));
    let request = sent(&machine.received(&best, seconds(0), 8));
    assert_eq!(request.msg_type(), MessageType::Request);
}

#[test]
fn a_lease_is_renewed_with_its_server_then_with_anybody_then_dropped() {
    let mut machine = bound();
    let renew = sent(&machine.timer(seconds(501), 1));
    assert_eq!(renew.msg_type(), MessageType::Renew);
    assert!(renew.opts().get(OptionCode::ServerId).is_some());
    let rebind = sent(&machine.timer(seconds(801), 2));
    assert_eq!(rebind.msg_type(), MessageType::Rebind);
    assert!(rebind.opts().get(OptionCode::ServerId).is_none());
    let actions = machine.timer(seconds(1001), 3);
    assert_eq!(actions[0], Action::Drop);
    assert_eq!(sent(&actions).msg_type(), MessageType::Solicit);
}

#[test]
fn a_renewed_lease_is_used_longer() {
    let mut machine = bound();
    let renew = sent(&machine.timer(seconds(501), 1));
    let actions = machine.received(&answer(&renew, MessageType::Reply, Ok(1000)), seconds(502), 2);
    assert!(matches!(&actions[..], [Action::Use(lease)] if lease.ends_at == seconds(1502)));
}

#[test]
fn a_server_that_forgot_is_asked_for_the_same_address_while_it_stays() {
    let mut machine = bound();
    let renew = sent(&machine.timer(seconds(501), 1));
    let unknown = answer(&renew, MessageType::Reply, Err(Status::NoBinding));
    assert_eq!(machine.received(&unknown, seconds(501), 2), []);
    assert!(machine.course.lease.is_some() && machine.course.wake > seconds(501));
    let request = sent(&machine.timer(machine.course.wake, 3));
    assert_eq!(request.msg_type(), MessageType::Request);
    let given = answer(&request, MessageType::Reply, Ok(1000));
    assert!(matches!(&machine.received(&given, seconds(504), 4)[..], [Action::Use(_)]));
}

#[test]
fn an_address_that_is_taken_back_is_dropped() {
    for refusal in [Ok(0), Err(Status::NoAddrsAvail), Err(Status::NotOnLink)] {
        let mut machine = bound();
        let renew = sent(&machine.timer(seconds(501), 1));
        let actions =
            machine.received(&answer(&renew, MessageType::Reply, refusal), seconds(501), 2);
        assert_eq!(actions, [Action::Drop]);
        assert_eq!(sent(&machine.timer(machine.course.wake, 3)).msg_type(), MessageType::Solicit);
    }
}

#[test]
fn another_cable_asks_everybody_about_the_address() {
    let mut machine = bound();
    machine.course.carrier_returned(seconds(20));
    let rebind = sent(&machine.timer(machine.course.wake, 1));
    assert_eq!(rebind.msg_type(), MessageType::Rebind);
}

#[test]
fn what_is_not_for_us_is_not_heard() {
    let mut machine = Machine::new(MAC, None, seconds(0));
    let solicit = sent(&machine.timer(seconds(0), 7));
    let good = answer(&solicit, MessageType::Advertise, Ok(1000));
    let mut other = good.clone();
    other.set_xid_num(8);
    let mut nobody = good.clone();
    nobody.opts_mut().remove(OptionCode::ClientId);
    let mut stranger = good.clone();
    stranger.opts_mut().remove(OptionCode::ClientId);
    stranger.opts_mut().insert(DhcpOption::ClientId(vec![1]));
    for message in [other, nobody, stranger, answer(&solicit, MessageType::Reply, Ok(1000))] {
        assert_eq!(machine.received(&message, seconds(0), 8), []);
        assert_eq!(machine.course.heard, None);
    }
}

#[test]
fn a_lease_of_an_earlier_agent_is_gone_on_with() {
    let lease = bound().course.lease.unwrap();
    let machine = Machine::new(MAC, Some(lease.clone()), seconds(30));
    assert_eq!((machine.course.lease.as_ref(), machine.course.wake), (Some(&lease), seconds(501)));
    assert_eq!(Machine::new(MAC, Some(lease), seconds(1001)).course.lease, None);
}

proptest! {
    /// Whatever happens, the machine asks at a bounded rate and never uses a lease past its end.
    #[test]
    fn any_sequence_keeps_the_promises(events in proptest::collection::vec((0_u8..6, any::<u32>()), 1..200)) {
        let mut machine = Machine::new(MAC, None, seconds(0));
        let mut now = seconds(0);
        let mut last: Option<Message> = None;
        for (event, random) in events {
            let given = match random % 4 {
                0 => Err(Status::NoBinding),
                1 => Err(Status::NoAddrsAvail),
                _ => Ok(random % 5000),
            };
            let actions = match event {
                0 | 1 => { now = now.max(machine.course.wake); machine.timer(now, random) }
                2 => { machine.course.carrier_returned(now); Vec::new() }
                kind => {
                    let kind = if kind < 5 { MessageType::Reply } else { MessageType::Advertise };
                    match &last {
                        Some(last) => machine.received(&answer(last, kind, given), now, random),
                        None => Vec::new(),
                    }
                }
            };
            for action in actions {
                if let Action::Send(message, _) = action {
                    last = Some(*message);
                    prop_assert!(machine.course.wake > now);
                }
            }
            if event < 2 {
                prop_assert!(machine.course.lease.as_ref().is_none_or(|lease| lease.ends_at > now));
            }
        }
    }

    /// Bytes of anybody on the link are read without harm.
    #[test]
    fn any_bytes_are_heard_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut machine = Machine::new(MAC, None, seconds(0));
        machine.timer(seconds(0), 7);
        if let Ok(message) = Message::decode(&mut Decoder::new(&bytes)) {
            prop_assert!(machine.received(&message, seconds(0), 1).is_empty());
        }
    }
}
