//! What a run of the suites found, printed while it runs: one line for each check, and a last line to count them.

use std::time::Instant;

use crate::machine::Machine;

/// The outcome of a run.
#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    failed: usize,
    skipped: usize,
    suite: String,
}

impl Report {
    /// Everything checked from here on belongs to `suite`.
    pub fn begin(&mut self, suite: &str) {
        suite.clone_into(&mut self.suite);
        println!("\n{suite}");
    }

    /// Something worth reading beside the checks: a seed, a measured number.
    pub fn note(&mut self, text: &str) {
        println!("        {text}");
    }

    /// Runs one check against a machine. A failure is printed with its evidence folder; the run goes on.
    pub async fn check(
        &mut self,
        name: &str,
        machine: &mut Machine,
        test: impl AsyncFnOnce(&mut Machine) -> anyhow::Result<()>,
    ) {
        let begin = Instant::now();
        let result = test(machine).await;
        let Err(error) = result else { return self.ok(name, begin) };
        self.failed(name, begin, &error);
        match machine.keep_evidence(name, &format!("{error:?}")).await {
            Ok(folder) => println!("        evidence: {}", folder.display()),
            Err(error) => println!("        no evidence: {error:#}"),
        }
    }

    /// Runs one check that needs no machine, or makes its own.
    pub async fn check_alone(&mut self, name: &str, test: impl Future<Output = anyhow::Result<()>>) {
        let begin = Instant::now();
        match test.await {
            Ok(()) => self.ok(name, begin),
            Err(error) => self.failed(name, begin, &error),
        }
    }

    /// A check that is not run now, and why.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.skipped += 1;
        println!("skipped {name} ({why})");
    }

    /// Adds checks that were counted elsewhere.
    pub fn add(&mut self, passed: usize, failed: usize, skipped: usize) {
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
    }

    /// Whether nothing failed so far.
    #[must_use]
    pub fn all_passed(&self) -> bool {
        self.failed == 0
    }

    /// The last line: `N passed, N failed`, and `, N skipped` where something was.
    #[must_use]
    pub fn summary(&self) -> String {
        let skipped =
            if self.skipped == 0 { String::new() } else { format!(", {} skipped", self.skipped) };
        format!("{} passed, {} failed{skipped}", self.passed, self.failed)
    }

    fn ok(&mut self, name: &str, begin: Instant) {
        self.passed += 1;
        println!("ok      {name} ({} s)", begin.elapsed().as_secs());
    }

    fn failed(&mut self, name: &str, begin: Instant, error: &anyhow::Error) {
        self.failed += 1;
        println!("FAILED  {name} ({} s)", begin.elapsed().as_secs());
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
        let mut report = Report::default();
        report.add(3, 1, 0);
        assert_eq!(report.summary(), "3 passed, 1 failed");
        report.add(0, 0, 2);
        assert_eq!(report.summary(), "3 passed, 1 failed, 2 skipped");
    }
}
