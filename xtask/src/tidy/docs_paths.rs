//! Every repository path that a document names exists. Documents that contradict the tree are worse than none.

use super::{Finding, Tree};

/// Names at the root that documents may speak of before the directory is there would only hide mistakes: this list
/// makes a path under a missing directory a finding too.
const ROOTS: &[&str] = &[
    ".ci",
    "api",
    "configs",
    "ctl",
    "docs",
    "image-builder",
    "init",
    "kubernetes",
    "lib",
    "node-agent",
    "qemu-tests",
    "xtask",
];

/// Paths named in `README.md` and `docs/` that are not there.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut roots = tree.top_level();
    roots.extend(ROOTS);
    let mut findings = Vec::new();
    let is_document = |path: &str| path.ends_with(".md");
    for (path, text) in tree.files().filter(|(path, _)| is_document(path)) {
        for (line, number) in text.lines().zip(1..) {
            for name in named_paths(line, &roots).into_iter().flat_map(|name| expand(&name)) {
                if !tree.exists(&name) {
                    findings.push(Finding::at(path, number, format!("`{name}` does not exist")));
                }
            }
            for link in links(line) {
                let target = resolve(path, &link);
                if !tree.exists(&target) {
                    findings.push(Finding::at(
                        path,
                        number,
                        format!("link to `{link}`, which does not exist"),
                    ));
                }
            }
        }
    }
    findings
}

/// Words between backticks that are paths of the repository.
fn named_paths(line: &str, roots: &[&str]) -> Vec<String> {
    let quoted = line.split('`').skip(1).step_by(2);
    let is_path = |word: &str| {
        let plain = !word.contains(|c: char| "<>*$|:".contains(c) || c.is_whitespace());
        plain && word.split_once('/').is_some_and(|(root, _)| roots.contains(&root))
    };
    quoted.filter(|word| is_path(word)).map(str::to_owned).collect()
}

/// `a/{b,c}.rs` to `a/b.rs` and `a/c.rs`, one pair of braces at a time.
fn expand(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let Some((choices, after)) = rest.split_once('}') else { return vec![name.to_owned()] };
    choices.split(',').flat_map(|choice| expand(&format!("{before}{choice}{after}"))).collect()
}

/// Targets of Markdown links that stay inside the repository.
fn links(line: &str) -> Vec<String> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.map(|target| target.split('#').next().unwrap_or_default());
    targets
        .filter(|target| !target.is_empty() && !target.contains(':'))
        .map(str::to_owned)
        .collect()
}

/// A link of one document as a path from the root.
fn resolve(document: &str, link: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
