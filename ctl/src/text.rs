//! Values as people read them: sizes, times, modes; and text of others made harmless for terminals.

use prost_types::{Duration, Timestamp};
use std::borrow::Cow;

/// Replaces what a terminal would obey (escape sequences, carriage returns) by visible escapes. Keeps tabs and line ends.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| (c.is_control() && c != '\n' && c != '\t') || is_direction(c);
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if obeyed(c) { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    Cow::Owned(clean)
}

/// Characters that reorder the text around them.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes in the largest binary unit that keeps at least one digit before the point: `64.0 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Tenths of the unit, in integers: no rounding surprises at the borders.
    let mut unit = 0;
    let mut scale: u64 = 1024;
    while unit + 1 < UNITS.len() && count / scale >= 1024 {
        scale *= 1024;
        unit += 1;
    }
    let tenths = u128::from(count) * 10 / u128::from(scale);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).copied().unwrap_or_default())
}

/// A limit where 0 means none.
pub(crate) fn limit(value: u64, show: impl Fn(u64) -> String) -> String {
    if value == 0 { "-".to_owned() } else { show(value) }
}

/// Microseconds as seconds: `12.500s`.
pub(crate) fn seconds(usec: u64) -> String {
    format!("{}.{:03}s", usec / 1_000_000, usec / 1000 % 1000)
}

/// A share of time in percent: `74.5%`.
pub(crate) fn percent(value: f64) -> String {
    format!("{value:.1}%")
}

/// A duration in its two largest units: `1d2h`, `3m5s`, `12s`.
pub(crate) fn duration(duration: Option<&Duration>) -> String {
    let Some(duration) = duration else { return "-".to_owned() };
    let total = duration.seconds.max(0);
    let (days, hours, minutes, seconds) =
        (total / 86_400, total / 3600 % 24, total / 60 % 60, total % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{seconds}s"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// A moment in UTC, to the second.
pub(crate) fn time(time: Option<&Timestamp>) -> String {
    let moment = time.and_then(|time| jiff::Timestamp::new(time.seconds, 0).ok());
    moment.map_or_else(|| "-".to_owned(), |moment| moment.to_string())
}

/// A moment in UTC, to the millisecond, for logs.
pub(crate) fn precise_time(time: Option<&Timestamp>) -> String {
    let moment = time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok());
    moment.map_or_else(|| "-".to_owned(), |moment| format!("{moment:.3}"))
}

/// A pod's name, with its namespace where that is not the usual one.
pub(crate) fn pod(namespace: &str, name: &str) -> String {
    if namespace == "default" { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// `-` for nothing, so that columns stay readable.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// A mode as `ls -l` shows it: `drwxr-xr-x`.
pub(crate) fn mode(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o010_000 => 'p',
        0o140_000 => 's',
        0o100_000 => '-',
        _ => '?',
    };
    let mut shown = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        shown.push(if bits & 4 == 0 { '-' } else { 'r' });
        shown.push(if bits & 2 == 0 { '-' } else { 'w' });
        shown.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => letter.to_ascii_uppercase(),
            (true, true) => letter,
        });
    }
    shown
}

#[cfg(test)]
mod tests;
