//! Rules of section `registries`: credentials that are complete, and nothing said twice.

use super::{Finding, duplicates, duplicates_by};
use crate::v1::registries::Registries;

pub(super) fn check(registries: &Registries) -> Vec<Finding> {
    let mut findings = Vec::new();
    let prefixes: Vec<_> = registries.mirrors.iter().map(|m| m.registry.clone()).collect();
    duplicates_by(&mut findings, &prefixes, |at| format!("registries.mirrors[{at}].registry"));
    for (index, mirror) in registries.mirrors.iter().enumerate() {
        let path = format!("registries.mirrors[{index}].endpoints");
        duplicates(&mut findings, &path, &mirror.endpoints);
    }
    let hosts: Vec<_> = registries.hosts.iter().map(|h| h.host.to_ascii_lowercase()).collect();
    duplicates_by(&mut findings, &hosts, |at| format!("registries.hosts[{at}].host"));
    for (index, host) in registries.hosts.iter().enumerate() {
        let path = format!("registries.hosts[{index}]");
        match (&host.username, &host.password, &host.identity_token) {
            (None, None, _) | (Some(_), Some(_), None) => {}
            (Some(_), Some(_), Some(_)) => findings.push(Finding::new(
                &path,
                "has both a password and an \"identityToken\"",
                "keep one of them",
            )),
            _ => findings.push(Finding::new(
                &path,
                "has only one of \"username\" and \"password\"",
                "write both, or \"identityToken\" alone",
            )),
        }
    }
    if registries.proxy.is_none() && !registries.no_proxy.is_empty() {
        findings.push(Finding::new(
            "registries.noProxy",
            "names hosts to reach without a proxy, but there is no proxy",
            "write registries.proxy, or remove this",
        ));
    }
    findings
}
