//! Tests of what plugins are told about a sandbox.

use crate::config::{Dns, Protocol};

use super::*;

#[test]
fn plugins_are_told_whose_sandbox_it_is() {
    let config = SandboxConfig {
        name: "web".into(),
        namespace: "shop;X=1".into(),
        uid: "u-1".into(),
        ..SandboxConfig::default()
    };
    let about = About::sandbox("k1", &config, &[]);
    let expected = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shopX1;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=k1;K8S_POD_UID=u-1";
    assert_eq!(about.arguments, expected);
    assert!(about.capabilities.is_empty());
}

#[test]
fn capabilities_say_ports_limits_ranges_and_resolvers() {
    let mapping = |protocol, host_port| PortMapping {
        protocol,
        container_port: 80,
        host_port,
        host_ip: "127.0.0.1".into(),
    };
    let annotations =
        [("kubernetes.io/ingress-bandwidth", "10M"), ("kubernetes.io/egress-bandwidth", "x")];
    let annotations = annotations.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = SandboxConfig {
        ports: vec![mapping(Protocol::Udp, 8080), mapping(Protocol::Tcp, 0)],
        annotations: annotations.into(),
        dns: Some(Dns { servers: vec!["10.0.0.10".into()], ..Dns::default() }),
        ..SandboxConfig::default()
    };
    let ranges = [Subnet { address: "10.9.0.0".parse().unwrap(), prefix: 24 }];
    let told = About::sandbox("k1", &config, &ranges).capabilities;
    let ports = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "udp", "hostIP": "127.0.0.1" }]);
    assert_eq!(told["portMappings"], ports);
    assert_eq!(told["bandwidth"], json!({ "ingressRate": 10_000_000, "ingressBurst": BURST }));
    assert_eq!(told["ipRanges"], json!([[{ "subnet": "10.9.0.0/24" }]]));
    assert_eq!(told["dns"], json!({ "servers": ["10.0.0.10"], "searches": [], "options": [] }));
    assert_eq!(told["io.kubernetes.cri.pod-annotations"]["kubernetes.io/egress-bandwidth"], "x");
}
