//! No tracked file names somebody's machine: no home or workplace directory, no package mirror. Whoever clones the
//! repository has others; mirrors come from the machine's own configuration at run time.

use super::{Finding, Tree};

/// Text that must not occur, and what to do instead. Written in two halves, so that this file passes its own rule.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "name paths from the root of the repository"),
    (concat!("/ho", "me/"), "name paths from the root of the repository"),
    (concat!("/Us", "ers/"), "name paths from the root of the repository"),
    (concat!("deb.deb", "ian.org"), "take the mirror from the machine's apt configuration"),
    (concat!("snapshot.deb", "ian.org"), "take the mirror from the machine's apt configuration"),
    (concat!("arti", "factory"), "take the registry from the machine's configuration"),
    (concat!("proxy.go", "lang.org"), "take the proxy from the machine's configuration"),
    (concat!("static.cra", "tes.io"), "take the registry from the machine's configuration"),
];

/// Lines that name a machine.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        for (line, number) in text.lines().zip(1..) {
            for (word, instead) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
                findings.push(Finding::at(path, number, format!("names `{word}`; {instead}")));
            }
        }
    }
    findings
}
