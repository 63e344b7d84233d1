//! Decision records are numbered without gaps and answer the same three questions. Their content is not judged.

use super::{Finding, Tree};

/// Where the records are.
const DIRECTORY: &str = "docs/decisions/";

/// Headings every record has.
const HEADINGS: &[&str] = &["## Context", "## Decision", "## What we gave up"];

/// Records with a wrong name, a number taken twice, a gap before them, or a missing heading.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut expected = 1;
    for (path, text) in tree.files().filter(|(path, _)| path.starts_with(DIRECTORY)) {
        let name = path.trim_start_matches(DIRECTORY);
        if name == "README.md" {
            continue;
        }
        let number =
            name.split_once('-').map(|(number, _)| number).filter(|number| number.len() == 4);
        match number.and_then(|number| number.parse::<usize>().ok()) {
            Some(number) if number == expected => expected += 1,
            _ => {
                let message =
                    format!("records are named NNNN-title.md; the next number is {expected:04}");
                findings.push(Finding::file(path, message));
            }
        }
        for heading in HEADINGS.iter().filter(|heading| !text.lines().any(|line| line == **heading))
        {
            findings.push(Finding::file(path, format!("has no heading `{heading}`")));
        }
    }
    findings
}
