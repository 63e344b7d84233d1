//! What people get for a wrong config: every problem, with its place and what to write instead.
//!
//! Each case is a few lines of config and the exact text of its problems; `UPDATE_EXPECT=1` writes them anew.

mod bad_input {
    mod data;
    mod kubernetes;
    mod machine;
    mod pod;
    mod pod_rules;
    mod stream;
}

use expect_test::Expect;
use ingot_machine_config::{Loaded, load};

/// A certificate authority that passes.
const CA: &str = r#"{certificate: "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----", key: "-----BEGIN PRIVATE KEY-----\nYQ==\n-----END PRIVATE KEY-----"}"#;

/// Compares the problems of a whole stream.
#[track_caller]
fn check(text: &str, expected: Expect) {
    let Loaded { config, problems } = load(text);
    assert_eq!(config.is_some(), problems.is_empty(), "there is a config, or there are problems");
    let mut shown = String::new();
    for problem in &problems {
        shown.push_str(&format!(
            "{}:{} {}: {}\n",
            problem.line, problem.column, problem.path, problem.message
        ));
        if !problem.hint.is_empty() {
            shown.push_str(&format!("    {}\n", problem.hint));
        }
    }
    expected.assert_eq(&shown);
}

/// Compares the problems of a machine document; line 1 is its `apiVersion`, and `sections` start at line 4.
#[track_caller]
fn check_machine(sections: &str, expected: Expect) {
    let api = if sections.contains("api:") { "#".to_owned() } else { format!("api: {{ca: {CA}}}") };
    check(&format!("apiVersion: ingot/v1\nkind: Machine\n{api}\n{sections}"), expected);
}

/// Compares the problems of a pod beside a sound machine; `rest` starts at line 8, below `metadata.name`.
#[track_caller]
fn check_pod(rest: &str, expected: Expect) {
    let machine = format!("apiVersion: ingot/v1\nkind: Machine\napi: {{ca: {CA}}}\n---\n");
    check(
        &format!("{machine}apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\n{rest}"),
        expected,
    );
}
