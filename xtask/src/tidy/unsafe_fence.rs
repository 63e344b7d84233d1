//! `unsafe` lives in a few named crates; every other crate forbids it. What happens inside the fence is the compiler's
//! and clippy's business (`unsafe_code = "deny"` with `expect` and a reason, `undocumented_unsafe_blocks`).

use super::{Finding, Tree};

/// Directories of the crates that may hold unsafe code, and why.
const FENCE: &[(&str, &str)] = &[
    ("lib/linux/", "wraps system calls that no crate wraps"),
    ("init/", "PID 1 forks, and installs handlers, without libstd's help"),
    ("node-agent/runc/", "builds containers: clone, namespaces, descriptors"),
    ("qemu-tests/probe/", "reads the time stamp counter"),
    ("qemu-tests/workload/", "misbehaves on purpose inside a pod"),
];

/// Crate roots that do not forbid unsafe code, and files that allow it.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        if text.lines().any(|line| line.contains(concat!("allow(", "unsafe_code"))) {
            let message =
                "say `expect(unsafe_code, reason = \"...\")`: it complains when its reason is gone";
            findings.push(Finding::file(path, message));
        }
        let fenced = FENCE.iter().any(|(directory, _)| path.starts_with(directory));
        if !fenced
            && is_crate_root(path)
            && !text.lines().any(|line| line == "#![forbid(unsafe_code)]")
        {
            let message =
                "a crate outside the unsafe fence says `#![forbid(unsafe_code)]` in its root";
            findings.push(Finding::file(path, message));
        }
    }
    findings
}

/// Whether a file is the root of a library, a program or a build script. Integration tests have the workspace's lint.
fn is_crate_root(path: &str) -> bool {
    let elsewhere = path.contains("/src/") || path.contains("/tests/");
    // A program is one file of `bin`, or `main.rs` of a folder in it.
    let program = path.split_once("/src/bin/");
    path.ends_with("/src/lib.rs")
        || path.ends_with("/src/main.rs")
        || program.is_some_and(|(_, file)| !file.contains('/') || file.ends_with("/main.rs"))
        || path.ends_with("/build.rs") && !elsewhere
}
