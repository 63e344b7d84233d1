//! The table is complete and every role gets what its row says, no more.

use super::*;
use prost::Message as _;
use std::collections::BTreeSet;

fn peer(client: Option<Client>) -> Peer {
    Peer { address: ([192, 0, 2, 1], 4).into(), client, server: Fingerprint([0; 32]) }
}

fn client(role: Option<Role>) -> Peer {
    peer(Some(Client { name: "someone".into(), role }))
}

/// Every RPC the node serves, from the descriptors its reflection service gives out.
fn served() -> BTreeSet<String> {
    let sets = [
        ingot_api::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let mut paths = BTreeSet::new();
    for set in sets {
        let set = prost_types::FileDescriptorSet::decode(set).unwrap();
        for file in set.file {
            for service in &file.service {
                for method in &service.method {
                    paths.insert(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
    }
    paths
}

#[test]
fn every_rpc_has_exactly_one_row() {
    let rows: Vec<String> = RULES.iter().map(|rule| rule.path.to_owned()).collect();
    let unique: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), unique.len(), "an RPC has two rows");
    assert_eq!(unique, served());
}

#[test]
fn each_role_may_call_what_its_row_allows_and_nothing_more() {
    for rule in RULES {
        for role in Role::ALL {
            let allowed = decide(rule.path, &client(Some(role)), false).is_ok();
            assert_eq!(allowed, role >= rule.role, "{} as {role}", rule.path);
        }
        assert!(decide(rule.path, &client(None), false).is_err(), "{} without role", rule.path);
    }
}

#[test]
fn without_a_certificate_only_the_maintenance_rows_are_open_and_only_in_maintenance() {
    for rule in RULES {
        assert_eq!(decide(rule.path, &peer(None), true).is_ok(), rule.maintenance, "{}", rule.path);
        assert_eq!(decide(rule.path, &peer(None), false), Err(Denied::Outdated), "{}", rule.path);
    }
}

#[test]
fn what_has_no_row_is_refused_to_everyone() {
    for path in ["/ingot.machine.v1.Machine/Nothing", "/", "", "/ingot.machine.v1.Machine/version"]
    {
        assert!(decide(path, &client(Some(Role::Admin)), false).is_err(), "{path}");
        assert!(decide(path, &peer(None), true).is_err(), "{path}");
    }
}

#[test]
fn the_rows_open_in_maintenance_are_these() {
    let open: Vec<&str> =
        RULES.iter().filter(|rule| rule.maintenance).map(|rule| rule.path).collect();
    assert_eq!(
        open,
        [
            "/ingot.machine.v1.Machine/Version",
            "/ingot.machine.v1.Machine/Pair",
            "/ingot.machine.v1.Machine/ApplyConfig",
            "/grpc.health.v1.Health/Check",
        ]
    );
}
