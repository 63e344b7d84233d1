//! Tests of the pure parts; that the kernel takes the rules is tested in `network/tests.rs`.

use super::*;

#[test]
fn masks_cover_their_prefix() {
    let [v4, v6] = FAMILIES;
    assert_eq!(prefix_mask(v4, 24), [255, 255, 255, 0]);
    assert_eq!(prefix_mask(v4, 20), [255, 255, 240, 0]);
    assert_eq!(prefix_mask(v4, 0), [0; 4]);
    assert_eq!(prefix_mask(v4, 32), [255; 4]);
    assert_eq!(prefix_mask(v6, 65)[..10], [255, 255, 255, 255, 255, 255, 255, 255, 128, 0]);
}

#[test]
fn parts_of_keys_and_values_begin_at_registers() {
    let port = Port {
        protocol: Protocol::Udp,
        place: Place::At("127.0.0.1".parse().unwrap()),
        host_port: 0x1234,
        to: "10.1.2.3".parse().unwrap(),
        pod_port: 80,
    };
    let element = element(&port);
    assert_eq!(element.key, [127, 0, 0, 1, 17, 0, 0, 0, 0x12, 0x34, 0, 0]);
    assert_eq!(element.value, [10, 1, 2, 3, 0, 80, 0, 0]);
    assert_eq!(map_of(&port), "ports4at");
}
