//! What a change must pass: format, lints, house rules, dependencies. CI runs this and the tests, nothing more. Every
//! step runs even when an earlier one failed, so that one run tells everything.

mod licences;
#[cfg(test)]
mod tests;

use anyhow::{Context as _, bail};

use crate::{tidy, workspace};

/// Arguments of `cargo xtask check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only these steps.
    #[arg(value_name = "STEP")]
    steps: Vec<Step>,
}

/// A step of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Step {
    /// rustfmt changes nothing.
    Format,
    /// clippy is silent, for all targets.
    Clippy,
    /// The house rules of docs/style.md.
    Tidy,
    /// Licences, sources and banned crates, from deny.toml.
    Licences,
}

/// Steps in the order they run: the quick ones first.
const STEPS: [Step; 4] = [Step::Format, Step::Tidy, Step::Licences, Step::Clippy];

/// Runs `cargo xtask check`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for step in STEPS.into_iter().filter(|step| args.steps.is_empty() || args.steps.contains(step))
    {
        let name = format!("{step:?}").to_lowercase();
        println!("check {name}");
        if let Err(error) = perform(step) {
            println!("check {name} FAILED: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("check failed: {}", failed.join(", "));
    }
    println!("check passed");
    Ok(())
}

fn perform(step: Step) -> anyhow::Result<()> {
    match step {
        Step::Format => workspace::run(workspace::cargo().args(["fmt", "--all", "--check"]))
            .context("`cargo fmt` puts it right"),
        Step::Clippy => {
            let words =
                ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
            workspace::run(workspace::cargo().args(words))
        }
        Step::Tidy => {
            let tree = tidy::Tree::read(&workspace::root())?;
            let findings = tidy::findings(&tree);
            for (rule, finding) in &findings {
                println!("  {rule}: {finding}");
            }
            match findings.len() {
                0 => Ok(()),
                count => {
                    bail!("{count} breaches of the house rules; docs/style.md gives the reasons")
                }
            }
        }
        Step::Licences => licences::check(),
    }
}
