//! The licence check can fail in each of its ways.

use super::licences::{Metadata, Policy, problems};

const POLICY: &str = r#"
[licenses]
allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
exceptions = [{ crate = "special", allow = ["ISC"] }]
clarify = [{ crate = "silent", expression = "MIT", license-files = [] }]
[bans]
deny = [{ crate = "openssl-sys", reason = "a C library" }]
[sources]
allow-registry = ["https://github.com/rust-lang/crates.io-index"]
"#;

/// Problems of one package from crates.io with this name and licence.
fn judge<'a>(name: &str, licence: impl Into<Option<&'a str>>) -> Vec<String> {
    judge_from(name, licence.into(), "registry+https://github.com/rust-lang/crates.io-index")
}

fn judge_from(name: &str, licence: Option<&str>, source: &str) -> Vec<String> {
    let policy: Policy = toml::from_str(POLICY).expect("the policy above is valid");
    let package = serde_json::json!({
        "name": name, "version": "1.0.0", "license": licence, "source": source,
    });
    let metadata: Metadata = serde_json::from_value(serde_json::json!({ "packages": [package] }))
        .expect("the metadata above is valid");
    problems(&policy, &metadata)
}

#[test]
fn one_allowed_choice_is_enough_and_all_of_a_conjunction_is_needed() {
    assert_eq!(judge("a", "GPL-3.0-only OR MIT"), Vec::<String>::new());
    assert_eq!(judge("a", "MIT/Apache-2.0"), Vec::<String>::new());
    assert_eq!(judge("a", "Apache-2.0 WITH LLVM-exception"), Vec::<String>::new());
    assert_eq!(judge("a", "MIT AND GPL-3.0-only").len(), 1);
}

#[test]
fn a_copyleft_or_missing_licence_is_refused() {
    assert_eq!(judge("a", "GPL-2.0-only").len(), 1);
    assert_eq!(judge("a", "No such licence").len(), 1);
}

#[test]
fn a_crate_that_names_no_licence_needs_a_clarification() {
    assert_eq!(judge("a", None).len(), 1);
    assert_eq!(judge("silent", None), Vec::<String>::new());
}

#[test]
fn an_exception_is_for_one_crate() {
    assert_eq!(judge("special", "ISC"), Vec::<String>::new());
    assert_eq!(judge("other", "ISC").len(), 1);
}

#[test]
fn a_banned_crate_is_refused() {
    assert_eq!(judge("openssl-sys", "MIT"), ["openssl-sys 1.0.0: banned: a C library"]);
}

#[test]
fn a_crate_from_elsewhere_is_refused() {
    assert_eq!(judge_from("a", Some("MIT"), "git+https://example.org/a").len(), 1);
}

#[test]
fn the_policy_of_the_repository_can_be_read() {
    let text = include_str!("../../../deny.toml");
    toml::from_str::<Policy>(text).expect("deny.toml has the tables the check needs");
}
