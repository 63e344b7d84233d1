//! Endpoints as people write them.

use super::Endpoint;

fn read(text: &str) -> String {
    text.parse::<Endpoint>().map_or_else(|error| error.to_string(), |endpoint| endpoint.to_string())
}

#[test]
fn addresses_and_names_are_read_with_and_without_a_port() {
    assert_eq!(read("192.0.2.1"), "192.0.2.1:50000");
    assert_eq!(read("192.0.2.1:4000"), "192.0.2.1:4000");
    assert_eq!(read("2001:db8::1"), "[2001:db8::1]:50000");
    assert_eq!(read("[2001:db8::1]"), "[2001:db8::1]:50000");
    assert_eq!(read("[2001:db8::1]:4000"), "[2001:db8::1]:4000");
    assert_eq!(read("node-1.example"), "node-1.example:50000");
    assert_eq!(read("node-1.example:1"), "node-1.example:1");
}

#[test]
fn what_cannot_be_dialled_is_refused() {
    for text in
        ["", ":1", "host:", "host:0", "host:65536", "https://host", "a b", "[host]", "1.2.3.4:0"]
    {
        assert_eq!(read(text), format!("\"{text}\" is no endpoint"));
    }
}
