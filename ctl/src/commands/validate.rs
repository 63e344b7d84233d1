//! `validate`: checks a config on this machine, as the node of this release would.

use super::problems::{Shown, name, read, refused};
use crate::cli::{Format, Validate};
use crate::failure::{Exit, Failure};
use crate::session::Session;
use ingot_machine_config::Problem;
use serde::Serialize;

/// A problem for programs.
#[derive(Serialize)]
struct Item<'a> {
    document: u32,
    line: u32,
    column: u32,
    path: &'a str,
    message: &'a str,
    hint: &'a str,
}

#[derive(Serialize)]
struct Answer<'a> {
    problems: Vec<Item<'a>>,
}

pub(super) fn run(session: &Session<'_>, args: &Validate) -> Result<(), Failure> {
    let text = read(&args.file)?;
    let loaded = ingot_machine_config::load(&text);
    if session.output.format != Format::Table {
        session.output.data(&Answer { problems: items(&loaded.problems) }, false)?;
        if loaded.problems.is_empty() {
            return Ok(());
        }
        // The problems are in the answer; a program wants no prose beside it.
        return Err(Failure::new(Exit::Refused, format!("{} has problems", name(&args.file))));
    }
    let Some(config) = loaded.config else {
        let shown = loaded.problems.iter().map(|problem| Shown {
            path: &problem.path,
            line: problem.line,
            column: problem.column,
            message: &problem.message,
            hint: &problem.hint,
        });
        return Err(refused(&args.file, shown));
    };
    let pods = config.pods.len();
    let noun = if pods == 1 { "pod" } else { "pods" };
    session.output.text(&format!("{} is valid: a machine and {pods} {noun}\n", name(&args.file)))
}

fn items(problems: &[Problem]) -> Vec<Item<'_>> {
    problems
        .iter()
        .map(|problem| Item {
            document: problem.document,
            line: problem.line,
            column: problem.column,
            path: &problem.path,
            message: &problem.message,
            hint: &problem.hint,
        })
        .collect()
}
