//! A container that never stops writing must not have the agent's only thread for itself.

use std::io::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use super::super::writer::{LogLimits, LogPaths};
use super::*;

/// Longer than anything here takes; only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);

#[test]
fn other_tasks_run_and_the_pump_ends_while_somebody_writes_without_pause() {
    let folder = tempfile::tempdir().unwrap();
    let paths =
        LogPaths { logs: folder.path().to_owned(), scratch: folder.path().to_owned(), attempt: 0 };
    let limits = LogLimits { file_bytes: 1 << 20, files: 2 };
    let (read, write) = ingot_linux::pipe::with_size(1 << 20).unwrap();
    let (quiet, _quiet_write) = ingot_linux::pipe::with_size(1 << 20).unwrap();
    // Ends by itself when the read end is closed.
    let flood = std::thread::spawn(move || {
        let mut pipe = std::fs::File::from(write);
        while pipe.write_all(&[b'\n'; 4096]).is_ok() {}
    });
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let writer = LogWriter::open(paths, limits).unwrap();
            let (written, _) = watch::channel(0);
            let pump = Pump::start(writer, read, quiet, Arc::new(written)).unwrap();
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // The writer lives on, as one does that got the descriptor from an ended container.
            pump.finish().await;
        });
        let _ = done.send(());
    });
    assert!(finished.recv_timeout(HANG).is_ok(), "the pump let nobody else run");
    flood.join().unwrap();
}
