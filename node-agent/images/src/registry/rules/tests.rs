//! Who is asked, and who sees what.

use super::*;

fn auth(password: &str, server: &str) -> Auth {
    let server_address = server.to_owned();
    Auth { username: "u".into(), password: password.into(), server_address, ..Auth::default() }
}

fn endpoint(url: &str) -> Endpoint {
    Endpoint { url: url.into(), ..Endpoint::default() }
}

/// Address of each place, its repository, and the password it would see.
fn asked(registries: Vec<Registry>, image: &str, auth: &Auth) -> Vec<[String; 3]> {
    let config = StoreConfig { registries, ..StoreConfig::default() };
    let remotes = remotes(&config, &Reference::parse(image).unwrap(), auth).unwrap();
    let shown = |r: Remote| [r.base.to_string(), r.repository, r.credentials.password];
    remotes.into_iter().map(shown).collect()
}

fn is(found: &[[String; 3]], expected: &[[&str; 3]]) {
    assert_eq!(found, expected);
}

#[test]
fn without_a_rule_the_registry_itself_is_asked_with_the_callers_credentials() {
    let found = asked(vec![], "busybox", &auth("p", ""));
    is(&found, &[["https://registry-1.docker.io/", "library/busybox", "p"]]);
    let found = asked(vec![], "busybox", &auth("p", "https://index.docker.io/v1/"));
    is(&found, &[["https://registry-1.docker.io/", "library/busybox", "p"]]);
    let found = asked(vec![], "a.test:5000/b", &auth("p", "other.test"));
    is(&found, &[["https://a.test:5000/", "b", ""]]);
}

#[test]
fn a_mirror_sees_its_own_credentials_only_cve_2020_15157() {
    let mirror = Endpoint { auth: auth("mirror", ""), ..endpoint("https://m.test/cache") };
    let rule = Registry {
        prefix: "a.test".into(),
        endpoints: vec![mirror, endpoint("http://n.test:5000")],
        auth: auth("rule", ""),
        ..Registry::default()
    };
    let found = asked(vec![rule.clone()], "a.test/b", &auth("caller", ""));
    is(
        &found,
        &[
            ["https://m.test/cache", "cache/b", "mirror"],
            ["http://n.test:5000/", "b", ""],
            ["https://a.test/", "b", "caller"],
        ],
    );
    let found = asked(vec![rule], "a.test/b", &Auth::default());
    assert_eq!(found[2][2], "rule");
}

#[test]
fn the_longest_prefix_decides_and_ends_at_a_slash() {
    let rule = |prefix: &str, url: &str| Registry {
        prefix: prefix.into(),
        endpoints: vec![endpoint(url)],
        endpoints_only: true,
        ..Registry::default()
    };
    let rules = || {
        vec![
            rule("*", "http://all.test"),
            rule("a.test", "http://a.m"),
            rule("a.test/b", "http://b.m"),
        ]
    };
    let first = |image: &str| asked(rules(), image, &Auth::default())[0][0].clone();
    assert_eq!(first("a.test/b/c"), "http://b.m/");
    assert_eq!(first("a.test/bc"), "http://a.m/");
    assert_eq!(first("a.test.org/b"), "http://all.test/");
    assert_eq!(asked(rules(), "x", &Auth::default()).len(), 1);
}

#[test]
fn a_rule_may_name_the_registry_itself_and_it_is_asked_once() {
    let rule = Registry {
        prefix: "a.test:5000".into(),
        endpoints: vec![endpoint("http://a.test:5000")],
        ..Registry::default()
    };
    let found = asked(vec![rule], "a.test:5000/b", &auth("p", ""));
    is(&found, &[["http://a.test:5000/", "b", "p"]]);
}

#[test]
fn credentials_in_base64_are_read() {
    let auth = Auth { auth: "dXNlcjpwYTpzcwA=".into(), ..Auth::default() };
    let read = read(&auth);
    assert_eq!((&read.username[..], &read.password[..]), ("user", "pa:ss"));
    assert!(!format!("{read:?} {auth:?}").contains("pa:ss"));
}
