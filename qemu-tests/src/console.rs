//! The serial console of a machine, as QEMU writes it to a file. Reads only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::wait;

/// The console of one machine, from power-on to now, across reboots.
#[derive(Debug, Clone)]
pub struct Console {
    path: PathBuf,
}

impl Console {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file QEMU writes to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything printed so far, without terminal control sequences.
    pub fn text(&self) -> anyhow::Result<String> {
        let bytes = fs_err::read(&self.path)?;
        Ok(strip_control(&String::from_utf8_lossy(&bytes)))
    }

    /// Number of characters printed so far: a position for [`Console::wait_for_text_after`].
    pub fn position(&self) -> anyhow::Result<usize> {
        Ok(self.text()?.len())
    }

    /// Waits until `text` is on the console, and returns the rest of the line that follows it.
    pub async fn wait_for_text(&self, text: &str, limit: Duration) -> anyhow::Result<String> {
        self.wait_for_text_after(0, text, limit).await
    }

    /// Like [`Console::wait_for_text`], but what was printed before `position` does not count.
    pub async fn wait_for_text_after(
        &self,
        position: usize,
        text: &str,
        limit: Duration,
    ) -> anyhow::Result<String> {
        wait::until(&format!("the console to show {text:?}"), limit, async || {
            let printed = self.text()?;
            let fresh = printed.get(position..).unwrap_or_default();
            // Only complete lines: the console may be in the middle of the one that matters.
            Ok(fresh
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .find_map(|line| line.split_once(text).map(|(_, rest)| rest.trim_end().to_owned())))
        })
        .await
    }

    /// The last `count` lines, for an error message.
    #[must_use]
    pub fn tail(&self, count: usize) -> String {
        let text = self.text().unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// Drops escape sequences (CSI only: all that firmware and our status screen use) and carriage returns.
fn strip_control(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next() == Some('[') {
                    // A CSI sequence ends with a byte from '@' to '~'.
                    let _end = characters.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            '\r' | '\0' => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::strip_control;

    #[test]
    fn escape_sequences_are_not_part_of_the_text() {
        assert_eq!(strip_control("\u{1b}[01;01H\u{1b}[=3hBoot\r\n\u{1b}[0m ok"), "Boot\n ok");
    }
}
