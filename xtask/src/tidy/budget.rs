//! PID 1 stays small enough to be read in one sitting. Counts lines of code, so that nobody saves on comments.

use super::{Finding, Tree, source};

/// Lines of code of PID 1: neither blank, nor comment, nor test. For scale, other small PID 1s have 700 to 1200.
const PID1_LINES_GOAL: usize = 1000;

/// What is allowed until the goal is reached. May only shrink.
const PID1_LINES_MAX: usize = 1750;

/// Where PID 1 lives.
const PID1_SOURCES: &str = "init/src/";

/// The initrd's program, which ends when PID 1 begins.
const NOT_PID1: &[&str] = &["init/src/bin/", "init/src/initrd/", "init/src/initrd.rs"];

/// PID 1 over its budget.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut lines = 0_usize;
    for (path, text) in tree.rust() {
        let initrd = NOT_PID1.iter().any(|place| path.starts_with(place));
        let counts = path.starts_with(PID1_SOURCES) && !initrd;
        if !counts || source::is_test_file(path) {
            continue;
        }
        // A file that does not parse is a finding of `lengths`.
        if let Ok(file) = syn::parse_file(text) {
            lines += source::code_lines(text, &source::production_lines(text, &file));
        }
    }
    let message = if lines > PID1_LINES_MAX {
        format!(
            "PID 1 has {lines} lines of code, {PID1_LINES_MAX} is the most; the agent should do what is new"
        )
    } else if PID1_LINES_MAX > PID1_LINES_GOAL && lines <= PID1_LINES_GOAL {
        format!("PID 1 has {lines} lines of code; lower what is allowed to {PID1_LINES_GOAL}")
    } else {
        return Vec::new();
    };
    vec![Finding::file(PID1_SOURCES, message)]
}
