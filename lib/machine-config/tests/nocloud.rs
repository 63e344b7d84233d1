//! CIDATA drives as Proxmox VE and cloud-init's tools write them.

use expect_test::{Expect, expect};
use ingot_machine_config::nocloud::{Files, Seed, read};

const MINIMAL: &str = include_str!("../../../configs/machine/minimal.yaml");
const TYPICAL: &str = include_str!("../../../configs/machine/typical.yaml");

/// What Proxmox VE 8 writes for a VM with two cards, one static and one dynamic.
const PROXMOX_NETWORK: &str = "version: 1
config:
    - type: physical
      name: eth0
      mac_address: 'bc:24:11:02:a7:3e'
      subnets:
      - type: static
        address: '192.168.1.20'
        netmask: '255.255.255.0'
        gateway: '192.168.1.1'
      - type: static6
        address: '2001:db8::20/64'
        gateway: '2001:db8::1'
    - type: physical
      name: eth1
      mac_address: 'bc:24:11:aa:bb:cc'
      subnets:
      - type: dhcp4
      - type: ipv6_slaac
    - type: nameserver
      address:
      - '192.168.1.1'
      - '1.1.1.1'
      search:
      - 'example.org'
";
const PROXMOX_USER: &str = "#cloud-config
hostname: vm-101
manage_etc_hosts: true
fqdn: vm-101.example.org
user: root
chpasswd:
  expire: False
users:
  - default
package_upgrade: true
";
const PROXMOX_META: &str = "instance-id: 8f7a4d5f0c9f1d1d\n";

fn seed(network: &str) -> Seed {
    read(Files { network_config: Some(network), user_data: Some(MINIMAL), meta_data: None })
}

fn shown(seed: &Seed) -> String {
    let problems: Vec<_> = seed.problems.iter().map(|problem| format!("{problem}\n")).collect();
    let network = match &seed.config {
        Some(config) => config.redacted().split("api:").next().unwrap_or_default().to_owned(),
        None => format!("no config; {:#?}\n", seed.network.hostname),
    };
    network + &problems.concat()
}

#[track_caller]
fn check(network: &str, expected: Expect) {
    expected.assert_eq(&shown(&seed(network)));
}

#[test]
fn a_proxmox_drive_fills_in_the_network_of_a_config() {
    check(
        PROXMOX_NETWORK,
        expect![[r#"
            apiVersion: ingot/v1
            kind: Machine
            network:
              links:
                - mac: bc:24:11:02:a7:3e
                  dhcp4: false
                  addresses:
                    - 192.168.1.20/24
                    - 2001:db8::20/64
                - mac: bc:24:11:aa:bb:cc
                  dhcp4: true
                  routerAdvertisements: true
              routes:
                - to: default
                  via: 192.168.1.1
                - to: default
                  via: 2001:db8::1
              dns:
                servers:
                  - 192.168.1.1
                  - 1.1.1.1
                search:
                  - example.org
        "#]],
    );
}

#[test]
fn a_proxmox_drive_without_a_config_still_gives_name_and_network() {
    let seed = read(Files {
        meta_data: Some(PROXMOX_META),
        user_data: Some(PROXMOX_USER),
        network_config: Some(PROXMOX_NETWORK),
    });
    assert_eq!(seed.config, None);
    assert_eq!(seed.network.hostname.as_deref(), Some("vm-101.example.org"));
    assert_eq!(seed.instance_id.as_deref(), Some("8f7a4d5f0c9f1d1d"));
    assert_eq!(seed.network.links.len(), 2);
    expect![[r#"
        no config; Some(
            "vm-101.example.org",
        )
        user-data: line 1: this is a #cloud-config, which is for cloud-init (put an Ingot config there; only hostname and network were taken from this drive)
    "#]].assert_eq(&shown(&seed));
}

#[test]
fn what_the_config_says_wins_over_the_drive() {
    let seed = read(Files {
        meta_data: Some("local-hostname: other\n"),
        user_data: Some(TYPICAL),
        network_config: Some(PROXMOX_NETWORK),
    });
    let config = seed.config.expect("sound");
    assert_eq!(config.machine.network.hostname.as_deref(), Some("node-1"));
    assert_eq!(config.machine.network.links.len(), 1);
    assert_eq!(config.machine.network.dns.servers.len(), 1);
}

#[test]
fn a_config_that_needs_nothing_is_kept_as_it_was_written() {
    let seed = read(Files { user_data: Some(TYPICAL), ..Files::default() });
    assert_eq!(seed.text.as_deref(), Some(TYPICAL));
}

#[test]
fn a_config_that_was_filled_in_can_be_stored_and_loaded() {
    let seed = seed(PROXMOX_NETWORK);
    let text = seed.text.expect("there is a config");
    assert_eq!(ingot_machine_config::load(&text).config, seed.config);
}

#[test]
fn version_2_is_netplans() {
    check(
        "network:
  version: 2
  renderer: networkd
  ethernets:
    id0:
      match: {macaddress: 'BC:24:11:02:A7:3E'}
      set-name: eth0
      addresses: [192.168.1.20/24, '2001:db8::20/64']
      gateway4: 192.168.1.1
      nameservers: {addresses: [192.168.1.1], search: [example.org]}
      mtu: 9000
    enp2s0:
      dhcp4: yes
      dhcp6: true
      routes:
        - {to: 10.0.0.0/8, via: 192.168.9.1, metric: 50}
        - {to: 0.0.0.0/0, via: 192.168.9.1, metric: 100}
",
        expect![[r#"
            apiVersion: ingot/v1
            kind: Machine
            network:
              links:
                - mac: bc:24:11:02:a7:3e
                  dhcp4: false
                  addresses:
                    - 192.168.1.20/24
                    - 2001:db8::20/64
                  mtu: 9000
                - name: enp2s0
                  dhcp4: true
                  dhcp6: true
                  routerAdvertisements: true
              routes:
                - to: default
                  via: 192.168.1.1
                - to: 10.0.0.0/8
                  via: 192.168.9.1
                  dev: enp2s0
                  metric: 50
                - to: default
                  via: 192.168.9.1
                  dev: enp2s0
                  metric: 100
              dns:
                servers:
                  - 192.168.1.1
                search:
                  - example.org
        "#]],
    );
}

#[test]
fn a_link_local_router_is_learned_from_its_advertisements() {
    check(
        "version: 1
config:
  - type: physical
    name: eth0
    mac_address: bc:24:11:02:a7:3e
    subnets:
      - {type: static6, address: '2001:db8::20/64', gateway: 'fe80::1'}
",
        expect![[r#"
            apiVersion: ingot/v1
            kind: Machine
            network:
              links:
                - mac: bc:24:11:02:a7:3e
                  dhcp4: false
                  routerAdvertisements: true
                  addresses:
                    - 2001:db8::20/64
        "#]],
    );
}

#[test]
fn what_cannot_be_done_is_told_and_the_rest_is_taken() {
    check(
        "version: 1
config:
  - {type: bond, name: bond0}
  - {type: physical, name: eth0, mac_address: zz}
  - type: physical
    name: eth1
    mtu: 5
    subnets:
      - {type: static, address: 10.0.0.300/24, gateway: nowhere}
      - {type: pppoe}
      - {type: dhcp}
  - {type: nameserver, address: dns.example}
  - 5
",
        expect![[r#"
            apiVersion: ingot/v1
            kind: Machine
            network:
              links:
                - name: eth1
                  dhcp4: true
            network-config: line 3: "bond" is not supported by Ingot yet (use "physical")
            network-config: line 4: is not a MAC address (write six bytes in hexadecimal, like "bc:24:11:02:a7:3e")
            network-config: line 7: is not a packet size (write a number of bytes from 68 to 65536)
            network-config: line 9: has no valid address with prefix length or netmask (write like "192.0.2.20/24")
            network-config: line 9: is not an address (write the address of the router)
            network-config: line 10: a subnet of type "pppoe" is not known (use static, static6, dhcp4, dhcp6 or ipv6_slaac)
            network-config: line 12: is not an address (write the address of a name server)
            network-config: line 13: has no "type" (write "type: physical")
        "#]],
    );
    check(
        "version: 2\nethernets: {en*: {match: {name: 'en*'}, dhcp4: maybe}}\nbonds: {bond0: {}}\n",
        expect![[r#"
            apiVersion: ingot/v1
            kind: Machine
            network-config: line 2: patterns of link names are not supported by Ingot yet (write a MAC address)
            network-config: line 3: "bonds" are not supported by Ingot yet (use "ethernets")
        "#]],
    );
    check(
        "version: 3\n",
        expect![[r#"
        apiVersion: ingot/v1
        kind: Machine
        network-config: line 1: has no "version" that is 1 or 2 (write "version: 1" or "version: 2" at its top)
    "#]],
    );
    check(
        "network: [\n",
        expect![[r#"
        apiVersion: ingot/v1
        kind: Machine
        network-config: line 2: this is not YAML: while parsing a node, did not find expected node content (check indentation, quotes and colons around here)
    "#]],
    );
    check(
        "",
        expect![[r#"
        apiVersion: ingot/v1
        kind: Machine
    "#]],
    );
}

#[test]
fn a_network_that_can_never_work_is_left_out() {
    check(
        "version: 1
config:
  - type: physical
    name: eth0
    subnets:
      - {type: static, address: 192.168.1.20/24, gateway: 192.168.2.1}
",
        expect![[r#"
            apiVersion: ingot/v1
            kind: Machine
            network-config: network.routes[0].via: no address of the node is in a network with "192.168.2.1" (write a router from the network of one of the addresses, or add such an address)
        "#]],
    );
}

#[test]
fn every_other_user_data_is_told_by_name() {
    for (user_data, expected) in [
        (
            None,
            expect![[r#"
                no config; None
                user-data: there is none, so the node has no config (put an Ingot config there (on Proxmox: qm set <id> --cicustom user=local:snippets/<file>))
            "#]],
        ),
        (
            Some("\n"),
            expect![[r#"
                no config; None
                user-data: there is none, so the node has no config (put an Ingot config there (on Proxmox: qm set <id> --cicustom user=local:snippets/<file>))
            "#]],
        ),
        (
            Some("#!/bin/sh\necho\n"),
            expect![[r#"
            no config; None
            user-data: line 1: this is a script, not an Ingot config (put an Ingot config there, as plain YAML)
        "#]],
        ),
        (
            Some("Content-Type: multipart/mixed\n"),
            expect![[r#"
            no config; None
            user-data: line 1: this is a MIME message, not an Ingot config (put an Ingot config there, as plain YAML)
        "#]],
        ),
        (
            Some("#include\nhttp://example.org\n"),
            expect![[r#"
            no config; None
            user-data: line 1: this is made for cloud-init, not an Ingot config (put an Ingot config there, as plain YAML)
        "#]],
        ),
        (
            Some("apiVersion: ingot/v1\nkind: Machine\nnetwrk: {}\n"),
            expect![[r#"
            no config; None
            user-data: line 1, api: has no "ca", so nobody could ever call this node (write the certificate authority that `ingotctl gen` makes to api.ca)
            user-data: line 3, netwrk: unknown field "netwrk" (did you mean "network"?)
        "#]],
        ),
    ] {
        let seed = read(Files { user_data, ..Files::default() });
        expected.assert_eq(&shown(&seed));
    }
}

#[test]
fn a_bad_host_name_is_told_and_left_out() {
    let seed = read(Files {
        user_data: Some(MINIMAL),
        meta_data: Some("local-hostname: a_b\n"),
        ..Files::default()
    });
    expect![[r#"
        apiVersion: ingot/v1
        kind: Machine
        meta-data: line 1: the host name is none (use letters, digits and dashes)
    "#]]
    .assert_eq(&shown(&seed));
}
