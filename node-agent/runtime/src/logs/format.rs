//! The log file format of the CRI: `<time> <stream> <tag> <payload>\n`. Pure.
//!
//! Tag F is a line that ended with a line feed, P a piece without one. So a file says exactly how many bytes of each stream
//! it holds: the payloads, plus one for each F. That count is what makes logs exact across a kill; see `writer`.

use jiff::Timestamp;

use super::{LogLine, LogStream};

/// Longest payload of one line of a file; a longer line is written in pieces.
pub(super) const PAYLOAD_MAX: usize = 16 * 1024;

/// Appends the lines of `bytes` to `out` and returns how many bytes they took. What remains is the start of an unfinished
/// line, unless `end` says that nothing will follow: then all is taken.
pub(super) fn append_lines(
    out: &mut Vec<u8>,
    stream: LogStream,
    now: Timestamp,
    bytes: &[u8],
    end: bool,
) -> usize {
    let mut taken = 0;
    while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
        let window = rest.get(..PAYLOAD_MAX + 1).unwrap_or(rest);
        let (payload, tag, length) = match window.iter().position(|&byte| byte == b'\n') {
            Some(at) => (window.get(..at).unwrap_or_default(), 'F', at + 1),
            None if window.len() > PAYLOAD_MAX => {
                (window.get(..PAYLOAD_MAX).unwrap_or_default(), 'P', PAYLOAD_MAX)
            }
            None if end => (window, 'P', window.len()),
            None => break,
        };
        out.extend_from_slice(format!("{now:.9} {} {tag} ", stream.as_str()).as_bytes());
        out.extend_from_slice(payload);
        out.push(b'\n');
        taken += length;
    }
    taken
}

/// A line of a file, without its line feed; `None` when it is not one.
pub(super) fn parse(line: &[u8], attempt: u32) -> Option<LogLine> {
    let mut fields = line.splitn(4, |&byte| byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let stream = match fields.next()? {
        b"stdout" => LogStream::Stdout,
        b"stderr" => LogStream::Stderr,
        _ => return None,
    };
    let partial = match fields.next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    Some(LogLine { time, stream, line: fields.next()?.to_vec(), partial, attempt })
}

/// How many bytes of its stream a line stands for.
pub(super) fn stream_length(line: &[u8]) -> Option<(LogStream, u64)> {
    let mut fields = line.splitn(4, |&byte| byte == b' ');
    fields.next()?;
    let stream = match fields.next()? {
        b"stdout" => LogStream::Stdout,
        b"stderr" => LogStream::Stderr,
        _ => return None,
    };
    let line_feed = u64::from(fields.next()? == b"F");
    let payload = u64::try_from(fields.next()?.len()).ok()?;
    Some((stream, payload + line_feed))
}
