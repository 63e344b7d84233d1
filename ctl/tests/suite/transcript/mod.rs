//! Runs the real program and keeps what it said: command, output, errors and exit code as one text, compared with a
//! file in `golden/`. `UPDATE=1 cargo test -p ingot-ctl` rewrites the files; read the difference before committing it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory of its own for one test, and the words in it that change from run to run.
pub(crate) struct Shell {
    pub(crate) directory: tempfile::TempDir,
    replaced: Vec<(String, &'static str)>,
}

impl Shell {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap().to_owned();
        Self { directory, replaced: vec![(path, "DIR")] }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Says that this word differs from run to run.
    pub(crate) fn replace(&mut self, word: impl Into<String>, with: &'static str) {
        self.replaced.push((word.into(), with));
    }

    /// One run of the program, as a transcript.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.run_with(arguments, "")
    }

    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> String {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ingotctl"))
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("HOME", self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that wants no input may be gone already.
        let _unread = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let mut text = format!("$ ingotctl {}\n{stdout}", arguments.join(" "));
        if !stderr.is_empty() {
            text += &format!("--- stderr\n{stderr}");
        }
        if !text.ends_with('\n') {
            text += "\n(no line end)\n";
        }
        text += &format!("--- exit {}\n", output.status.code().unwrap());
        for (word, with) in &self.replaced {
            text = text.replace(word, with);
        }
        text
    }
}

/// Compares a text with `golden/<name>`, or rewrites the file.
#[track_caller]
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    check(&path, text);
}

/// Compares a text with a file of the repository, or rewrites the file.
#[track_caller]
pub(crate) fn check(path: &Path, text: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        wanted == text,
        "{} is stale; look at the difference, then UPDATE=1\n--- is\n{text}",
        path.display()
    );
}
