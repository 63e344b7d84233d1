//! Who is asked, and who sees what.

use super::*;

fn auth(password: &str, server: &str) -> Auth {
    let server_address = server.to_owned();
    Auth { username: "u".into(), password: password.into(), server_address, ..Auth::default() }
}

fn mirror(prefix: &str, endpoints: &[&str], endpoints_only: bool) -> Mirror {
    let endpoints = endpoints.iter().map(|url| (*url).to_owned()).collect();
    Mirror { prefix: prefix.into(), endpoints, endpoints_only }
}

/// Address of each place, its repository, and the password it would see.
fn asked(mirrors: Vec<Mirror>, hosts: Vec<Host>, image: &str, auth: &Auth) -> Vec<[String; 3]> {
    let config = StoreConfig::default();
    let sources = Sources { mirrors, hosts, ..Sources::default() };
    let remotes = remotes(&config, &sources, &Reference::parse(image).unwrap(), auth).unwrap();
    let shown = |r: Remote| [r.base.to_string(), r.repository, r.credentials.password];
    remotes.into_iter().map(shown).collect()
}

fn is(found: &[[String; 3]], expected: &[[&str; 3]]) {
    assert_eq!(found, expected);
}

#[test]
fn without_a_rule_the_registry_itself_is_asked_with_the_callers_credentials() {
    let found = asked(vec![], vec![], "busybox", &auth("p", ""));
    is(&found, &[["https://registry-1.docker.io/", "library/busybox", "p"]]);
    let found = asked(vec![], vec![], "busybox", &auth("p", "https://index.docker.io/v1/"));
    is(&found, &[["https://registry-1.docker.io/", "library/busybox", "p"]]);
    let found = asked(vec![], vec![], "a.test:5000/b", &auth("p", "other.test"));
    is(&found, &[["https://a.test:5000/", "b", ""]]);
}

#[test]
fn a_mirror_sees_its_own_credentials_only_cve_2020_15157() {
    let host = |host: &str, password: &str| Host {
        host: host.into(),
        auth: auth(password, ""),
        ..Host::default()
    };
    let mirrors = || vec![mirror("a.test", &["https://m.test/cache", "http://n.test:5000"], false)];
    let hosts = || vec![host("m.test", "mirror"), host("a.test", "configured")];
    let found = asked(mirrors(), hosts(), "a.test/b", &auth("caller", ""));
    is(
        &found,
        &[
            ["https://m.test/cache", "cache/b", "mirror"],
            ["http://n.test:5000/", "b", ""],
            ["https://a.test/", "b", "caller"],
        ],
    );
    let found = asked(mirrors(), hosts(), "a.test/b", &Auth::default());
    assert_eq!(found[2][2], "configured");
    let found = asked(vec![], vec![host("docker.io", "hub")], "busybox", &Auth::default());
    assert_eq!(found[0][2], "hub");
}

#[test]
fn the_longest_prefix_decides_and_ends_at_a_slash() {
    let rules = || {
        vec![
            mirror("*", &["http://all.test"], true),
            mirror("a.test", &["http://a.m"], true),
            mirror("a.test/b", &["http://b.m"], true),
        ]
    };
    let first = |image: &str| asked(rules(), vec![], image, &Auth::default())[0][0].clone();
    assert_eq!(first("a.test/b/c"), "http://b.m/");
    assert_eq!(first("a.test/bc"), "http://a.m/");
    assert_eq!(first("a.test.org/b"), "http://all.test/");
    assert_eq!(asked(rules(), vec![], "x", &Auth::default()).len(), 1);
}

#[test]
fn a_rule_may_name_the_registry_itself_and_it_is_asked_once() {
    let rule = mirror("a.test:5000", &["http://a.test:5000"], false);
    let found = asked(vec![rule], vec![], "a.test:5000/b", &auth("p", ""));
    is(&found, &[["http://a.test:5000/", "b", "p"]]);
}

#[test]
fn credentials_in_base64_are_read() {
    let auth = Auth { auth: "dXNlcjpwYTpzcwA=".into(), ..Auth::default() };
    let read = read(&auth);
    assert_eq!((&read.username[..], &read.password[..]), ("user", "pa:ss"));
    assert!(!format!("{read:?} {auth:?}").contains("pa:ss"));
}
