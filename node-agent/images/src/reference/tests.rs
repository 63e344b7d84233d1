//! Names as people write them, and names that must not pass.

use proptest::prelude::*;

use super::*;

fn full(text: &str) -> String {
    Reference::parse(text).unwrap_or_else(|e| panic!("{e}")).to_string()
}

const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn short_names_are_completed_as_docker_does_it() {
    assert_eq!(full("busybox"), "docker.io/library/busybox:latest");
    assert_eq!(full("busybox:1.36"), "docker.io/library/busybox:1.36");
    assert_eq!(full("ingot/workload"), "docker.io/ingot/workload:latest");
    assert_eq!(full("docker.io/busybox"), "docker.io/library/busybox:latest");
    assert_eq!(full("index.docker.io/a/b"), "docker.io/a/b:latest");
    assert_eq!(full("localhost/a"), "localhost/a:latest");
}

#[test]
fn a_port_is_no_tag() {
    assert_eq!(full("registry:5000/a/b"), "registry:5000/a/b:latest");
    assert_eq!(full("registry:5000/a/b:c"), "registry:5000/a/b:c");
    assert_eq!(full("[::1]:5000/a"), "[::1]:5000/a:latest");
}

#[test]
fn a_digest_needs_no_tag_and_keeps_one() {
    let name = format!("example.test/a@{HASH}");
    let parsed = Reference::parse(&name).unwrap();
    assert_eq!((parsed.tag(), parsed.to_string()), (None, name));
    let both = format!("example.test/a:1@{HASH}");
    assert_eq!(full(&both), both);
    assert_eq!(Reference::parse(&both).unwrap().manifest(), HASH);
}

#[test]
fn what_is_no_reference_is_refused() {
    let id = "e".repeat(64);
    let long = "a".repeat(300);
    for reference in [
        "",
        "/etc",
        "../x",
        "a/../b",
        "a//b",
        "a:..",
        "a:",
        "a b",
        "a/.",
        "a\0b",
        "A",
        "a/B",
        "a@",
        "a@sha256:12",
        "a@md5:d41d8cd98f00b204e9800998ecf8427e",
        "host:port/a",
        "host:70000/a",
        "-a.b/c",
        "a.b/",
        "[::1/a",
        "[x]:1/a",
        "a___b",
        "a..b",
        "a/-b",
        "a.b:1/c?d",
        "a.b/c#d",
        "a.b/c%2e",
        "user@host/a",
        "https://a.b/c",
        &id,
        &long,
    ] {
        assert!(Reference::parse(reference).is_err(), "{reference:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { fork: false, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_given_parsing_does_not_panic_and_is_stable(text in "\\PC{0,80}") {
        if let Ok(parsed) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&parsed.to_string()).unwrap(), parsed);
        }
    }

    #[test]
    fn a_normalised_name_is_harmless_in_a_url_and_in_a_path(
        text in "([a-zA-Z0-9.:-]{0,12}/)?[a-zA-Z0-9._/%?#-]{0,20}(:[a-zA-Z0-9._-]{0,8})?"
    ) {
        if let Ok(parsed) = Reference::parse(&text) {
            prop_assert!(parsed.repository().split('/').all(|part| !matches!(part, "" | "." | "..")));
            prop_assert!(!parsed.to_string().contains(['%', '?', '#', ' ', '\\', '\0']));
        }
    }
}
