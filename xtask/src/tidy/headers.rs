//! Every Rust file opens with `//!`: what it is for, what it must not do. It does not judge the words.

use super::{Finding, Tree};

/// Files whose first line is something else.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter_map(|(path, text)| {
            let words = text.lines().next().unwrap_or_default().strip_prefix("//! ");
            let found = match words {
                None => "the first line must be a `//!` comment that says what the file is for",
                Some(words) if words.starts_with("Not written yet") => {
                    "this file is a placeholder; nothing unwritten is shipped"
                }
                Some(_) => return None,
            };
            Some(Finding::at(path, 1, found))
        })
        .collect()
}
