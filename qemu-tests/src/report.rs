//! What a run of the suites found, printed while it runs: one line for each check, and a last line to count them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use crate::machine::Machine;

/// The counts of a run, shared by the reports of its suites.
#[derive(Debug, Default)]
struct Counts {
    passed: Cell<usize>,
    failed: Cell<usize>,
    skipped: Cell<usize>,
    last_words: RefCell<Vec<String>>,
}

/// Takes the outcomes of one suite. Clones for other suites count together; suites may run side by side, so every line
/// names its suite.
#[derive(Debug, Clone, Default)]
pub struct Report {
    counts: Rc<Counts>,
    suite: &'static str,
}

impl Report {
    /// The report for the checks of `suite`.
    #[must_use]
    pub fn suite(&self, suite: &'static str) -> Self {
        Self { counts: Rc::clone(&self.counts), suite }
    }

    /// Something worth reading beside the checks: a seed, a measured number.
    pub fn note(&self, text: &str) {
        println!("        {}: {text}", self.suite);
    }

    /// Runs one check against a machine. A failure is printed with its evidence folder; the run goes on.
    pub async fn check(
        &self,
        name: &str,
        machine: &mut Machine,
        test: impl AsyncFnOnce(&mut Machine) -> anyhow::Result<()>,
    ) {
        let begin = Instant::now();
        let result = test(machine).await;
        let Err(error) = result else { return self.passed(name, begin) };
        self.failed(name, begin, &error);
        match machine.keep_evidence(name, &format!("{error:?}")).await {
            Ok(folder) => println!("        evidence: {}", folder.display()),
            Err(error) => println!("        no evidence: {error:#}"),
        }
    }

    /// Runs one check that needs no machine, or makes its own.
    pub async fn check_alone(&self, name: &str, test: impl Future<Output = anyhow::Result<()>>) {
        let begin = Instant::now();
        match test.await {
            Ok(()) => self.passed(name, begin),
            Err(error) => self.failed(name, begin, &error),
        }
    }

    /// A check that is not run now, and why.
    pub fn skip(&self, name: &str, why: &str) {
        self.add(0, 0, 1);
        println!("skipped {}: {name} ({why})", self.suite);
    }

    /// Adds checks that were printed elsewhere.
    pub fn add(&self, passed: usize, failed: usize, skipped: usize) {
        self.counts.passed.set(self.counts.passed.get() + passed);
        self.counts.failed.set(self.counts.failed.get() + failed);
        self.counts.skipped.set(self.counts.skipped.get() + skipped);
    }

    /// Something to be read after everything else: what could not be run at all, why, and what would help.
    pub fn last_word(&self, text: &str) {
        self.counts.last_words.borrow_mut().push(text.to_owned());
    }

    /// What is to be printed before the last line.
    #[must_use]
    pub fn last_words(&self) -> Vec<String> {
        self.counts.last_words.borrow().clone()
    }

    /// Whether nothing failed so far.
    #[must_use]
    pub fn all_passed(&self) -> bool {
        self.counts.failed.get() == 0
    }

    /// The last line: `N passed, N failed`, and `, N skipped` where something was.
    #[must_use]
    pub fn summary(&self) -> String {
        let (passed, failed) = (self.counts.passed.get(), self.counts.failed.get());
        let skipped = match self.counts.skipped.get() {
            0 => String::new(),
            count => format!(", {count} skipped"),
        };
        format!("{passed} passed, {failed} failed{skipped}")
    }

    /// Prints and counts a check that passed.
    pub fn passed(&self, name: &str, begin: Instant) {
        self.add(1, 0, 0);
        println!("ok      {}: {name} ({} s)", self.suite, begin.elapsed().as_secs());
    }

    /// Prints and counts a check that failed.
    pub fn failed(&self, name: &str, begin: Instant, error: &anyhow::Error) {
        self.add(0, 1, 0);
        println!("FAILED  {}: {name} ({} s)", self.suite, begin.elapsed().as_secs());
        for line in format!("{error:#}").lines() {
            println!("        {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn the_summary_names_skipped_checks_only_when_there_are_any() {
        let report = Report::default();
        report.add(3, 1, 0);
        assert_eq!(report.summary(), "3 passed, 1 failed");
        report.suite("other").add(0, 0, 2);
        assert_eq!(report.summary(), "3 passed, 1 failed, 2 skipped");
    }
}
