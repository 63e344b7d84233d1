//! No function over 70 lines, no file over 500 production lines. Median code needs no rule; this is about the tail.

use syn::spanned::Spanned as _;
use syn::visit::Visit;

use super::{Finding, Tree, source};

/// Longest function, in lines from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Longest file, in lines, tests left out.
const FILE_LINES_MAX: usize = 500;

/// Functions that may be longer, as (file, function, lines). The list may only shrink: an entry that is not needed, or
/// that allows more than is needed, is a finding.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Files and functions that are too long.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    check_with(tree, LONG_FUNCTIONS)
}

/// The rule with its naughty list as an argument.
pub(super) fn check_with(tree: &Tree, naughty: &[(&str, &str, usize)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = Vec::new();
    for (path, text) in tree.rust() {
        let file = match syn::parse_file(text) {
            Ok(file) => file,
            Err(error) => {
                findings.push(Finding::at(path, error.span().start().line, format!("{error}")));
                continue;
            }
        };
        let lines = source::production_lines(text, &file).len();
        if lines > FILE_LINES_MAX && !source::is_test_file(path) {
            let message =
                format!("{lines} production lines; split the file, {FILE_LINES_MAX} is the most");
            findings.push(Finding::file(path, message));
        }
        let mut functions = Functions::default();
        functions.visit_file(&file);
        for function in functions.found {
            let entry =
                naughty.iter().find(|(file, name, _)| *file == path && function.name == *name);
            used.extend(entry.filter(|entry| entry.2 == function.lines));
            if entry.is_none_or(|entry| entry.2 < function.lines) {
                let message = format!(
                    "`{}` has {} lines; {FUNCTION_LINES_MAX} is the most",
                    function.name, function.lines
                );
                findings.push(Finding::at(path, function.line, message));
            }
        }
    }
    let stale = naughty.iter().filter(|entry| !used.contains(entry));
    findings.extend(stale.map(|(path, name, lines)| {
        Finding::file(
            path,
            format!("`{name}` no longer has {lines} lines; shrink its entry in the list"),
        )
    }));
    findings
}

/// A function over the limit.
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// Collects functions over the limit, free and associated, nested ones too.
#[derive(Default)]
struct Functions {
    found: Vec<Function>,
}

impl Functions {
    fn see(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let lines = block.span().end().line.saturating_sub(first).saturating_add(1);
        if lines > FUNCTION_LINES_MAX {
            self.found.push(Function { name: signature.ident.to_string(), line: first, lines });
        }
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.see(&function.sig, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.see(&function.sig, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }
}
