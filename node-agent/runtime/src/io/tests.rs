//! A container's output reaches its log and everybody attached, and nobody can hold it up.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::logs::{LogLimits, LogPaths};

/// Longer than anything here takes; only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);

struct Bench {
    folder: tempfile::TempDir,
    io: ContainerIo,
    /// The container's ends.
    stdin: std::fs::File,
    stdout: std::fs::File,
    stderr: std::fs::File,
}

impl Bench {
    fn log(&self) -> String {
        read_log(&self.folder.path().join("given/0.log"))
    }
}

fn read_log(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // Without the times.
    text.split_inclusive('\n').map(|line| line.split_once(' ').unwrap().1).collect()
}

fn target(folder: &Path) -> LogTarget {
    LogTarget::File { path: folder.join("given/0.log"), scratch: folder.to_owned() }
}

fn begin(folder: &Path, ours: Ends, stdin_once: bool) -> ContainerIo {
    let writer = LogWriter::open(target(folder)).unwrap();
    ContainerIo::begin(None, "id", ours, writer, IoOptions { stdin_once }, None).unwrap()
}

fn bench(stdin_once: bool) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let (stdin_read, stdin) = pipe::with_size(1 << 16).unwrap();
    rustix::io::ioctl_fionbio(&stdin_read, false).unwrap();
    rustix::io::ioctl_fionbio(&stdin, true).unwrap();
    let (stdout, stdout_write) = pipe::with_size(1 << 16).unwrap();
    let (stderr, stderr_write) = pipe::with_size(1 << 16).unwrap();
    let ours = Io::Pipes { stdin: Some(stdin), stdout, stderr };
    let io = begin(folder.path(), Ends { ours, through: None }, stdin_once);
    let (stdin, stdout, stderr) = (stdin_read.into(), stdout_write.into(), stderr_write.into());
    Bench { folder, io, stdin, stdout, stderr }
}

#[tokio::test(flavor = "current_thread")]
async fn everybody_attached_sees_what_is_written_and_so_does_the_log() {
    let mut bench = bench(false);
    let mut first = bench.io.attach().await.unwrap();
    let mut second = bench.io.attach().await.unwrap();
    bench.stdout.write_all(b"out\n").unwrap();
    bench.stderr.write_all(b"err\n").unwrap();
    for attachment in [&mut first, &mut second] {
        let mut bytes = [0; 4];
        attachment.stdout.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"out\n");
        attachment.stderr.as_mut().unwrap().read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"err\n");
    }
    assert_eq!(bench.io.finish().await, 0);
    let mut rest = Vec::new();
    assert_eq!(first.stdout.read_to_end(&mut rest).await.unwrap(), 0);
    let mut log: Vec<String> = bench.log().lines().map(str::to_owned).collect();
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out"]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_reader_that_stops_reading_is_cut_off_and_the_container_is_not_held_up() {
    let mut bench = bench(false);
    let mut stuck = bench.io.attach().await.unwrap();
    let writer = std::thread::spawn(move || {
        for _ in 0..8 << 10 {
            bench.stdout.write_all(&[b'x'; 1024]).unwrap();
        }
    });
    while !writer.is_finished() {
        tokio::time::timeout(HANG, tokio::time::sleep(Duration::from_millis(5))).await.unwrap();
    }
    writer.join().unwrap();
    bench.io.finish().await;
    let mut bytes = Vec::new();
    assert!(stuck.stdout.read_to_end(&mut bytes).await.is_err());
}

#[tokio::test(flavor = "current_thread")]
async fn standard_input_asked_for_once_ends_with_its_first_client() {
    let mut bench = bench(true);
    let mut first = bench.io.attach().await.unwrap();
    let mut second = bench.io.attach().await.unwrap();
    first.stdin.as_mut().unwrap().write_all(b"hello").await.unwrap();
    first.stdin.as_mut().unwrap().shutdown().await.unwrap();
    assert!(second.stdin.as_mut().unwrap().write_all(b"more").await.is_err());
    let mut text = String::new();
    std::io::Read::read_to_string(&mut bench.stdin, &mut text).unwrap();
    assert_eq!(text, "hello");
    assert!(bench.io.attach().await.unwrap().stdin.is_none());
}

#[tokio::test(flavor = "current_thread")]
async fn standard_input_for_many_stays_open_when_one_leaves() {
    let mut bench = bench(false);
    drop(bench.io.attach().await.unwrap());
    let mut second = bench.io.attach().await.unwrap();
    second.stdin.as_mut().unwrap().write_all(b"hello").await.unwrap();
    let mut bytes = [0; 5];
    std::io::Read::read_exact(&mut bench.stdin, &mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
}

#[tokio::test(flavor = "current_thread")]
async fn a_log_that_was_renamed_goes_on_in_a_new_file_when_asked() {
    let mut bench = bench(false);
    let log = bench.folder.path().join("given/0.log");
    bench.stdout.write_all(b"one\n").unwrap();
    // Not renamed: nothing to do.
    bench.io.reopen_log().await.unwrap();
    while read_log(&log).is_empty() {
        tokio::task::yield_now().await;
    }
    let rotated = log.with_extension("log.20260101-000000");
    std::fs::rename(&log, &rotated).unwrap();
    bench.io.reopen_log().await.unwrap();
    bench.stdout.write_all(b"two\n").unwrap();
    bench.io.finish().await;
    assert_eq!(read_log(&rotated), "stdout F one\n");
    assert_eq!(read_log(&log), "stdout F two\n");
    assert_eq!(bench.io.reopen_log().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(flavor = "current_thread")]
async fn a_log_that_cannot_be_reopened_is_written_on_and_no_file_is_left() {
    let mut bench = bench(false);
    let log = bench.folder.path().join("given/0.log");
    let rotated = log.with_extension("log.1");
    std::fs::rename(&log, &rotated).unwrap();
    std::os::unix::fs::symlink("/dev/null", &log).unwrap();
    assert!(bench.io.reopen_log().await.is_err());
    bench.stdout.write_all(b"one\n").unwrap();
    bench.io.finish().await;
    assert_eq!(read_log(&rotated), "stdout F one\n");
}

#[tokio::test(flavor = "current_thread")]
async fn a_terminal_is_written_to_read_from_and_sized() {
    let Ok(pty::Pair { master, slave }) = pty::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let through = pipe::with_size(TERMINAL_PIPE_BYTES).unwrap();
    let ours = Ends { ours: Io::Terminal(master), through: Some(through) };
    let io = begin(folder.path(), ours, true);
    let mut attachment = io.attach().await.unwrap();
    assert!(attachment.stderr.is_none());
    io.resize(100, 30).unwrap();
    assert_eq!(pty::size(&slave).unwrap(), (100, 30));
    let mut program = std::fs::File::from(slave);
    program.write_all(b"$ ").unwrap();
    let mut bytes = [0; 2];
    attachment.stdout.read_exact(&mut bytes).await.unwrap();
    attachment.stdin.as_mut().unwrap().write_all(b"exit\n").await.unwrap();
    let mut line = [0; 5];
    std::io::Read::read_exact(&mut program, &mut line).unwrap();
    assert_eq!(&line, b"exit\n");
    // The program closes its terminal and opens it again: no end for us.
    drop(program);
    tokio::task::yield_now().await;
    assert_eq!(io.finish().await, 0);
    let log = read_log(&folder.path().join("given/0.log"));
    assert_eq!(log, "stdout F $ exit\r\n");
}

#[test]
fn other_tasks_run_and_the_pump_ends_while_somebody_writes_without_pause() {
    let folder = tempfile::tempdir().unwrap();
    let paths =
        LogPaths { logs: folder.path().to_owned(), scratch: folder.path().to_owned(), attempt: 0 };
    let limits = LogLimits { file_bytes: 1 << 20, files: 2 };
    let (stdout, write) = pipe::with_size(1 << 20).unwrap();
    let (stderr, _quiet_write) = pipe::with_size(1 << 20).unwrap();
    // Ends by itself when the read end is closed.
    let flood = std::thread::spawn(move || {
        let mut pipe = std::fs::File::from(write);
        while pipe.write_all(&[b'\n'; 4096]).is_ok() {}
    });
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let writer = LogWriter::open(LogTarget::Rotated(paths, limits)).unwrap();
            let ends = Ends { ours: Io::Pipes { stdin: None, stdout, stderr }, through: None };
            let options = IoOptions::default();
            let io = ContainerIo::begin(None, "id", ends, writer, options, None).unwrap();
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // The writer lives on, as one does that got the descriptor from an ended container.
            io.finish().await;
        });
        let _ = done.send(());
    });
    assert!(finished.recv_timeout(HANG).is_ok(), "the pump let nobody else run");
    flood.join().unwrap();
}
