//! The machine document, section by section.

use crate::{check, check_machine};
use expect_test::expect;

#[test]
fn every_problem_is_found_at_once() {
    check_machine(
        "network:\n  hostnme: a\n  links:\n    - addresses: [1.2.3.4]\n      dhcp4: yes\n      mtu: 5\ntime: 5\nkernel:\n  modules: loop\npods: {pidsLimit: 0, logMaxSize: 1}\n",
        expect![[r#"
            5:3 network.hostnme: unknown field "hostnme"
                did you mean "hostname"?
            7:19 network.links[0].addresses[0]: "1.2.3.4" is not an address with a prefix length
                write like "192.168.1.20/24" or "2001:db8::20/64"
            8:14 network.links[0].dhcp4: "yes" is neither true nor false
                write true
            9:12 network.links[0].mtu: is 5, outside of the range 68 to 65536
            10:7 time: is a number, but must be a map of fields
                write its fields below it, indented
            12:12 kernel.modules: is a text, but must be a list
                write each entry on a line of its own, after "- "
            13:19 pods.pidsLimit: is 0, outside of the range 1 to 4194304
        "#]],
    );
}

#[test]
fn a_problem_in_one_section_does_not_hide_rules_of_another() {
    check_machine(
        "network: {hostnme: a}\nkernel: {modules: [{name: loop}, {name: loop}]}\n",
        expect![[r#"
            4:11 network.hostnme: unknown field "hostnme"
                did you mean "hostname"?
            5:41 kernel.modules[1].name: "loop" is already given at kernel.modules[0].name
                remove one of them
        "#]],
    );
}

#[test]
fn empty_values_are_fields_that_were_not_given() {
    check_machine("network:\ntime:\n  servers:\n", expect![[""]]);
    check_machine(
        "kernel: {modules: [{name: }, ]}\ntime: {servers: [~]}",
        expect![[r#"
        4:21 kernel.modules[0].name: is empty, but is required
            write "name: ..."
        5:18 time.servers[0]: is empty
            remove the "-", or write a value after it
    "#]],
    );
}

#[test]
fn a_node_that_nobody_can_call_is_refused() {
    check(
        "apiVersion: ingot/v1\nkind: Machine\n",
        expect![[r#"
        1:1 api: has no "ca", so nobody could ever call this node
            write the certificate authority that `ingotctl gen` makes to api.ca
    "#]],
    );
    check_machine(
        "api: {ca: {certificate: \"-----BEGIN CERTIFICATE-----\\nYQ==\\n-----END CERTIFICATE-----\"}}",
        expect![[r#"
            4:11 api.ca: has no "key", so the node cannot make its own certificate
                write api.ca.key, or a certificate of the node's own to api.certificate
        "#]],
    );
}

#[test]
fn keys_and_certificates_must_look_like_pem_and_are_never_shown() {
    check_machine(
        "api: {ca: {certificate: sesame, key: 12345}}",
        expect![[r#"
            4:25 api.ca.certificate: is not a certificate in PEM
                paste the whole block from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, after "|"
            4:38 api.ca.key: is a number, but must be a text
        "#]],
    );
    check_machine(
        "api: {ca: {certificate: \"-----BEGIN PRIVATE KEY-----\\nYQ==\\n-----END PRIVATE KEY-----\", key: \"open sesame\"}}",
        expect![[r#"
            4:25 api.ca.certificate: is not a certificate in PEM
                paste the whole block from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, after "|"
            4:94 api.ca.key: is not a private key in PEM
                paste the whole block from -----BEGIN PRIVATE KEY----- to -----END PRIVATE KEY-----, after "|"
        "#]],
    );
    check_machine(
        "api: {ca: {certificate: x, key: [open sesame]}}",
        expect![[r#"
            4:25 api.ca.certificate: is not a certificate in PEM
                paste the whole block from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, after "|"
            4:33 api.ca.key: is a list, but must be a private key in PEM
                paste the whole block from -----BEGIN PRIVATE KEY----- to -----END PRIVATE KEY-----, after "|"
        "#]],
    );
}

#[test]
fn a_redacted_config_cannot_be_applied() {
    check_machine(
        "api: {ca: {certificate: x, key: <redacted>}}",
        expect![[r#"
            4:25 api.ca.certificate: is not a certificate in PEM
                paste the whole block from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, after "|"
            4:33 api.ca.key: holds the placeholder "<redacted>"
                write the secret itself, from where you keep the config
        "#]],
    );
}

#[test]
fn ports_and_names_of_the_api() {
    check_machine(
        "api: {port: 70000, names: [\"a b\", a.example, a.example]}",
        expect![[r#"
        4:13 api.port: is 70000, outside of the range 1 to 65535
        4:28 api.names[0]: "a b" is not a host name or an IP address
            write a name like "time.example.org" or an address like "192.0.2.1"
    "#]],
    );
    check_machine(
        "api: {port: \"443\"}",
        expect![[r#"
        4:13 api.port: "443" is not a whole number
            remove the quotes: 443
    "#]],
    );
    check_machine(
        "api: {port: 44.3}",
        expect![[r#"
        4:13 api.port: "44.3" is not a whole number
            write a whole number from 1 to 65535
    "#]],
    );
}

#[test]
fn links_are_chosen_by_one_name() {
    check_machine(
        "network:\n  links:\n    - {}\n    - {name: eth0, mac: \"bc:24:11:02:a7:3e\"}\n    - {name: eth0}\n    - {mac: BC-24-11-02-A7-3E}\n    - {name: a/b}\n    - {mac: bc:24}\n",
        expect![[r#"
            10:14 network.links[4].name: "a/b" is not a link name
                use the kernel's name, at most 15 characters, like "enp1s0"
            11:13 network.links[5].mac: "bc:24" is not a MAC address
                write six bytes in hexadecimal, like "bc:24:11:02:a7:3e"
        "#]],
    );
    check_machine(
        "network:\n  links:\n    - {name: eth0}\n    - {name: eth0}\n    - {mac: BC-24-11-02-A7-3E}\n    - {mac: bc:24:11:02:a7:3e}\n    - {}\n",
        expect![[r#"
            7:14 network.links[1].name: "eth0" is already given at network.links[0].name
                remove one of them
            9:13 network.links[3].mac: "bc:24:11:02:a7:3e" is already given at network.links[2].mac
                remove one of them
            10:7 network.links[4]: has neither "name" nor "mac"
                write one of them
        "#]],
    );
}

#[test]
fn addresses_are_those_of_hosts() {
    check_machine(
        "network:\n  links:\n    - name: eth0\n      addresses: [192.168.1.0/24, 192.168.1.255/24, 0.0.0.0/0, 224.0.0.1/4, 127.0.0.1/8, 10.0.0.0/31, 10.0.0.9/24, 10.0.0.9/25]\n",
        expect![[r#"
            7:19 network.links[0].addresses[0]: "192.168.1.0/24" is the network itself
                write an address inside, like "192.168.1.1/24"
            7:35 network.links[0].addresses[1]: "192.168.1.255/24" is the broadcast address of its network
                write an address inside, like "192.168.1.1/24"
            7:53 network.links[0].addresses[2]: "0.0.0.0" stands for no address
                write an address of one host
            7:64 network.links[0].addresses[3]: "224.0.0.1" is a multicast address
                write an address of one host
            7:77 network.links[0].addresses[4]: "127.0.0.1" is a loopback address, which every node has
                write an address of one host
            7:116 network.links[0].addresses[7]: "10.0.0.9" is already given at network.links[0].addresses[6]
                remove one of them
        "#]],
    );
    check_machine(
        "network: {links: [{name: eth0, addresses: [192.168.1.300/24, 1.2.3.4, \"::1/129\"]}]}",
        expect![[r#"
            4:44 network.links[0].addresses[0]: "192.168.1.300/24" is not an address with a prefix length
                write like "192.168.1.20/24" or "2001:db8::20/64"
            4:62 network.links[0].addresses[1]: "1.2.3.4" is not an address with a prefix length
                write like "192.168.1.20/24" or "2001:db8::20/64"
            4:71 network.links[0].addresses[2]: "::1/129" is not an address with a prefix length
                write like "192.168.1.20/24" or "2001:db8::20/64"
        "#]],
    );
}

#[test]
fn a_small_mtu_and_ipv6_do_not_go_together() {
    check_machine(
        "network: {links: [{name: eth0, addresses: [\"2001:db8::1/64\"], mtu: 1000}]}",
        expect![[r#"
            4:68 network.links[0].mtu: 1000 is too small for IPv6
                write at least 1280
        "#]],
    );
    check_machine(
        "network: {links: [{name: eth0, up: false, dhcp6: true}]}",
        expect![[r#"
        4:19 network.links[0]: is kept down, so it cannot ask for addresses
            remove "up: false", or what asks for addresses
    "#]],
    );
}

#[test]
fn routes_need_a_router_that_can_be_reached() {
    check_machine(
        "network:\n  links: [{name: eth0, addresses: [192.168.1.20/24]}, {name: eth1, up: false}]\n  routes:\n    - {to: default, via: 192.168.2.1}\n    - {to: default}\n    - {to: 10.0.0.0/8, via: \"2001:db8::1\"}\n    - {to: \"2001:db8::/32\", via: \"fe80::1\"}\n    - {to: 10.0.0.0/8, dev: eth1}\n    - {to: 10.0.0.0/8, dev: eth2}\n    - {via: 192.168.1.1}\n",
        expect![[r#"
            13:7 network.routes[6]: has no "to", which is required
                write "to: ..."
        "#]],
    );
    check_machine(
        "network:\n  links: [{name: eth0, addresses: [192.168.1.20/24]}, {name: eth1, up: false}]\n  routes:\n    - {to: default, via: 192.168.2.1}\n    - {to: default, dev: eth9}\n    - {to: 10.0.0.0/8, via: \"2001:db8::1\"}\n    - {to: \"2001:db8::/32\", via: \"fe80::1\"}\n    - {to: 10.0.0.0/8, dev: eth1}\n    - {to: 10.1.0.0/8, dev: eth0}\n",
        expect![[r#"
            7:26 network.routes[0].via: no address of the node is in a network with "192.168.2.1"
                write a router from the network of one of the addresses, or add such an address
            8:7 network.routes[1]: "default (IPv4, metric 0)" is already given at network.routes[0]
                remove one of them
            8:26 network.routes[1].dev: there is no link "eth9" in network.links
                add it there, or leave "dev" out
            9:29 network.routes[2].via: "2001:db8::1" and "10.0.0.0/8" are not of the same kind (IPv4 and IPv6)
                write a router of the same kind
            10:34 network.routes[3].via: "fe80::1" exists on every link
                name the link in "dev"
            11:7 network.routes[4]: "10.0.0.0/8 (IPv4, metric 0)" is already given at network.routes[2]
                remove one of them
            11:29 network.routes[4].dev: the link "eth1" is kept down
                use another link, or remove "up: false" from it
            12:12 network.routes[5].to: "10.1.0.0/8" is an address in a network, not the network
                write "10.0.0.0/8"
        "#]],
    );
}

#[test]
fn a_router_on_a_link_with_dhcp_may_be_reachable() {
    check_machine(
        "network: {links: [{name: eth0}], routes: [{to: 10.0.0.0/8, via: 192.168.2.1}]}",
        expect![[""]],
    );
    check_machine("network: {routes: [{to: 10.0.0.0/8, via: 192.168.2.1}]}", expect![[""]]);
}

#[test]
fn name_servers_are_addresses() {
    check_machine(
        "network: {dns: {servers: [dns.example, 0.0.0.0, 1.1.1.1, 1.1.1.1], search: [exa_mple.org]}}",
        expect![[r#"
            4:27 network.dns.servers[0]: "dns.example" is not an IP address
                write an address with no prefix length, like "192.0.2.1" or "2001:db8::1"
            4:77 network.dns.search[0]: "exa_mple.org" is not a host name
                use letters, digits and dashes, parts joined by dots, like "node-1" or "node-1.example.org"
        "#]],
    );
    check_machine(
        "network: {dns: {servers: [0.0.0.0, 1.1.1.1, 1.1.1.1, 127.0.0.1]}}",
        expect![[r#"
            4:27 network.dns.servers[0]: "0.0.0.0" stands for no address
                write an address of one host
            4:45 network.dns.servers[2]: "1.1.1.1" is already given at network.dns.servers[1]
                remove one of them
        "#]],
    );
}

#[test]
fn the_network_of_pods_is_a_network_of_its_own() {
    check_machine(
        "network: {pods: {ipv4Subnet: 10.244.0.1/24, ipv6Subnet: \"fd00::/127\"}}",
        expect![[r#"
            4:30 network.pods.ipv4Subnet: "10.244.0.1/24" is an address in a network, not the network
                write "10.244.0.0/24"
            4:57 network.pods.ipv6Subnet: a prefix length of 127 is outside of the range 16 to 126
                write like "fd00::/126"
        "#]],
    );
    check_machine(
        "network: {pods: {ipv4Subnet: 10.244.0.0/31}}",
        expect![[r#"
        4:30 network.pods.ipv4Subnet: a prefix length of 31 is outside of the range 8 to 30
            write like "10.244.0.0/30"
    "#]],
    );
    check_machine(
        "network: {pods: {ipv4Subnet: 224.0.0.0/24}}",
        expect![[r#"
        4:30 network.pods.ipv4Subnet: "224.0.0.0/24" cannot be used for pods
            write a private network
    "#]],
    );
    check_machine(
        "network: {links: [{name: eth0, addresses: [10.244.0.5/16]}]}",
        expect![[r#"
        4:10 network.pods.ipv4Subnet: "10.244.0.0/24", for pods, overlaps the address 10.244.0.5/16
            give pods a network that is not used elsewhere
    "#]],
    );
    check_machine(
        "network: {dns: {servers: [10.244.0.9]}}",
        expect![[r#"
        4:10 network.pods.ipv4Subnet: "10.244.0.0/24", for pods, overlaps the name server 10.244.0.9
            give pods a network that is not used elsewhere
    "#]],
    );
}

#[test]
fn kernel_settings_stay_inside_proc_sys() {
    check_machine(
        "kernel:\n  sysctls: {vm: 1, ../../etc.passwd: 1, net..x: 1, kernel.hostname: a, vm.swappiness: true, net.ipv4.x: [1]}\n  modules: [{name: ../x}, {name: a, parameters: [\"a b\"]}, {}]\n",
        expect![[r#"
            5:13 kernel.sysctls.vm: "vm" is not the name of a kernel parameter
                write it with dots, like "net.ipv4.ip_forward"
            5:20 kernel.sysctls["../../etc.passwd"]: "../../etc.passwd" is not the name of a kernel parameter
                write it with dots, like "net.ipv4.ip_forward"
            5:41 kernel.sysctls["net..x"]: "net..x" is not the name of a kernel parameter
                write it with dots, like "net.ipv4.ip_forward"
            5:87 kernel.sysctls["vm.swappiness"]: is true or false, but must be a text
                put it in quotes: "true"
            5:105 kernel.sysctls["net.ipv4.x"]: is a list, but must be the value of a kernel parameter
                write one line of at most 1024 characters
            6:20 kernel.modules[0].name: "../x" is not the name of a kernel module
                use letters, digits, dashes and underscores, like "br_netfilter"
            6:50 kernel.modules[1].parameters[0]: "a b" is not a module parameter
                write like "max_loop=8", one for each entry
            6:59 kernel.modules[2]: has no "name", which is required
                write "name: ..."
        "#]],
    );
    check_machine(
        "kernel: {sysctls: {kernel.hostname: a}, modules: [{name: br-netfilter}, {name: br_netfilter}]}",
        expect![[r#"
            4:37 kernel.sysctls["kernel.hostname"]: is set by another section
                write it to network.hostname
            4:80 kernel.modules[1].name: "br_netfilter" is already given at kernel.modules[0].name
                remove one of them
        "#]],
    );
}

#[test]
fn time_servers_are_names_or_addresses() {
    check_machine(
        "time: {enabled: \"true\", servers: [\"time server\", 1.1, pool.ntp.org]}",
        expect![[r#"
            4:17 time.enabled: "true" is neither true nor false
                write true
            4:35 time.servers[0]: "time server" is not a host name or an IP address
                write a name like "time.example.org" or an address like "192.0.2.1"
            4:50 time.servers[1]: is a number, but must be a text
                put it in quotes: "1.1"
        "#]],
    );
}

#[test]
fn small_log_files_and_zero_limits_are_refused() {
    check_machine(
        "pods: {logMaxSize: 1Ki, logMaxFiles: 0}",
        expect![[r#"
        4:38 pods.logMaxFiles: is 0, outside of the range 1 to 100
    "#]],
    );
    check_machine(
        "pods: {logMaxSize: 1Ki}",
        expect![[r#"
        4:20 pods.logMaxSize: 1Ki is too small for a log file
            write at least 64Ki
    "#]],
    );
    check_machine(
        "pods: {logMaxTotal: 1Mi}",
        expect![[r#"
            4:21 pods.logMaxTotal: 1Mi is less than one log file, 10Mi
                write more than logMaxSize
        "#]],
    );
    check_machine(
        "pods: {logMaxSize: 10MB}",
        expect![[r#"
        4:20 pods.logMaxSize: "10MB" is not a quantity
            write a number with an optional suffix, like "250m", "1.5", "128Mi" or "1G"
    "#]],
    );
}

#[test]
fn registries_are_told_apart_and_their_credentials_are_complete() {
    check_machine(
        "registries:\n  mirrors:\n  - registry: docker.io\n    endpoints: []\n  - {registry: docker.io, endpoints: [\"ftp://a\", \"https://u:p@a\", \"https://a/?b\"]}\n  - {registry: \"a b\", endpoints: [\"https://a\", \"https://a\"]}\n  proxy: https://secret\n",
        expect![[r##"
            7:16 registries.mirrors[0].endpoints: has 0 entries, but needs at least 1
            8:39 registries.mirrors[1].endpoints[0]: "ftp://a" is not the address of a registry
                write like "https://mirror.example.org:5000/cache", without user name, "?" and "#"
            8:50 registries.mirrors[1].endpoints[1]: "https://u:p@a" is not the address of a registry
                write like "https://mirror.example.org:5000/cache", without user name, "?" and "#"
            8:67 registries.mirrors[1].endpoints[2]: "https://a/?b" is not the address of a registry
                write like "https://mirror.example.org:5000/cache", without user name, "?" and "#"
            9:16 registries.mirrors[2].registry: "a b" is not the beginning of images' names
                write a host like "docker.io", with a part of its repositories where needed, or "*" for all others
            10:10 registries.proxy: is not the address of a proxy
                write like "http://proxy.example.org:3128" or "http://user:password@proxy.example.org:3128"
        "##]],
    );
    check_machine(
        "registries:\n  mirrors:\n  - {registry: \"*\", endpoints: [\"https://a\", \"https://a\"]}\n  - {registry: \"*\", endpoints: [\"http://[::1]:5000/a\"]}\n  hosts:\n  - {host: a, username: x}\n  - {host: A, username: x, password: y, identityToken: z}\n  noProxy: [a]\n",
        expect![[r#"
            6:46 registries.mirrors[0].endpoints[1]: "https://a" is already given at registries.mirrors[0].endpoints[0]
                remove one of them
            7:16 registries.mirrors[1].registry: "*" is already given at registries.mirrors[0].registry
                remove one of them
            9:5 registries.hosts[0]: has only one of "username" and "password"
                write both, or "identityToken" alone
            10:5 registries.hosts[1]: has both a password and an "identityToken"
                keep one of them
            10:12 registries.hosts[1].host: "a" is already given at registries.hosts[0].host
                remove one of them
            11:12 registries.noProxy: names hosts to reach without a proxy, but there is no proxy
                write registries.proxy, or remove this
        "#]],
    );
}
