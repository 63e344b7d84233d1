//! Sends what the agent logs to the kernel log, one record a line, at a bounded rate; to standard error where there is no
//! kernel log to write to (tests). Spans are not kept: events name what they are about.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

/// Records at once, after a quiet time.
const BURST: f64 = 200.0;
/// Records a second in the long run. The kernel's ring is small, and the last words before a crash must still be in it.
const RATE: f64 = 20.0;
/// Longest record in bytes; the kernel takes about 1000.
const RECORD_MAX: usize = 900;

/// Makes the kernel log the place where `tracing` events go.
pub(crate) fn start(debug: bool) {
    // The kernel drops what user space writes beyond ten lines in five seconds, and we have a bound of our own.
    // Refused where the command line has decided otherwise, which is fine.
    let _ = std::fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    let sink = OpenOptions::new().write(true).open("/dev/kmsg").ok();
    let level = if debug { Level::DEBUG } else { Level::INFO };
    let state = Mutex::new(Budget { tokens: BURST, last: Instant::now(), suppressed: 0 });
    // Fails only when a subscriber is set already; there is one call.
    let _ = tracing::subscriber::set_global_default(KernelLog { sink, level, state });
}

struct Budget {
    tokens: f64,
    last: Instant,
    suppressed: u64,
}

impl Budget {
    /// Whether one more record may go out.
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        self.tokens = (self.tokens + passed * RATE).min(BURST);
        if self.tokens < 1.0 {
            self.suppressed += 1;
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

struct KernelLog {
    sink: Option<File>,
    level: Level,
    state: Mutex<Budget>,
}

impl KernelLog {
    fn write(&self, severity: u8, line: &str) {
        let mut end = line.len().min(RECORD_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        // Facility 3 is "system daemons".
        let record = format!("<{}>ingotd: {}\n", 3 * 8 + severity, &line[..end]);
        // There is nobody to tell that the log cannot be written.
        let _ = match &self.sink {
            Some(file) => (&*file).write_all(record.as_bytes()),
            None => std::io::stderr().write_all(record.as_bytes()),
        };
    }
}

impl Subscriber for KernelLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries speak at their debug level about every packet; ours are the ones worth the ring.
        let ours = metadata.target().starts_with("ingot");
        *metadata.level() <= if ours { self.level } else { Level::WARN }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let suppressed = {
            let mut budget = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if !budget.take(Instant::now()) {
                return;
            }
            std::mem::take(&mut budget.suppressed)
        };
        if suppressed > 0 {
            self.write(4, &format!("{suppressed} log lines suppressed, going on"));
        }
        let severity = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        self.write(severity, &format!("{}{}", line.message, line.fields));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            let _ = write!(self.fields, " {}={value}", field.name());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_log_has_a_bound_and_recovers() {
        let start = Instant::now();
        let mut budget = Budget { tokens: BURST, last: start, suppressed: 0 };
        let taken = (0..1000).filter(|_| budget.take(start)).count();
        assert_eq!(taken, 200);
        assert_eq!(budget.suppressed, 800);
        assert!(budget.take(start + Duration::from_secs(1)));
    }
}
