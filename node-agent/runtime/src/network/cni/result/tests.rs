//! Tests of reading answers.

use serde_json::json;

use super::*;

fn texts(result: Value) -> Vec<String> {
    addresses(&result).iter().map(IpAddr::to_string).collect()
}

#[test]
fn addresses_are_found_in_results_of_every_version() {
    let oldest = json!({ "cniVersion": "0.2.0", "ip4": { "ip": "10.1.0.5/16", "gateway": "10.1.0.1" },
        "ip6": { "ip": "fd00::5/64" } });
    assert_eq!(texts(oldest), ["10.1.0.5", "fd00::5"]);
    let middle = json!({ "cniVersion": "0.4.0",
        "interfaces": [{ "name": "cni0" }, { "name": "eth0", "sandbox": "/run/netns/x" }],
        "ips": [{ "version": "4", "interface": 1, "address": "10.1.0.6/16" }] });
    assert_eq!(texts(middle), ["10.1.0.6"]);
    let newest = json!({ "cniVersion": "1.1.0", "ips": [{ "address": "fd00::7/64" }, { "address": "10.1.0.7/16" }] });
    assert_eq!(texts(newest), ["10.1.0.7", "fd00::7"]);
}

#[test]
fn an_address_of_the_nodes_end_is_not_the_sandboxs() {
    let result = json!({
        "interfaces": [{ "name": "cni0", "sandbox": "" }, { "name": "eth0", "sandbox": "/run/netns/x" }],
        "ips": [{ "interface": 0, "address": "10.1.0.1/16" }, { "interface": 1, "address": "10.1.0.8/16" }],
    });
    assert_eq!(texts(result), ["10.1.0.8"]);
}

#[test]
fn nonsense_gives_no_address() {
    for result in
        [json!(null), json!([]), json!({ "ips": 1 }), json!({ "ips": [{ "address": "x/1" }, 2] })]
    {
        assert_eq!(addresses(&result), Vec::<IpAddr>::new());
    }
}

#[test]
fn a_complaint_is_the_plugins_own_words() {
    let said = complaint(br#"{"code": 11, "msg": "no address", "details": "range is full"}"#, b"x");
    assert_eq!(said, "no address; range is full");
    assert_eq!(complaint(b"", b"  panic\n"), "panic");
    assert_eq!(complaint(b"", b""), "it says nothing");
    assert_eq!(complaint(b"", &[b'x'; 5000]).len(), MESSAGE_MAX);
}
