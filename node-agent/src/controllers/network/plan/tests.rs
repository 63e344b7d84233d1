//! What is changed on a machine with one card, and what is left alone.

use super::*;
use std::time::Duration;

fn card(index: u32, up: bool) -> Link {
    Link {
        index,
        name: format!("eth{index}"),
        mac: vec![2, 0, 0, 0, 0, 1],
        up,
        carrier: up,
        mtu: 1500,
        physical: true,
    }
}

fn lease() -> v4::Lease {
    v4::Lease {
        address: Ipv4Addr::new(10, 0, 2, 15),
        prefix: 24,
        server: Ipv4Addr::new(10, 0, 2, 2),
        routers: vec![Ipv4Addr::new(10, 0, 2, 2)],
        routes: vec![],
        dns: vec![],
        ntp: vec![],
        search: None,
        hostname: None,
        mtu: None,
        since: Duration::ZERO,
        renew_at: Duration::ZERO,
        rebind_at: Duration::ZERO,
        ends_at: Duration::ZERO,
    }
}

fn have(links: Vec<Link>) -> Have {
    let advertised = links.iter().map(|link| link.name.clone()).collect();
    let kernel = Kernel { links, ..Kernel::default() };
    Have { kernel, clients_fit: true, advertised, ..Have::default() }
}

fn with_lease(mut have: Have) -> Have {
    have.leases.v4.insert("eth2".into(), lease());
    have
}

#[test]
fn without_a_config_every_card_is_brought_up_and_asks_dhcp() {
    let mut have = have(vec![card(2, false)]);
    have.clients_fit = false;
    let steps = plan(&Network::default(), &have);
    assert_eq!(steps[0], Step::SetUp(2, true));
    let Step::Clients(clients) = &steps[1] else { panic!("{steps:?}") };
    assert_eq!((clients[0].0.link.as_str(), clients[0].1.carrier), ("eth2", false));
}

#[test]
fn a_lease_becomes_address_and_route_and_then_nothing_is_left_to_do() {
    let mut have = with_lease(have(vec![card(2, true)]));
    let network = Network::default();
    let steps = plan(&network, &have);
    let [Step::AddAddress(address), Step::AddRoute(route)] = &steps[..] else {
        panic!("{steps:?}")
    };
    assert_eq!(address.address, IpAddr::from([10, 0, 2, 15]));
    assert_eq!((route.prefix, route.via), (0, Some([10, 0, 2, 2].into())));
    have.kernel.addresses.push(*address);
    have.kernel.routes.push(*route);
    assert_eq!(plan(&network, &have), []);
    assert_eq!(waiting(&network, &have), None);
}

#[test]
fn a_lost_lease_takes_its_address_and_route_along() {
    let mut before = with_lease(have(vec![card(2, true)]));
    for step in plan(&Network::default(), &before) {
        match step {
            Step::AddAddress(address) => before.kernel.addresses.push(address),
            Step::AddRoute(route) => before.kernel.routes.push(route),
            other => panic!("{other:?}"),
        }
    }
    before.leases = Leases::default();
    let steps = plan(&Network::default(), &before);
    assert!(matches!(steps[..], [Step::RemoveRoute(_), Step::RemoveAddress(_)]), "{steps:?}");
}

#[test]
fn what_a_former_agent_leased_stays_until_a_server_has_answered() {
    let mut have = with_lease(have(vec![card(2, true)]));
    for step in plan(&Network::default(), &have) {
        match step {
            Step::AddAddress(address) => have.kernel.addresses.push(address),
            Step::AddRoute(route) => have.kernel.routes.push(route),
            _ => {}
        }
    }
    for step in plan(&Network::default(), &have) {
        if let Step::AddRoute(route) = step {
            have.kernel.routes.push(route);
        }
    }
    have.leases = Leases::default();
    have.inherited.insert(("eth2".into(), Version::V4));
    assert_eq!(plan(&Network::default(), &have), []);
    have.inherited.clear();
    assert!(plan(&Network::default(), &have).iter().any(|s| matches!(s, Step::RemoveAddress(_))));
}

/// A network whose only card asks a DHCPv6 server and no other.
fn with_dhcp6() -> Network {
    let link = LinkConfig {
        name: Some("eth2".into()),
        dhcp4: Some(false),
        dhcp6: true,
        ..LinkConfig::default()
    };
    Network { links: vec![link], ..Network::default() }
}

#[test]
fn an_address_of_dhcpv6_is_asked_for_set_and_kept_by_the_next_agent() {
    let network = with_dhcp6();
    let mut have = have(vec![card(2, true)]);
    let [(asked, _)] = &clients(&network, &have.kernel)[..] else { panic!("one client") };
    assert_eq!(asked.version, Version::V6);
    assert_eq!(waiting(&network, &have).unwrap(), "an address from DHCPv6 on eth2");

    let address: Ipv6Addr = "2001:db8::15".parse().unwrap();
    have.leases.v6.insert(
        "eth2".into(),
        super::super::dhcp::v6::Lease {
            address,
            server: vec![],
            dns: vec![],
            ntp: vec![],
            search: vec![],
            renew_at: Duration::ZERO,
            rebind_at: Duration::ZERO,
            ends_at: Duration::ZERO,
        },
    );
    let steps = plan(&network, &have);
    let [Step::AddAddress(set)] = steps[..] else { panic!("{steps:?}") };
    assert_eq!((set.address, set.prefix), (address.into(), 128));
    have.kernel.addresses.push(set);
    assert_eq!((plan(&network, &have), waiting(&network, &have)), (vec![], None));

    have.leases = Leases::default();
    have.inherited.insert(("eth2".into(), Version::V6));
    assert_eq!(plan(&network, &have), []);
    have.inherited.clear();
    assert_eq!(plan(&network, &have), [Step::RemoveAddress(set)]);
}

#[test]
fn routers_are_believed_where_the_config_says_so() {
    let kernel = have(vec![card(2, true), card(3, true)]).kernel;
    assert_eq!(believed(&Network::default(), &kernel), BTreeSet::from([2, 3]));
    let mut network = with_dhcp6();
    assert_eq!(believed(&network, &kernel), BTreeSet::from([2]));
    network.links[0].router_advertisements = Some(false);
    assert_eq!(believed(&network, &kernel), BTreeSet::new());
}

#[test]
fn static_addresses_and_routes_are_set_and_foreign_ones_removed() {
    let network = Network {
        links: vec![LinkConfig {
            name: Some("eth2".into()),
            addresses: vec!["192.168.1.20/24".parse().unwrap()],
            up: true,
            ..LinkConfig::default()
        }],
        routes: vec![ingot_machine_config::v1::network::Route {
            to: Destination::Default,
            via: Some([192, 168, 1, 1].into()),
            dev: None,
            metric: None,
        }],
        ..Network::default()
    };
    let mut have = have(vec![card(2, true)]);
    let old = Address { index: 2, address: [10, 9, 9, 9].into(), prefix: 8, permanent: true };
    have.kernel.addresses.push(old);
    let steps = plan(&network, &have);
    assert_eq!(steps[0], Step::RemoveAddress(old));
    assert!(
        matches!(&steps[1], Step::AddAddress(a) if a.address == IpAddr::from([192, 168, 1, 20]))
    );
    assert!(matches!(&steps[2], Step::AddRoute(r) if r.index == 2 && r.origin == Origin::Static));
    assert!(clients(&network, &have.kernel).is_empty());
}

#[test]
fn what_is_not_a_card_is_left_alone() {
    let bridge = Link { physical: false, name: "ingot0".into(), ..card(3, false) };
    let mut have = have(vec![bridge]);
    let pods = Address { index: 3, address: [10, 244, 0, 1].into(), prefix: 24, permanent: true };
    have.kernel.addresses.push(pods);
    have.kernel.routes.push(Route {
        to: [10, 244, 0, 0].into(),
        prefix: 24,
        via: None,
        index: 3,
        metric: 0,
        origin: Origin::Static,
    });
    assert_eq!(plan(&Network::default(), &have), []);
}

#[test]
fn routes_of_the_cluster_are_somebody_elses() {
    let mut have = with_lease(have(vec![card(2, true)]));
    have.kernel.routes.push(Route {
        to: [10, 244, 1, 0].into(),
        prefix: 24,
        via: Some([10, 0, 2, 16].into()),
        index: 2,
        metric: 1024,
        origin: Origin::Cluster,
    });
    let steps = plan(&Network::default(), &have);
    assert!(!steps.iter().any(|step| matches!(step, Step::RemoveRoute(_))), "{steps:?}");
}

#[test]
fn addresses_of_the_kernel_stay() {
    let mut have = with_lease(have(vec![card(2, true)]));
    let link_local =
        Address { index: 2, address: "fe80::1".parse().unwrap(), prefix: 64, permanent: true };
    let advertised =
        Address { index: 2, address: "2001:db8::1".parse().unwrap(), prefix: 64, permanent: false };
    have.kernel.addresses.extend([link_local, advertised]);
    let steps = plan(&Network::default(), &have);
    assert!(!steps.iter().any(|step| matches!(step, Step::RemoveAddress(_))), "{steps:?}");
}

#[test]
fn what_is_waited_for_has_a_name() {
    let network = Network::default();
    let unplugged = Link { carrier: false, ..card(2, true) };
    assert_eq!(waiting(&network, &have(vec![unplugged])).unwrap(), "a cable in eth2");
    let asking = waiting(&network, &have(vec![card(2, true)])).unwrap();
    assert_eq!(asking, "an address from DHCP on eth2");
    let link = LinkConfig {
        name: Some("eth9".into()),
        dhcp4: Some(false),
        up: true,
        ..LinkConfig::default()
    };
    let named = Network { links: vec![link], ..network };
    assert_eq!(waiting(&named, &have(vec![])).unwrap(), "the link eth9 to appear");
}
