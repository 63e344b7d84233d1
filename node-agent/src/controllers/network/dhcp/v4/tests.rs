//! The life of a lease, and servers that lie.

use super::*;
use proptest::prelude::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sent(actions: &[Action]) -> (&Message, IpAddr) {
    let Some(Action::Send(message, to)) = actions.last() else {
        panic!("nothing sent: {actions:?}")
    };
    (message, *to)
}

fn answer(to: &Message, kind: MessageType, lease: u32) -> Message {
    let mut message = Message::default();
    message.set_xid(to.xid()).set_chaddr(to.chaddr()).set_yiaddr(ADDRESS);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(SERVER));
    options.insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
    options.insert(DhcpOption::AddressLeaseTime(lease));
    options.insert(DhcpOption::Router(vec![SERVER]));
    options.insert(DhcpOption::DomainNameServer(vec![Ipv4Addr::new(10, 0, 2, 3)]));
    message
}

/// A machine that got a lease of 1000 s at second 0.
fn bound() -> Machine {
    let mut machine = Machine::new(MAC, None, seconds(0));
    let actions = machine.timer(seconds(0), 7);
    let offer = answer(sent(&actions).0, MessageType::Offer, 1000);
    let actions = machine.received(&offer, seconds(0), 8);
    let ack = answer(sent(&actions).0, MessageType::Ack, 1000);
    let actions = machine.received(&ack, seconds(0), 9);
    assert!(matches!(&actions[..], [Action::Use(lease)] if lease.address == ADDRESS));
    machine
}

#[test]
fn a_lease_is_discovered_requested_and_used() {
    let machine = bound();
    let lease = machine.course.lease.as_ref().unwrap();
    assert_eq!((lease.prefix, lease.routers.as_slice()), (24, [SERVER].as_slice()));
    assert_eq!((lease.renew_at, lease.ends_at), (seconds(500), seconds(1000)));
    assert!(!machine.course.is_listening(), "no socket is open while nothing is expected");
    assert_eq!(machine.course.wake, seconds(500));
}

#[test]
fn a_lease_is_renewed_with_its_server_then_with_anybody_then_dropped() {
    let mut machine = bound();
    let actions = machine.timer(seconds(500), 1);
    let (message, to) = sent(&actions);
    assert_eq!((message.ciaddr(), to), (ADDRESS, SERVER.into()));
    let actions = machine.timer(seconds(875), 1);
    assert_eq!(sent(&actions).1, IpAddr::from(Ipv4Addr::BROADCAST));
    let actions = machine.timer(seconds(1000), 1);
    assert_eq!(actions[0], Action::Drop);
    assert!(sent(&actions).0.opts().has_msg_type(MessageType::Discover));
}

#[test]
fn a_renewed_lease_counts_from_then() {
    let mut machine = bound();
    let actions = machine.timer(seconds(500), 1);
    let ack = answer(sent(&actions).0, MessageType::Ack, 1000);
    machine.received(&ack, seconds(501), 1);
    assert_eq!(machine.course.lease.as_ref().unwrap().ends_at, seconds(1501));
}

#[test]
fn a_refused_renewal_drops_the_lease_and_asks_again_later() {
    let mut machine = bound();
    let actions = machine.timer(seconds(500), 1);
    let nak = answer(sent(&actions).0, MessageType::Nak, 0);
    assert_eq!(machine.received(&nak, seconds(501), 1), [Action::Drop]);
    assert_eq!(machine.course.wake, seconds(502));
}

#[test]
fn a_new_agent_goes_on_with_the_lease_of_the_old_one() {
    let lease = bound().course.lease;
    let machine = Machine::new(MAC, lease.clone(), seconds(100));
    assert!(!machine.course.is_listening());
    assert_eq!(machine.course.lease, lease);
    assert!(Machine::new(MAC, lease, seconds(1000)).course.lease.is_none());
}

#[test]
fn answers_to_others_are_ignored() {
    let mut machine = Machine::new(MAC, None, seconds(0));
    let actions = machine.timer(seconds(0), 7);
    let mut offer = answer(sent(&actions).0, MessageType::Offer, 1000);
    offer.set_xid(99);
    assert!(machine.received(&offer, seconds(0), 1).is_empty());
    let mut offer = answer(sent(&actions).0, MessageType::Offer, 1000);
    offer.set_chaddr(&[1; 6]);
    assert!(machine.received(&offer, seconds(0), 1).is_empty());
}

#[test]
fn a_server_that_never_acknowledges_is_given_up() {
    let mut machine = Machine::new(MAC, None, seconds(0));
    let actions = machine.timer(seconds(0), 7);
    let offer = answer(sent(&actions).0, MessageType::Offer, 1000);
    machine.received(&offer, seconds(0), 1);
    let mut now = seconds(0);
    for _ in 0..REQUESTS_MAX {
        now = machine.course.wake;
        machine.timer(now, 1);
    }
    assert_eq!(machine.course.stage, Stage::Asking, "after {now:?}");
}

#[test]
fn nonsense_in_a_lease_is_not_believed() {
    assert_eq!(prefix_of(Ipv4Addr::new(255, 0, 255, 0)), None);
    assert_eq!(name_of("evil\nnameserver 1.2.3.4"), None);
    assert_eq!(name_of("example.org.").as_deref(), Some("example.org"));
    let mut short = answer(&Message::default(), MessageType::Ack, 1);
    short.opts_mut().insert(DhcpOption::Renewal(0));
    let lease = lease(&short, SERVER, seconds(0)).unwrap();
    assert_eq!(lease.ends_at, LEASE_MIN);
    assert_eq!(lease.renew_at, LEASE_MIN / 2);
}

proptest! {
    /// Whatever happens, the machine asks at a bounded rate and never uses a lease past its end.
    #[test]
    fn any_sequence_keeps_the_promises(events in proptest::collection::vec((0_u8..5, any::<u32>()), 1..200)) {
        let mut machine = Machine::new(MAC, None, seconds(0));
        let mut now = seconds(0);
        let mut last: Option<Message> = None;
        for (event, random) in events {
            let actions = match event {
                0 => { now = now.max(machine.course.wake); machine.timer(now, random) }
                1 => { machine.course.carrier_returned(now); Vec::new() }
                kind => {
                    let kind = [MessageType::Offer, MessageType::Ack, MessageType::Nak][usize::from(kind) - 2];
                    match &last {
                        Some(last) => machine.received(&answer(last, kind, random % 5000), now, random),
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
            if event == 0 {
                prop_assert!(machine.course.lease.as_ref().is_none_or(|lease| lease.ends_at > now));
            }
        }
    }
}
