//! The report: `key value` lines on the second serial port, which the bench reads from a file. Lines are collected in
//! memory and written at the end, so that reporting costs nothing while the clock runs.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;

use anyhow::Context as _;

/// The second serial port.
const PORT: &str = "/dev/ttyS1";

/// An unfinished report.
#[derive(Debug)]
pub(crate) struct Report {
    port: File,
    text: String,
}

impl Report {
    /// Opens the port.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let port =
            OpenOptions::new().write(true).open(PORT).with_context(|| format!("open {PORT}"))?;
        Ok(Self { port, text: String::new() })
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.text(key, &value.to_string());
    }

    /// Adds one line of text.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        let _never_fails = writeln!(self.text, "{key} {}", value.replace(['\n', '\r'], " "));
    }

    /// Writes everything and waits until it left the port.
    pub(crate) fn finish(mut self) {
        self.text.push_str("end 0\n");
        // Nobody else can be told that the port is broken; the bench misses the `end` line and says so.
        let _lost = self.port.write_all(self.text.as_bytes());
        let _lost = rustix::termios::tcdrain(&self.port);
    }
}
