//! What people are shown of a config: without secrets, and what changes from one to the next.

use expect_test::expect;
use ingot_machine_config::{Config, changes, load, redact};

const EVERY_FIELD: &str = include_str!("../../../configs/machine/every-field.yaml");
const TYPICAL: &str = include_str!("../../../configs/machine/typical.yaml");
/// The middle of the key in the examples.
const KEY: &str = "VGhpcyBpcyBhbiBleGFtcGxlLCBub3QgYSBrZXkuCg==";

fn config(text: &str) -> Config {
    let loaded = load(text);
    let shown: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    loaded.config.unwrap_or_else(|| panic!("{}\n{text}", shown.join("\n")))
}

#[test]
fn secrets_are_replaced_and_all_else_is_kept() {
    let shown = redact(TYPICAL);
    let wanted = TYPICAL.replace(
        &format!(
            "|\n      -----BEGIN PRIVATE KEY-----\n      {KEY}\n      -----END PRIVATE KEY-----\n"
        ),
        "\"<redacted>\"\n",
    );
    assert_ne!(wanted, TYPICAL);
    assert_eq!(shown, wanted);
}

#[test]
fn every_style_of_secret_is_replaced() {
    let block = format!(
        "|\n      -----BEGIN PRIVATE KEY-----\n      {KEY}\n      -----END PRIVATE KEY-----\n"
    );
    let pem = format!("-----BEGIN PRIVATE KEY-----\\n{KEY}\\n-----END PRIVATE KEY-----\\n");
    for style in [
        block.replace('|', "|-"),
        block.replace('|', "|+"),
        block.replace("|\n", "|2\n"),
        block.replace("|\n", "| # a comment\n"),
        format!("\"{pem}\"\n"),
        format!("\"{pem}\" # {KEY}\n"),
        format!("&anchor \"{pem}\"\n"),
    ] {
        let text = EVERY_FIELD.replace(&block, &style).replace('\r', "");
        if load(&text).config.is_none() {
            continue;
        }
        let shown = redact(&text);
        assert!(!shown.contains(KEY), "{shown}");
        assert_eq!(shown.matches("<redacted>").count(), 9, "{shown}");
    }
}

#[test]
fn a_comment_that_holds_a_secret_goes_too() {
    let shown = redact(&format!("{TYPICAL}# {KEY}\n"));
    assert!(!shown.contains(KEY), "{shown}");
    assert!(shown.contains("hostname: node-1"), "{shown}");
}

#[test]
fn windows_line_ends_and_wide_characters_do_not_move_the_secret() {
    let shown = redact(&format!("\u{feff}# \u{1f980} grün\n{TYPICAL}").replace('\n', "\r\n"));
    assert!(!shown.contains(KEY), "{shown}");
    assert!(shown.contains("\u{1f980}"), "{shown}");
}

#[test]
fn a_text_that_is_no_config_is_not_shown() {
    let shown = redact(&TYPICAL.replace("key:", "kee:"));
    assert!(!shown.contains(KEY) && shown.starts_with('#'), "{shown}");
}

#[test]
fn a_config_does_not_print_its_secrets() {
    assert!(!format!("{:?}", config(EVERY_FIELD)).contains(KEY));
    assert!(!config(EVERY_FIELD).redacted().contains(KEY));
    assert!(config(EVERY_FIELD).to_yaml().contains(KEY));
}

#[test]
fn changes_are_told_field_by_field() {
    let new = TYPICAL
        .replace("hostname: node-1", "hostname: node-2")
        .replace("cpu: 250m", "cpu: 500m")
        .replace("      via: 192.168.1.1\n", "      via: 192.168.1.1\n      metric: 5\n")
        .replace("[time.example.org]", "[time.example.org, other.example.org]")
        + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: new}\nspec: {containers: [{name: a, image: b}]}\n";
    let lines = changes(&config(TYPICAL), &config(&new)).join("\n");
    expect![[r#"
        network.hostname: "node-1" -> "node-2"
        network.routes[0].metric: set to 5
        time.servers[1]: set to "other.example.org"
        pod default/hello: spec.containers[0].resources.limits.cpu: "250m" -> "500m"
        pod default/new: added"#]]
    .assert_eq(&lines);
    let lines = changes(&config(&new), &config(TYPICAL)).join("\n");
    expect![[r#"
        network.hostname: "node-2" -> "node-1"
        network.routes[0].metric: no longer 5
        time.servers[1]: no longer "other.example.org"
        pod default/hello: spec.containers[0].resources.limits.cpu: "500m" -> "250m"
        pod default/new: removed"#]]
    .assert_eq(&lines);
}

#[test]
fn a_changed_key_is_told_but_not_shown() {
    let new = TYPICAL.replace(KEY, "YW5vdGhlcg==");
    expect!["secrets of the machine: changed"]
        .assert_eq(&changes(&config(TYPICAL), &config(&new)).join("\n"));
}

#[test]
fn the_same_config_written_otherwise_changes_nothing() {
    let new = config(TYPICAL).to_yaml().replace("cpu: 250m", "cpu: 0.25 # a quarter");
    assert_eq!(config(TYPICAL), config(&new));
}

#[test]
fn secrets_of_pods_are_never_shown() {
    let shown = redact(EVERY_FIELD);
    assert!(
        !shown.contains("correct horse")
            && !shown.contains("not shown")
            && !shown.contains("c2VjcmV0"),
        "{shown}"
    );
    assert!(shown.contains("colour: blue"), "{shown}");
    assert!(!format!("{:?}", config(EVERY_FIELD)).contains("correct horse"));
    let new = EVERY_FIELD
        .replace("correct horse", "battery staple")
        .replace("colour: blue", "colour: red");
    let lines = changes(&config(EVERY_FIELD), &config(&new)).join("\n");
    expect![[r#"
        config map examples/settings: data.colour: "blue" -> "red"
        secret examples/keys: changed"#]]
    .assert_eq(&lines);
}
