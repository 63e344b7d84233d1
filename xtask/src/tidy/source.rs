//! What several rules ask of a Rust file: is it test code, which lines are production lines. Parses, judges nothing.

use std::collections::BTreeSet;

use syn::spanned::Spanned as _;
use syn::visit::Visit;

/// Whether the whole file is test code, by its place: `tests/`, `tests.rs`, `benches/`, `fuzz/`.
pub(crate) fn is_test_file(path: &str) -> bool {
    let mut parts = path.split('/').rev();
    parts.next() == Some("tests.rs")
        || parts.any(|part| matches!(part, "tests" | "benches" | "fuzz" | "examples"))
}

/// Whether an item is compiled for tests only.
pub(crate) fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

/// How many lines of a file are production lines: all but those of `#[cfg(test)]` modules.
pub(crate) fn production_lines(text: &str, file: &syn::File) -> BTreeSet<usize> {
    let mut lines: BTreeSet<usize> = (1..=text.lines().count()).collect();
    let mut modules = TestModules::default();
    modules.visit_file(file);
    for (first, last) in modules.ranges {
        lines.retain(|line| !(first..=last).contains(line));
    }
    lines
}

/// Of some lines, those that hold code: neither blank nor a comment from end to end.
pub(crate) fn code_lines(text: &str, lines: &BTreeSet<usize>) -> usize {
    let is_code = |line: &str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("//")
    };
    text.lines().zip(1..).filter(|(line, number)| lines.contains(number) && is_code(line)).count()
}

/// Finds the first and last lines of test-only modules.
#[derive(Default)]
struct TestModules {
    ranges: Vec<(usize, usize)>,
}

impl<'ast> Visit<'ast> for TestModules {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if is_test_only(&module.attrs) {
            let span = module.span();
            self.ranges.push((span.start().line, span.end().line));
        } else {
            syn::visit::visit_item_mod(self, module);
        }
    }
}
