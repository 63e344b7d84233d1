//! What the probe in the guest wrote: `key value` lines, ending with `end`.

use anyhow::{Context as _, bail};

/// One boot's report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    lines: Vec<(String, String)>,
}

/// A process of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    /// Process id.
    pub(super) pid: u32,
    /// Proportional set size in KiB.
    pub(super) pss_kib: u64,
    /// Processor time in nanoseconds.
    pub(super) time_ns: u64,
    /// Threads.
    pub(super) threads: u64,
    /// Name.
    pub(super) name: String,
}

impl Report {
    /// Reads a report; one that was cut off or that tells of an error is an error.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let lines: Vec<_> = text
            .lines()
            .filter_map(|line| line.trim_end().split_once(' '))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let report = Self { lines };
        if let Some(error) = report.texts("error").next() {
            bail!("the probe says: {error}");
        }
        if report.texts("end").next().is_none() {
            bail!("the report has no end: the machine stopped before the probe was done");
        }
        Ok(report)
    }

    /// Every value of a key.
    pub(super) fn texts<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The number of a key.
    pub(super) fn number(&self, key: &str) -> anyhow::Result<u64> {
        let text = self.texts(key).next().with_context(|| format!("the report has no `{key}`"))?;
        text.parse().with_context(|| format!("`{key} {text}` is no number"))
    }

    /// A time stamp in virtual milliseconds since reset.
    pub(super) fn vms(&self, key: &str) -> anyhow::Result<f64> {
        Ok(Self::milliseconds(self.number(key)?))
    }

    /// The processes at a moment, the probe left out.
    pub(super) fn processes(&self, moment: &str) -> Vec<Process> {
        let key = format!("process_{moment}");
        let processes = self.texts(&key).filter_map(|line| {
            let mut words = line.splitn(5, ' ');
            Some(Process {
                pid: words.next()?.parse().ok()?,
                pss_kib: words.next()?.parse().ok()?,
                time_ns: words.next()?.parse().ok()?,
                threads: words.next()?.parse().ok()?,
                name: words.next()?.to_owned(),
            })
        });
        processes.filter(|process| process.name != "probe").collect()
    }

    /// The kernel log as (virtual milliseconds since reset, text).
    pub(super) fn log(&self) -> anyhow::Result<Vec<(f64, String)>> {
        let offset = self.number("clock_offset")?;
        let records = self.texts("log").filter_map(|record| {
            let (head, text) = record.split_once(';')?;
            let microseconds: u64 = head.split(',').nth(2)?.parse().ok()?;
            Some((Self::milliseconds(offset + microseconds * 1000), text.to_owned()))
        });
        Ok(records.collect())
    }

    /// Nanoseconds as milliseconds. Exact to below a nanosecond for a hundred days.
    #[expect(clippy::cast_precision_loss, reason = "times are far below 2^52 nanoseconds")]
    pub(super) fn milliseconds(nanoseconds: u64) -> f64 {
        nanoseconds as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_processes_and_the_kernel_log_are_read() {
        let text = "pid1 1500000\nclock_offset 1000000\nprocess_idle 1 800 5 1 ingot-init\n\
                    process_idle 9 800 5 1 probe\nlog 6,1,2000,-;hello world\r\nend 0\n";
        let report = Report::parse(text).expect("a whole report");
        assert!((report.vms("pid1").expect("there") - 1.5).abs() < 1e-9);
        assert_eq!(report.processes("idle").len(), 1);
        assert_eq!(report.log().expect("a log"), [(3.0, "hello world".to_owned())]);
    }

    #[test]
    fn a_report_that_was_cut_off_or_tells_of_an_error_is_refused() {
        assert!(Report::parse("pid1 1\n").is_err());
        let error = Report::parse("error no certificate\nend 0\n").expect_err("an error");
        assert!(error.to_string().contains("no certificate"));
    }
}
