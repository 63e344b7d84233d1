//! The house rules that no compiler knows, one file per rule. A rule reads the tracked files and returns findings; it
//! never changes a file and never runs a program, so each rule is tested on a tree written in the test.

mod budget;
mod decisions;
mod deps;
mod docs_paths;
mod headers;
mod lengths;
mod machine_paths;
mod manifests;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod unsafe_fence;

pub(crate) use tree::Tree;

/// One breach of a house rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// File below the root of the repository.
    pub(crate) path: String,
    /// Line in that file, from 1; 0 when the finding is about the file as a whole.
    pub(crate) line: usize,
    /// What is wrong and what to do instead.
    pub(crate) message: String,
}

impl Finding {
    /// A finding at one line.
    fn at(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }

    /// A finding about a whole file.
    fn file(path: &str, message: impl Into<String>) -> Self {
        Self::at(path, 0, message)
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// A house rule: its name, as printed beside each finding, and its check.
pub(crate) struct Rule {
    /// Short name; also the name of the file that holds it.
    pub(crate) name: &'static str,
    /// Looks at the whole tree.
    pub(crate) check: fn(&Tree) -> Vec<Finding>,
}

/// Every rule. `docs/style.md` gives the reason for each.
pub(crate) const RULES: &[Rule] = &[
    Rule { name: "headers", check: headers::check },
    Rule { name: "lengths", check: lengths::check },
    Rule { name: "budget", check: budget::check },
    Rule { name: "deps", check: deps::check },
    Rule { name: "manifests", check: manifests::check },
    Rule { name: "unsafe_fence", check: unsafe_fence::check },
    Rule { name: "docs_paths", check: docs_paths::check },
    Rule { name: "machine_paths", check: machine_paths::check },
    Rule { name: "decisions", check: decisions::check },
];

/// Findings of every rule, with the rule's name, in a fixed order.
pub(crate) fn findings(tree: &Tree) -> Vec<(&'static str, Finding)> {
    let mut all = Vec::new();
    for rule in RULES {
        let mut found = (rule.check)(tree);
        found.sort();
        all.extend(found.into_iter().map(|finding| (rule.name, finding)));
    }
    all
}
