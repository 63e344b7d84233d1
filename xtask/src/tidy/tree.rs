//! The files a rule may look at: what git tracks or would track, read once. Holds text only; no rule lives here.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

/// Path below the root of the repository, with `/`, to the file's text. Binary files are present with empty text.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads every file that git tracks, and every new one that it does not ignore, below `root`.
    ///
    /// Errors: git is missing or `root` is no git checkout; a file cannot be read.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("start `git ls-files`")?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            bail!("`git ls-files` ended with {}: {}", output.status, reason.trim());
        }
        let mut files = BTreeMap::new();
        for name in String::from_utf8_lossy(&output.stdout).split('\0').filter(|n| !n.is_empty()) {
            let path = root.join(name);
            // Deleted but not yet committed, or a symbolic link: nothing of ours to read.
            if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            let bytes = fs_err::read(&path)?;
            files.insert(name.to_owned(), String::from_utf8(bytes).unwrap_or_default());
        }
        Ok(Self { files })
    }

    /// A tree written by hand.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        Self { files: files.collect() }
    }

    /// Every file with its text, in path order.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Every Rust source file.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| path.ends_with(".rs"))
    }

    /// Every package manifest, that is each `Cargo.toml` but the one of the workspace.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| path.ends_with("/Cargo.toml"))
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file or a directory with files is at this path.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let directory = format!("{path}/");
        self.files.contains_key(path)
            || self
                .files
                .range(directory.clone()..)
                .next()
                .is_some_and(|(p, _)| p.starts_with(&directory))
    }

    /// The first part of every path: what `ls` shows at the root.
    pub(crate) fn top_level(&self) -> Vec<&str> {
        let mut names: Vec<_> =
            self.files.keys().filter_map(|path| path.split('/').next()).collect();
        names.dedup();
        names
    }
}
