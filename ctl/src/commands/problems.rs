//! How a refused config is shown, whether we or a node found the problems; and reading configs.

use crate::failure::{Exit, Failure};
use crate::text;
use std::io::Read;
use std::path::Path;

/// A config stream has at most this many bytes; the API says so too.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// One problem, borrowed from wherever it was found.
pub(super) struct Shown<'a> {
    pub(super) path: &'a str,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) message: &'a str,
    pub(super) hint: &'a str,
}

/// A file as errors name it.
pub(super) fn name(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

/// Reads a config from a file, or from standard input for `-`.
pub(super) fn read(file: &Path) -> Result<String, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::usage(format!("cannot read {}", name(file))).because(error)
    };
    let mut text = String::new();
    let limit = CONFIG_BYTES_MAX + 1;
    let count = if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    let count = count.map_err(|error| failed(&error))?;
    if u64::try_from(count).is_ok_and(|count| count > CONFIG_BYTES_MAX) {
        return Err(Failure::new(Exit::Refused, format!("{} is larger than 4 MiB", name(file))));
    }
    Ok(text)
}

/// The failure of a refused config: every problem with its place and what to write instead.
pub(super) fn refused<'a>(file: &Path, problems: impl Iterator<Item = Shown<'a>>) -> Failure {
    let mut details = String::new();
    let mut count = 0;
    for problem in problems {
        count += 1;
        details += &format!("\n{}", place(file, &problem));
        if !problem.path.is_empty() {
            details += &format!("  {}", text::printable(problem.path));
        }
        details += &format!("\n    {}\n", text::printable(problem.message));
        if !problem.hint.is_empty() {
            details += &format!("    hint: {}\n", text::printable(problem.hint));
        }
    }
    let noun = if count == 1 { "problem" } else { "problems" };
    let message = format!("{} has {count} {noun}; nothing was changed", name(file));
    Failure::new(Exit::Refused, message).details(details)
}

fn place(file: &Path, problem: &Shown<'_>) -> String {
    match (problem.line, problem.column) {
        (0, _) => name(file),
        (line, 0) => format!("{}:{line}", name(file)),
        (line, column) => format!("{}:{line}:{column}", name(file)),
    }
}
