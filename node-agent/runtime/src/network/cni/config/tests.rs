//! Tests of what is read from files and what plugins are told.

use serde_json::json;

use super::*;

const CHAIN: &str = r#"{
    "cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0", "9.0.0"], "name": "pods",
    "plugins": [
        { "type": "bridge", "bridge": "cni0", "ipam": { "type": "host-local" } },
        { "type": "portmap", "capabilities": { "portMappings": true, "mac": false } }
    ]
}"#;

fn parse_text(text: &str) -> Result<Network, ConfigError> {
    parse(text.as_bytes(), Path::new("/x.conflist"))
}

fn capabilities() -> Map<String, Value> {
    let all = json!({ "portMappings": [{ "hostPort": 80 }], "mac": "00:11:22:33:44:55" });
    all.as_object().cloned().unwrap()
}

#[test]
fn the_newest_version_that_both_know_is_spoken() {
    assert_eq!(parse_text(CHAIN).unwrap().version, "1.1.0");
    let old = parse_text(r#"{"name": "n", "type": "bridge"}"#).unwrap();
    assert_eq!((old.version.as_str(), old.kinds()), ("0.1.0", vec!["bridge"]));
    let error = parse_text(r#"{"cniVersion": "2.0.0", "name": "n", "type": "b"}"#).unwrap_err();
    assert!(error.to_string().contains("2.0.0"), "{error}");
}

#[test]
fn a_plugin_is_told_what_it_asks_for_and_nothing_else() {
    let network = parse_text(CHAIN).unwrap();
    let previous = json!({ "cniVersion": "1.1.0" });
    let first = network.input(0, &capabilities(), None, &[]);
    let expected = json!({
        "cniVersion": "1.1.0", "name": "pods", "type": "bridge", "bridge": "cni0",
        "ipam": { "type": "host-local" },
    });
    assert_eq!(first, expected);
    let second = network.input(1, &capabilities(), Some(&previous), &[("more", json!(1))]);
    let expected = json!({
        "cniVersion": "1.1.0", "name": "pods", "type": "portmap", "prevResult": previous,
        "runtimeConfig": { "portMappings": [{ "hostPort": 80 }] }, "more": 1,
    });
    assert_eq!(second, expected);
    assert!(network.has_capability("portMappings") && !network.has_capability("mac"));
}

#[test]
fn verbs_are_used_with_the_versions_that_have_them_and_unless_switched_off() {
    let with = |more: &str| {
        let text = format!(r#"{{"name": "n", "plugins": [{{"type": "b"}}], {more}}}"#);
        let network = parse_text(&text).unwrap();
        [Verb::Check, Verb::Gc, Verb::Status].map(|verb| network.allows(verb))
    };
    assert_eq!(with(r#""cniVersion": "0.3.1""#), [false, false, false]);
    assert_eq!(with(r#""cniVersion": "0.4.0""#), [true, false, false]);
    assert_eq!(with(r#""cniVersion": "1.1.0""#), [true, true, true]);
    let off = r#""cniVersion": "1.1.0", "disableCheck": true, "disableGC": "true""#;
    assert_eq!(with(off), [false, false, true]);
}

#[test]
fn cve_2021_20206_a_type_that_leads_out_of_the_folder_of_programs_is_refused() {
    for kind in ["../bin/x", "/bin/x", "a/b", "..", ".", "", "-x", "x y", "x\\u0000"] {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "{kind}"}}"#);
        assert!(parse_text(&text).is_err(), "{kind:?} was taken");
    }
    assert!(parse_text(r#"{"name": "../n", "type": "bridge"}"#).is_err());
    assert!(parse_text(r#"{"name": "n", "plugins": []}"#).is_err());
    assert!(parse_text(r#"{"name": "n", "plugins": [1]}"#).is_err());
    assert!(parse_text("[]").is_err());
}

#[test]
fn the_first_file_by_name_that_can_be_used_counts() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    assert_eq!(load(folder.path()).unwrap(), None);
    assert_eq!(load(&folder.path().join("absent")).unwrap(), None);
    write(".10-half.conflist", CHAIN);
    write("README", "nothing");
    assert!(!exists(folder.path()));
    write("20-broken.conf", "{");
    assert!(exists(folder.path()));
    assert!(load(folder.path()).unwrap_err().to_string().contains("20-broken.conf"));
    write("90-last.conflist", &CHAIN.replace("pods", "last"));
    write("30-first.conflist", CHAIN);
    assert_eq!(load(folder.path()).unwrap().map(|network| network.name), Some("pods".to_owned()));
}

#[test]
fn what_is_written_down_is_read_back() {
    let network = parse_text(CHAIN).unwrap();
    let text = serde_json::to_string(&network).unwrap();
    assert_eq!(serde_json::from_str::<Network>(&text).unwrap(), network);
}
