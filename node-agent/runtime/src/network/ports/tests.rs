//! Tests of who gets which port. They bind real ports of this machine, free ones that the kernel picks.

use std::net::{TcpListener, UdpSocket};

use super::*;

fn mapping(protocol: Protocol, host_port: u16, host_ip: &str) -> PortMapping {
    PortMapping { protocol, container_port: 80, host_port, host_ip: host_ip.to_owned() }
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn on_v4(host_port: u16, host_ip: &str) -> Vec<Port> {
    resolve(&addresses(&["10.1.0.2"]), &[mapping(Protocol::Tcp, host_port, host_ip)]).unwrap()
}

/// A port that nobody has at the moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_mapping_without_a_port_of_the_node_leads_nowhere() {
    let mappings = [mapping(Protocol::Tcp, 0, "")];
    assert_eq!(resolve(&addresses(&["10.1.0.2"]), &mappings).unwrap(), []);
}

#[test]
fn a_mapping_without_address_is_for_both_ip_versions_of_the_pod() {
    let both = addresses(&["10.1.0.2", "fd00::2"]);
    let ports = resolve(&both, &[mapping(Protocol::Udp, 53, "")]).unwrap();
    assert_eq!(ports.len(), 2);
    assert!(ports.iter().all(|port| port.place == Place::Any && port.host_port == 53));
    assert_eq!(ports.iter().map(|port| port.to).collect::<Vec<_>>(), both);
}

#[test]
fn a_mapping_with_an_address_is_for_its_ip_version_only() {
    let both = addresses(&["10.1.0.2", "fd00::2"]);
    let at = |text: &str| resolve(&both, &[mapping(Protocol::Tcp, 80, text)]).unwrap();
    let places = |ports: Vec<Port>| ports.iter().map(|p| (p.place, p.to)).collect::<Vec<_>>();
    let one: IpAddr = "127.0.0.1".parse().unwrap();
    assert_eq!(places(at("127.0.0.1")), [(Place::At(one), both[0])]);
    assert_eq!(places(at("0.0.0.0")), [(Place::Any, both[0])]);
    assert_eq!(places(at("::")), [(Place::Any, both[1])]);
}

#[test]
fn nonsense_in_a_mapping_is_named() {
    let to = addresses(&["10.1.0.2"]);
    let error = resolve(&to, &[mapping(Protocol::Tcp, 80, "eth0")]).unwrap_err();
    assert!(error.to_string().contains("eth0"), "{error}");
    let zero = PortMapping { container_port: 0, ..mapping(Protocol::Tcp, 80, "") };
    assert!(matches!(resolve(&to, &[zero]), Err(PortError::Zero { port: 80, .. })));
}

#[test]
fn a_port_that_leads_to_a_pod_is_refused_to_another_by_name() {
    let (port, mut ports) = (free_port(), Ports::default());
    ports.claim("a", "default/web", &on_v4(port, "127.0.0.1"), true).unwrap();
    let error = ports.claim("b", "default/other", &on_v4(port, ""), true).unwrap_err();
    assert!(error.to_string().contains("default/web"), "{error}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    // The first one still has it, and the second may have it once it is given back.
    assert_eq!(ports.all().len(), 1);
    assert_eq!(ports.release("a").len(), 1);
    ports.claim("b", "default/other", &on_v4(port, ""), true).unwrap();
}

#[test]
fn the_same_port_of_two_addresses_and_of_two_transports_goes_to_two_pods() {
    let (port, mut ports) = (free_port(), Ports::default());
    ports.claim("a", "default/a", &on_v4(port, "127.0.0.1"), true).unwrap();
    ports.claim("b", "default/b", &on_v4(port, "127.0.0.2"), true).unwrap();
    let udp = resolve(&addresses(&["10.1.0.4"]), &[mapping(Protocol::Udp, port, "")]).unwrap();
    ports.claim("c", "default/c", &udp, true).unwrap();
    assert_eq!(ports.all().len(), 3);
}

#[test]
fn a_pod_that_claims_again_keeps_what_it_has() {
    let (port, mut ports) = (free_port(), Ports::default());
    ports.claim("a", "default/a", &on_v4(port, ""), true).unwrap();
    ports.claim("a", "default/a", &on_v4(port, ""), true).unwrap();
    assert_eq!(ports.all().len(), 1);
}

#[test]
fn a_port_that_a_program_of_the_node_listens_on_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut ports = Ports::default();
    let error = ports.claim("a", "default/a", &on_v4(port, ""), true).unwrap_err();
    assert!(matches!(error, PortError::Hold { port: refused, .. } if refused == port), "{error}");
    assert!(ports.all().is_empty());
}

#[test]
fn a_port_that_leads_to_a_pod_is_refused_to_programs_of_the_node() {
    let (port, mut ports) = (free_port(), Ports::default());
    ports.claim("a", "default/a", &on_v4(port, "127.0.0.1"), true).unwrap();
    assert!(TcpListener::bind(("127.0.0.1", port)).is_err());
    let udp = resolve(&addresses(&["10.1.0.4"]), &[mapping(Protocol::Udp, port, "127.0.0.1")]);
    ports.claim("b", "default/b", &udp.unwrap(), true).unwrap();
    assert!(UdpSocket::bind(("127.0.0.1", port)).is_err());
    ports.release("a");
    assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
}

#[test]
fn a_port_from_before_a_restart_stays_with_its_pod_whoever_was_quicker() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut ports = Ports::default();
    ports.adopt("a", "default/a", on_v4(port, "127.0.0.1"), true);
    assert_eq!(ports.all(), on_v4(port, "127.0.0.1"));
}

#[test]
fn a_port_that_a_plugin_leads_is_kept_from_others_and_is_no_rule_of_ours() {
    let (port, mut ports) = (free_port(), Ports::default());
    ports.claim("a", "default/a", &on_v4(port, ""), false).unwrap();
    assert!(ports.claim("b", "default/b", &on_v4(port, ""), true).is_err());
    assert_eq!((ports.all().len(), ports.release("a").len()), (0, 0));
    ports.claim("b", "default/b", &on_v4(port, ""), true).unwrap();
}
