//! Says what the builder is doing, because some steps take a minute.
//!
//! The library never prints by itself: it calls a [`Progress`] that its caller chose.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Receives what the builder does, in words for a person.
pub trait Progress {
    /// A step begins. The text stands alone, for example "building the verity tree".
    fn step(&self, text: &str);
    /// Something inside the current step moved, for example "42 of 137 packages". May be dropped.
    fn detail(&self, text: &str);
    /// Something a person must not miss, but which does not stop the build.
    fn notice(&self, text: &str);
}

/// Says nothing: for tests.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _text: &str) {}
    fn detail(&self, _text: &str) {}
    fn notice(&self, _text: &str) {}
}

/// Writes to standard error: one line for each step, and on a terminal a moving line for the details.
#[derive(Debug)]
pub struct Terminal {
    bar: Option<ProgressBar>,
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Terminal {
    /// A reporter for this process's standard error.
    #[must_use]
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

impl Progress for Terminal {
    fn step(&self, text: &str) {
        self.line(&format!("  {text}"));
        if let Some(bar) = &self.bar {
            bar.set_message("");
        }
    }

    fn detail(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    fn notice(&self, text: &str) {
        self.line(&format!("  note: {text}"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
