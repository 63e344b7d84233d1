//! Runs a program of the host beside the machines: with a deadline, and killed when nobody waits for it any more.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::AsyncWriteExt as _;

/// How a program ended, and what it said.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The command line, to name it in errors.
    pub words: String,
    /// Whether its exit code was 0.
    pub succeeded: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// The standard output of a program that succeeded.
    pub fn ok(self) -> anyhow::Result<String> {
        ensure!(self.succeeded, "`{}` failed: {}", self.words, self.said());
        Ok(self.stdout)
    }

    /// What a program said that had to fail, with each of `parts` in it.
    pub fn refused(self, parts: &[&str]) -> anyhow::Result<String> {
        let said = self.said();
        ensure!(!self.succeeded, "`{}` succeeded: {said}", self.words);
        for part in parts {
            ensure!(said.contains(part), "`{}` does not say {part:?}: {said}", self.words);
        }
        Ok(said)
    }

    /// Everything it said.
    #[must_use]
    pub fn said(&self) -> String {
        format!("{}\n{}", self.stdout.trim(), self.stderr.trim()).trim().to_owned()
    }
}

/// Runs `command` to its end with `input` on its standard input.
pub async fn run(command: Command, input: &str, limit: Duration) -> anyhow::Result<Ran> {
    let words = described(&command);
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("start `{words}`"))?;
    let mut stdin = child.stdin.take().context("a program has no standard input")?;
    let input = input.to_owned();
    // Beside us: it may answer before it has read everything. A program that reads nothing is no error.
    let writing = tokio::task::spawn(async move {
        let _closed_early = stdin.write_all(input.as_bytes()).await;
    });
    let ended = tokio::time::timeout(limit, child.wait_with_output()).await;
    writing.abort();
    let Ok(output) = ended else {
        bail!("`{words}` did not end in {} s", limit.as_secs());
    };
    let output = output.with_context(|| format!("wait for `{words}`"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran {
        words,
        succeeded: output.status.success(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    })
}

/// The command's own words, without the program's path and the flags that every call has.
fn described(command: &Command) -> String {
    let words: Vec<String> =
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let name = std::path::Path::new(command.get_program());
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{name} {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_program_hears_its_input_and_its_end_is_told() {
        let limit = Duration::from_secs(60);
        let ran = run(shell("cat; echo no >&2; exit 3"), "hello", limit).await.expect("it runs");
        assert_eq!((ran.stdout.as_str(), ran.succeeded), ("hello", false));
        assert!(ran.clone().ok().is_err());
        assert!(ran.clone().refused(&["yes"]).is_err());
        ran.refused(&["hello", "no"]).expect("it was refused");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_an_error_that_names_it() {
        let error = run(shell("sleep 600"), "", Duration::from_millis(50)).await;
        let text = format!("{:#}", error.expect_err("it hangs"));
        assert!(text.contains("sleep 600"), "{text}");
    }
}
