//! Each rule can fail, and passes what it should.

use super::{Finding, RULES, Tree, budget, decisions, deps, docs_paths, headers, lengths};
use super::{machine_paths, manifests, unsafe_fence};

/// A manifest that every rule about manifests likes.
fn manifest(name: &str, dependencies: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion.workspace = true\nedition.workspace = true\n\
         rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\
         [dependencies]\n{dependencies}\n[lints]\nworkspace = true\n"
    )
}

fn messages(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

/// A function of that many lines.
fn function(lines: usize) -> String {
    format!("//! A file.\nfn long() {{\n{}}}\n", "    let _ = 0;\n".repeat(lines - 2))
}

#[test]
fn every_rule_has_its_own_name() {
    let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RULES.len());
}

#[test]
fn a_file_without_a_purpose_is_found() {
    let tree = Tree::of(&[
        ("a/src/good.rs", "//! What it is for.\n"),
        ("a/src/bad.rs", "use std::fs;\n"),
        ("a/src/empty.rs", ""),
        ("a/src/stub.rs", concat!("//! Not writ", "ten yet.\n")),
    ]);
    let found: Vec<_> = headers::check(&tree).into_iter().map(|finding| finding.path).collect();
    assert_eq!(found, ["a/src/bad.rs", "a/src/empty.rs", "a/src/stub.rs"]);
}

#[test]
fn a_function_of_71_lines_is_found_and_one_of_70_is_not() {
    let tree = Tree::of(&[("a/src/x.rs", &function(70))]);
    assert_eq!(lengths::check_with(&tree, &[]), []);
    let tree = Tree::of(&[("a/src/x.rs", &function(71))]);
    let found = lengths::check_with(&tree, &[]);
    assert_eq!(messages(&found), ["a/src/x.rs:2: `long` has 71 lines; 70 is the most"]);
}

#[test]
fn a_long_method_is_found() {
    let body = "        let _ = 0;\n".repeat(80);
    let text = format!("//! A file.\nstruct A;\nimpl A {{\n    fn long() {{\n{body}    }}\n}}\n");
    assert_eq!(lengths::check_with(&Tree::of(&[("a/src/x.rs", &text)]), &[]).len(), 1);
}

#[test]
fn the_naughty_list_may_only_shrink() {
    let tree = Tree::of(&[("a/src/x.rs", &function(75))]);
    assert_eq!(lengths::check_with(&tree, &[("a/src/x.rs", "long", 75)]), []);
    assert_eq!(lengths::check_with(&tree, &[("a/src/x.rs", "long", 74)]).len(), 2);
    assert_eq!(lengths::check_with(&tree, &[("a/src/x.rs", "long", 80)]).len(), 1);
    assert_eq!(lengths::check_with(&tree, &[("a/src/gone.rs", "long", 75)]).len(), 2);
}

#[test]
fn a_long_file_is_found_but_test_lines_do_not_count() {
    let constants = "const A: u8 = 0;\n".repeat(500);
    let tree = Tree::of(&[("a/src/x.rs", &format!("//! A file.\n{constants}"))]);
    assert_eq!(lengths::check_with(&tree, &[]).len(), 1);
    let text = format!("//! A file.\n#[cfg(test)]\nmod tests {{\n{constants}}}\n");
    let tree =
        Tree::of(&[("a/src/x.rs", &text), ("a/src/x/tests.rs", &text), ("a/tests/y.rs", &text)]);
    assert_eq!(lengths::check_with(&tree, &[]), []);
}

#[test]
fn a_fat_pid_1_is_found_and_comments_are_free() {
    let code = "const A: u8 = 0;\n".repeat(1100);
    let comments = "// why\n".repeat(1100);
    let thin = Tree::of(&[
        ("init/src/a.rs", &format!("//! A.\n{code}{comments}")),
        ("init/src/bin/initrd.rs", &format!("//! B.\n{code}")),
        ("init/src/a/tests.rs", &format!("//! C.\n{code}")),
    ]);
    assert_eq!(budget::check(&thin), []);
    let fat = Tree::of(&[
        ("init/src/a.rs", &format!("//! A.\n{code}")),
        ("init/src/b.rs", &format!("//! B.\n{code}")),
    ]);
    assert_eq!(budget::check(&fat).len(), 1);
}

#[test]
fn a_library_that_uses_a_program_is_found() {
    let text = manifest("ingot-linux", "ingot-init = { workspace = true }");
    let found = deps::check(&Tree::of(&[("lib/linux/Cargo.toml", &text)]));
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn libcontainer_in_the_agent_and_tokio_in_pid_1_are_found() {
    let agent = manifest("ingot-node-agent", "libcontainer = \"1\"\ntokio.workspace = true");
    let helper = manifest("ingot-runc", "libcontainer = \"1\"");
    let init = manifest("ingot-init", "tokio.workspace = true\nrustix.workspace = true");
    let found = deps::check(&Tree::of(&[
        ("node-agent/Cargo.toml", &agent),
        ("node-agent/runc/Cargo.toml", &helper),
        ("init/Cargo.toml", &init),
    ]));
    let found: Vec<_> = found.into_iter().map(|finding| finding.path).collect();
    assert_eq!(found, ["init/Cargo.toml", "node-agent/Cargo.toml"]);
}

#[test]
fn test_and_target_dependencies_follow_the_table_too() {
    let text = "[package]\nname = \"ingot-api\"\n[dev-dependencies]\ningot-ctl.workspace = true\n\
                [target.'cfg(unix)'.dependencies]\ningot-linux.workspace = true\n";
    assert_eq!(deps::check(&Tree::of(&[("api/Cargo.toml", text)])).len(), 2);
}

#[test]
fn a_crate_without_the_workspaces_lints_is_found() {
    let root = "[workspace]\nmembers = [\"a\"]\n";
    let good = manifest("a", "");
    assert_eq!(manifests::check(&Tree::of(&[("Cargo.toml", root), ("a/Cargo.toml", &good)])), []);
    let bad = good.replace("[lints]\nworkspace = true\n", "");
    assert_eq!(
        manifests::check(&Tree::of(&[("Cargo.toml", root), ("a/Cargo.toml", &bad)])).len(),
        1
    );
    let own = good.replace("edition.workspace = true", "edition = \"2015\"");
    assert_eq!(
        manifests::check(&Tree::of(&[("Cargo.toml", root), ("a/Cargo.toml", &own)])).len(),
        1
    );
}

#[test]
fn a_crate_outside_the_workspace_is_found() {
    let text = manifest("b", "");
    let tree =
        Tree::of(&[("Cargo.toml", "[workspace]\nmembers = [\"a\"]\n"), ("b/Cargo.toml", &text)]);
    assert_eq!(manifests::check(&tree).len(), 1);
}

#[test]
fn a_crate_root_outside_the_fence_forbids_unsafe_code() {
    let good = "//! A.\n#![forbid(unsafe_code)]\n";
    let bad = "//! A.\n";
    let tree = Tree::of(&[
        ("a/src/lib.rs", good),
        ("a/src/module.rs", bad),
        ("a/src/module/tests.rs", bad),
        ("b/src/main.rs", bad),
        ("c/src/bin/tool.rs", bad),
        ("d/build.rs", bad),
        ("e/src/build.rs", bad),
        ("lib/linux/src/lib.rs", bad),
    ]);
    let found: Vec<_> =
        unsafe_fence::check(&tree).into_iter().map(|finding| finding.path).collect();
    assert_eq!(found, ["b/src/main.rs", "c/src/bin/tool.rs", "d/build.rs"]);
}

#[test]
fn unsafe_code_is_expected_and_never_allowed() {
    let text = concat!("//! A.\n#![allow(", "unsafe_code)]\n");
    assert_eq!(unsafe_fence::check(&Tree::of(&[("init/src/main.rs", text)])).len(), 1);
}

#[test]
fn a_document_that_names_a_missing_path_is_found() {
    let text = "See `lib/linux/src/{mount,gone}.rs`, `lib/nowhere/`, `/usr/lib/x`, `lib/<name>`, and\n\
                [the other](../README.md) and [this](missing.md) and [that](https://example.org/x).\n";
    let tree = Tree::of(&[("docs/a.md", text), ("README.md", ""), ("lib/linux/src/mount.rs", "")]);
    let found = messages(&docs_paths::check(&tree));
    assert_eq!(
        found,
        [
            "docs/a.md:1: `lib/linux/src/gone.rs` does not exist",
            "docs/a.md:1: `lib/nowhere/` does not exist",
            "docs/a.md:2: link to `missing.md`, which does not exist",
        ]
    );
}

#[test]
fn a_machine_path_and_a_mirror_are_found() {
    let text = concat!("cd /wo", "rk/x\nurl = http://deb.deb", "ian.org/x\nfine = /usr/bin/x\n");
    assert_eq!(machine_paths::check(&Tree::of(&[("a.toml", text)])).len(), 2);
}

#[test]
fn decision_records_are_numbered_and_complete() {
    let good = "# A\n## Context\n## Decision\n## What we gave up\n";
    let tree = Tree::of(&[("docs/decisions/0001-a.md", good), ("docs/decisions/0002-b.md", good)]);
    assert_eq!(decisions::check(&tree), []);
    let gap = Tree::of(&[("docs/decisions/0001-a.md", good), ("docs/decisions/0003-b.md", good)]);
    assert_eq!(decisions::check(&gap).len(), 1);
    let twice = Tree::of(&[("docs/decisions/0001-a.md", good), ("docs/decisions/0001-b.md", good)]);
    assert_eq!(decisions::check(&twice).len(), 1);
    let thin = Tree::of(&[("docs/decisions/0001-a.md", "# A\n## Context\n")]);
    assert_eq!(decisions::check(&thin).len(), 2);
}
