//! When a certificate is made, kept and shown.

use super::*;
use ingot_machine_config::Secret;
use ingot_machine_config::v1::api::Ca as CaConfig;

fn config() -> Api {
    let ca = CaConfig { certificate: "x".into(), key: Some(Secret::new("y")) };
    Api { ca: Some(ca), ..Api::default() }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn have(facts: Option<Facts>) -> Have {
    let now = SystemTime::UNIX_EPOCH + Validity::days(20_000);
    Have { facts, names: names(&["n"]), published: true, state_mounted: true, now }
}

fn facts(have_names: &[&str], days: u32) -> Facts {
    Facts {
        names: names(have_names),
        signed_by_ca: true,
        not_after: SystemTime::UNIX_EPOCH + Validity::days(20_000 + days),
        from_config: false,
        same_as_config: false,
        stored: true,
    }
}

fn words(api: &Api, have: &Have) -> Vec<String> {
    let steps = plan(api, have);
    steps.iter().map(|step| format!("{step:?}").split('(').next().unwrap().to_owned()).collect()
}

#[test]
fn a_node_without_a_certificate_makes_one_shows_it_and_then_keeps_it() {
    assert_eq!(words(&config(), &have(None)), ["Issue", "Publish", "Store"]);
}

#[test]
fn a_good_certificate_is_left_alone() {
    assert_eq!(words(&config(), &have(Some(facts(&["n", "old"], 200)))), [""; 0]);
}

#[test]
fn a_certificate_is_renewed_before_it_ends_and_for_a_new_name_or_authority() {
    let renewed = ["Issue", "Publish", "Store"];
    assert_eq!(words(&config(), &have(Some(facts(&["n"], 119)))), renewed);
    assert_eq!(words(&config(), &have(Some(facts(&["other"], 300)))), renewed);
    let other_ca = Facts { signed_by_ca: false, ..facts(&["n"], 300) };
    assert_eq!(words(&config(), &have(Some(other_ca))), renewed);
}

#[test]
fn the_api_does_not_wait_for_the_disk() {
    let unmounted = Have { state_mounted: false, ..have(None) };
    assert_eq!(words(&config(), &unmounted), ["Issue", "Publish"]);
    let later = Have { facts: Some(Facts { stored: false, ..facts(&["n"], 300) }), ..have(None) };
    assert_eq!(words(&config(), &later), ["Store"]);
}

#[test]
fn the_config_may_bring_the_certificate_and_then_none_is_made() {
    let own = ingot_machine_config::v1::api::Certificate::default();
    let api = Api { certificate: Some(own), ..config() };
    assert_eq!(words(&api, &have(None)), ["TakeFromConfig", "Publish"]);
    let taken = Facts { from_config: true, same_as_config: true, ..facts(&[], 1) };
    assert_eq!(words(&api, &have(Some(taken))), [""; 0]);
}

#[test]
fn a_stored_identity_is_read_back_only_for_its_own_authority() {
    let folder = tempfile::tempdir().unwrap();
    let validity = Validity::starting(SystemTime::now(), Validity::days(10));
    let ca = Ca::generate("test", validity).unwrap();
    let other = Ca::generate("other", validity).unwrap();
    let key = Secret::new(ca.key().to_pem().to_string());
    let authority = CaConfig { certificate: ca.certificate().to_pem(), key: Some(key) };
    let api = Api { ca: Some(authority), ..Api::default() };
    let mut pki = Pki::new(State::new());
    pki.folder = folder.path().join("pki");
    pki.current = Some(pki.issue(&api, names(&["a", "192.0.2.1"])).unwrap());
    pki.store().unwrap();
    let read = pki.read(&[ca.certificate().clone()]).unwrap();
    assert_eq!(read.names, names(&["a", "192.0.2.1"]));
    assert!(pki.read(&[other.certificate().clone()]).is_none());
}
