//! A problem: where in the config something is wrong, what it is, and what to write instead.
//!
//! Problems are values to be shown, not errors to be returned: [`crate::load`] collects all of them.

use std::fmt;

/// One thing that is wrong with a config.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Index of the YAML document in the stream, from 0.
    pub document: u32,
    /// Line in the stream, from 1; 0 when not known.
    pub line: u32,
    /// Column in the line, from 1, in characters; 0 when not known.
    pub column: u32,
    /// Path in the document, like `network.links[0].addresses[1]`; empty for the document itself.
    pub path: String,
    /// What is wrong. Never holds the value of a secret.
    pub message: String,
    /// What to write instead; may be empty.
    pub hint: String,
}

impl fmt::Display for Problem {
    /// One line for people: `line 4, network.hostname: message (hint)`, without the parts that are not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.path.as_str()) {
            (0, "") => {}
            (0, path) => write!(f, "{path}: ")?,
            (line, "") => write!(f, "line {line}: ")?,
            (line, path) => write!(f, "line {line}, {path}: ")?,
        }
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

/// Most problems that are kept; nobody reads more, and they travel in one reply.
pub(crate) const MAX_PROBLEMS: usize = 500;

/// Problems as they are found: the first [`MAX_PROBLEMS`] are kept, the others counted.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    kept: Vec<Problem>,
    dropped: usize,
}

impl Problems {
    pub(crate) fn push(&mut self, problem: Problem) {
        if self.is_full() {
            self.dropped += 1;
        } else {
            self.kept.push(problem);
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        other.kept.into_iter().for_each(|problem| self.push(problem));
        self.dropped += other.dropped;
    }

    /// True when another problem would only be counted, so that wording it is not worth the time.
    pub(crate) fn is_full(&self) -> bool {
        self.kept.len() >= MAX_PROBLEMS
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.kept.iter()
    }

    /// Those that were kept, by place in the text, and a last one that tells how many were not.
    pub(crate) fn finish(self) -> Vec<Problem> {
        let Self { mut kept, dropped } = self;
        let place = |problem: &Problem| (problem.document, problem.line, problem.column);
        kept.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.path.cmp(&b.path)));
        kept.dedup();
        if dropped > 0 {
            let message = format!("and {dropped} more problems");
            kept.push(Problem { message, ..Problem::default() });
        }
        kept
    }
}
