//! Kills at every step: whatever the moment, the log holds each byte once and in order.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use proptest::prelude::*;

use super::*;
use crate::logs::{LogLine, LogPaths};

struct Bench {
    _folder: tempfile::TempDir,
    paths: LogPaths,
    read: [OwnedFd; 2],
    write: [File; 2],
    limits: LogLimits,
}

fn bench(limits: LogLimits) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let (logs, scratch) = (folder.path().join("logs"), folder.path().join("run"));
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::create_dir_all(&scratch).unwrap();
    let paths = LogPaths { logs, scratch, attempt: 0 };
    let (out_read, out_write) = pipe::with_size(1 << 20).unwrap();
    let (err_read, err_write) = pipe::with_size(1 << 20).unwrap();
    let write = [File::from(out_write), File::from(err_write)];
    Bench { _folder: folder, paths, read: [out_read, err_read], write, limits }
}

impl Bench {
    fn open(&self) -> LogWriter {
        LogWriter::open(LogTarget::Rotated(self.paths.clone(), self.limits)).unwrap()
    }

    fn lines(&self) -> Vec<LogLine> {
        let mut names: Vec<PathBuf> =
            (0..10_000).map(|n| self.paths.rotated(n)).filter(|path| path.exists()).collect();
        names.push(self.paths.current());
        let mut lines = Vec::new();
        for name in names {
            for line in std::fs::read(name).unwrap().split_inclusive(|&b| b == b'\n') {
                let line = line.strip_suffix(b"\n").expect("a complete line");
                lines.push(format::parse(line, 0).expect("a well-formed line"));
            }
        }
        lines
    }

    fn bytes(&self, stream: LogStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in self.lines().into_iter().filter(|line| line.stream == stream) {
            assert!(line.line.len() <= format::PAYLOAD_MAX);
            bytes.extend_from_slice(&line.line);
            if !line.partial {
                bytes.push(b'\n');
            }
        }
        bytes
    }
}

#[test]
fn lines_of_both_streams_are_written_with_their_tags() {
    let mut bench = bench(LogLimits::default());
    bench.write[0].write_all(b"one\ntwo\nthr").unwrap();
    bench.write[1].write_all(b"oops\n").unwrap();
    let mut writer = bench.open();
    writer.pump(LogStream::Stdout, &bench.read[0], None).unwrap();
    writer.pump(LogStream::Stderr, &bench.read[1], None).unwrap();
    writer.finish();
    let got: Vec<_> = bench
        .lines()
        .into_iter()
        .map(|l| (l.stream, String::from_utf8(l.line).unwrap(), l.partial))
        .collect();
    let expected = [
        (LogStream::Stdout, "one".to_owned(), false),
        (LogStream::Stdout, "two".to_owned(), false),
        (LogStream::Stderr, "oops".to_owned(), false),
        (LogStream::Stdout, "thr".to_owned(), true),
    ];
    assert_eq!(got, expected);
}

#[test]
fn a_closed_pipe_is_the_end_and_an_open_one_is_not() {
    let mut bench = bench(LogLimits::default());
    let mut writer = bench.open();
    assert_eq!(writer.pump(LogStream::Stdout, &bench.read[0], None).unwrap(), Spliced::Empty);
    bench.write[0].write_all(b"x\n").unwrap();
    let [stdout, _stderr] = bench.write;
    drop(stdout);
    assert_eq!(writer.pump(LogStream::Stdout, &bench.read[0], None).unwrap(), Spliced::End);
}

#[test]
fn old_files_are_removed_and_the_number_of_files_is_bounded() {
    let mut bench = bench(LogLimits { file_bytes: 2000, files: 3 });
    let mut writer = bench.open();
    for number in 0..2000 {
        writeln!(bench.write[0], "line {number}").unwrap();
        writer.pump(LogStream::Stdout, &bench.read[0], None).unwrap();
    }
    assert_eq!(std::fs::read_dir(&bench.paths.logs).unwrap().count(), 3);
    assert_eq!(bench.lines().last().unwrap().line, b"line 1999");
}

#[test]
fn a_disk_that_refuses_drops_lines_and_says_how_many_bytes() {
    let mut bench = bench(LogLimits::default());
    let mut writer = bench.open();
    bench.write[0].write_all(b"before\n").unwrap();
    writer.pump(LogStream::Stdout, &bench.read[0], None).unwrap();
    // A descriptor without the right to write stands for a full disk.
    let bad = File::open(bench.paths.current()).unwrap();
    let Place::Rotated { file, .. } = &mut writer.place else { panic!("our own log") };
    let good = std::mem::replace(file, bad);
    bench.write[0].write_all(b"lost\n").unwrap();
    writer.pump(LogStream::Stdout, &bench.read[0], None).unwrap();
    assert_eq!(writer.take_dropped(), 5);
    let Place::Rotated { file, .. } = &mut writer.place else { panic!("our own log") };
    *file = good;
    bench.write[0].write_all(b"after\n").unwrap();
    writer.pump(LogStream::Stdout, &bench.read[0], None).unwrap();
    drop(writer);
    drop(bench.open());
    assert_eq!(bench.bytes(LogStream::Stdout), b"before\nafter\n");
}

/// What a random history consists of. `Kill` variants drop the writer and damage the files as a kill at that step would.
#[derive(Clone, Debug)]
enum Happens {
    Write(usize, Vec<u8>),
    Pump(usize),
    /// Between two steps.
    Kill,
    /// Bytes are in the spool, none of them in the log.
    KillAfterSplice(usize),
    /// So many bytes of the last write to the log are missing.
    KillInWrite(usize),
    /// The checkpoint of the next segment is written, the file not renamed.
    KillInRotation,
    /// The file is renamed, the new one does not exist.
    KillAfterRename,
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-z]{0,20}\n".prop_map(String::into_bytes),
        "[a-z \n]{0,80}".prop_map(String::into_bytes),
        (1_usize..40_000).prop_map(|length| vec![b'x'; length]),
        proptest::collection::vec(any::<u8>(), 0..100),
    ]
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0_usize..2, payload()).prop_map(|(stream, bytes)| Happens::Write(stream, bytes)),
        4 => (0_usize..2).prop_map(Happens::Pump),
        1 => Just(Happens::Kill),
        1 => (0_usize..2).prop_map(Happens::KillAfterSplice),
        1 => (0_usize..300).prop_map(Happens::KillInWrite),
        1 => Just(Happens::KillInRotation),
        1 => Just(Happens::KillAfterRename),
    ]
}

const STREAMS: [LogStream; 2] = [LogStream::Stdout, LogStream::Stderr];

/// Cuts at most `missing` bytes off the log, but not what a checkpoint or forgotten spool relies on.
fn tear(bench: &Bench, writer: &LogWriter, missing: usize) {
    let forgotten = writer.spools.iter().any(|spool| spool.forgotten > 0);
    let length = writer.now.length.saturating_sub(missing as u64).max(writer.saved.length);
    if writer.saved.segment == writer.now.segment && !forgotten {
        let file = OpenOptions::new().write(true).open(bench.paths.current()).unwrap();
        file.set_len(length).unwrap();
    }
}

fn carry_out(bench: &mut Bench, writer: LogWriter, happens: &Happens) -> LogWriter {
    let mut writer = writer;
    match happens {
        Happens::Write(stream, bytes) => {
            bench.write[*stream].write_all(bytes).unwrap();
            // A full pipe would block this single-threaded test.
            writer.pump(STREAMS[*stream], &bench.read[*stream], None).unwrap();
            return writer;
        }
        Happens::Pump(stream) => {
            writer.pump(STREAMS[*stream], &bench.read[*stream], None).unwrap();
            return writer;
        }
        Happens::Kill => {}
        Happens::KillAfterSplice(stream) => {
            bench.write[*stream].write_all(b"caught in between\n").unwrap();
            let spool = &writer.spools[*stream];
            pipe::splice_to_file(&bench.read[*stream], &spool.file, spool.length, CHUNK).unwrap();
        }
        Happens::KillInWrite(missing) => tear(bench, &writer, *missing),
        Happens::KillInRotation => {
            let mut next = writer.now;
            (next.segment, next.length) = (next.segment + 1, 0);
            writer.save_checkpoint(next).unwrap();
        }
        Happens::KillAfterRename => {
            let mut next = writer.now;
            (next.segment, next.length) = (next.segment + 1, 0);
            writer.save_checkpoint(next).unwrap();
            crate::logs::place::finish_rotation(&bench.paths, next.segment).unwrap();
        }
    }
    drop(writer);
    bench.open()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn every_byte_is_logged_once_and_in_order_wherever_the_agent_is_killed(
        history in proptest::collection::vec(happens(), 1..60),
        file_bytes in prop_oneof![Just(500_u64), Just(20_000), Just(10 << 20)],
    ) {
        let mut bench = bench(LogLimits { file_bytes, files: 10_000 });
        let mut writer = bench.open();
        let mut written = [Vec::new(), Vec::new()];
        for happens in &history {
            match happens {
                Happens::Write(stream, bytes) => written[*stream].extend_from_slice(bytes),
                Happens::KillAfterSplice(stream) => {
                    written[*stream].extend_from_slice(b"caught in between\n");
                }
                _ => {}
            }
            writer = carry_out(&mut bench, writer, happens);
        }
        for (stream, pipe) in STREAMS.into_iter().zip(&bench.read) {
            while let Spliced::Moved(_) = writer.pump(stream, pipe, None).unwrap() {}
        }
        writer.finish();
        for stream in STREAMS {
            prop_assert!(bench.bytes(stream) == written[index(stream)], "{stream:?} differs");
        }
    }
}

/// A log whose path somebody else chose, and who rotates it.
fn given(folder: &std::path::Path) -> LogWriter {
    let target = LogTarget::File { path: folder.join("pod/0.log"), scratch: folder.to_owned() };
    LogWriter::open(target).unwrap()
}

fn payloads(path: &std::path::Path) -> Vec<String> {
    let lines = std::fs::read_to_string(path).unwrap_or_default();
    lines.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned()).collect()
}

#[test]
fn a_log_renamed_while_no_agent_ran_is_found_again_and_no_line_is_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rotated) = (folder.path().join("pod/0.log"), folder.path().join("pod/0.log.2"));
    let (read, write) = pipe::with_size(1 << 16).unwrap();
    let mut write = File::from(write);
    write.write_all(b"one\ntwo\n").unwrap();
    given(folder.path()).pump(LogStream::Stdout, &read, None).unwrap();
    // Killed; the kubelet renames and is refused, as nobody answers.
    std::fs::rename(&path, &rotated).unwrap();
    write.write_all(b"three\n").unwrap();
    let mut writer = given(folder.path());
    assert!(writer.is_renamed());
    writer.pump(LogStream::Stdout, &read, None).unwrap();
    // It puts the file back.
    std::fs::rename(&rotated, &path).unwrap();
    assert!(!writer.is_renamed());
    write.write_all(b"four\n").unwrap();
    writer.pump(LogStream::Stdout, &read, None).unwrap();
    assert_eq!(payloads(&path), ["one", "two", "three", "four"]);
}

#[test]
fn a_kill_after_a_reopen_goes_on_in_the_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rotated) = (folder.path().join("pod/0.log"), folder.path().join("pod/0.log.2"));
    let (read, write) = pipe::with_size(1 << 16).unwrap();
    let mut write = File::from(write);
    let mut writer = given(folder.path());
    write.write_all(b"one\nhalf").unwrap();
    writer.pump(LogStream::Stdout, &read, None).unwrap();
    std::fs::rename(&path, &rotated).unwrap();
    writer.reopen().unwrap();
    drop(writer);
    write.write_all(b" a line\n").unwrap();
    given(folder.path()).pump(LogStream::Stdout, &read, None).unwrap();
    assert_eq!(payloads(&rotated), ["one"]);
    assert_eq!(payloads(&path), ["half a line"]);
}

#[test]
fn a_log_that_was_deleted_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pod/0.log");
    let (read, write) = pipe::with_size(1 << 16).unwrap();
    let mut write = File::from(write);
    write.write_all(b"one\n").unwrap();
    given(folder.path()).pump(LogStream::Stdout, &read, None).unwrap();
    std::fs::remove_file(&path).unwrap();
    write.write_all(b"two\n").unwrap();
    given(folder.path()).pump(LogStream::Stdout, &read, None).unwrap();
    assert_eq!(payloads(&path).last().map(String::as_str), Some("two"));
}

#[test]
fn without_a_log_the_output_is_read_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (read, write) = pipe::with_size(1 << 16).unwrap();
    File::from(write).write_all(b"one\ntwo").unwrap();
    let target = LogTarget::Nowhere { scratch: folder.path().to_owned() };
    let mut writer = LogWriter::open(target).unwrap();
    let mut seen = Vec::new();
    let mut tap = |bytes: &[u8]| seen.extend_from_slice(bytes);
    writer.pump(LogStream::Stdout, &read, Some(&mut tap)).unwrap();
    writer.finish();
    assert_eq!(writer.take_dropped(), 0);
    assert_eq!(seen, b"one\ntwo");
}
