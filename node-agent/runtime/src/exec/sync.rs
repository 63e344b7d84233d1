//! Programs that are waited for: probes, hooks, and whoever wants the whole output at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{Exec, ExecError, ExecProcess, ExecSpec, Target, start};
use crate::context::Context;

/// Bytes of each stream that are kept, as the CRI has it; the rest is read and thrown away (CVE-2022-1708,
/// CVE-2022-31030).
const OUTPUT_MAX: usize = 16 << 20;

/// Bytes of each stream that are kept in any case.
const OUTPUT_FREE: usize = 64 * 1024;

/// Bytes beyond those that all programs together may have kept at a time: a node with many talkative probes must not run
/// out of memory.
const TOGETHER_MAX: usize = 64 << 20;

/// Bytes beyond [`OUTPUT_FREE`] that are kept now.
static TOGETHER: AtomicUsize = AtomicUsize::new(0);

/// How long a killed program may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What a program that was waited for has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, at most 16 MiB.
    pub stdout: Vec<u8>,
    /// Standard error, at most 16 MiB.
    pub stderr: Vec<u8>,
    /// Exit code; 128 and the signal's number when a signal ended it.
    pub exit_code: i32,
}

/// Starts a program and waits for its end, at most `timeout`. When that passes, or the caller gives up, it is killed with
/// its session and descendants.
pub(crate) async fn exec_sync(
    context: &Arc<Context>,
    target: Target,
    command: &[String],
    timeout: Option<Duration>,
) -> Result<ExecOutput, ExecError> {
    let spec = ExecSpec { command: command.to_vec(), ..ExecSpec::default() };
    let Exec { stdout, stderr, process, .. } = start(context, target, spec).await?;
    let mut guard = KillOnDrop(Some(process.clone()));
    let finish = async {
        let error = async {
            match stderr {
                Some(stderr) => collect(stderr).await,
                None => Vec::new(),
            }
        };
        let (exit_code, stdout, stderr) = tokio::join!(process.wait(), collect(stdout), error);
        ExecOutput { stdout, stderr, exit_code }
    };
    let result = match timeout {
        Some(timeout) => tokio::time::timeout(timeout, finish).await.map_err(|_| timeout),
        None => Ok(finish.await),
    };
    let result = match result {
        Ok(output) => Ok(output),
        Err(timeout) => {
            process.kill().await;
            if tokio::time::timeout(KILL_DEADLINE, process.wait()).await.is_err() {
                tracing::error!("a program is still there after it was killed");
            }
            Err(ExecError::TimedOut { timeout })
        }
    };
    guard.0 = None;
    result
}

struct KillOnDrop(Option<ExecProcess>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            tokio::spawn(async move { process.kill().await });
        }
    }
}

/// Gives back at its end what was taken from the common room.
struct Share(usize);

impl Share {
    fn take(&mut self, bytes: usize) -> bool {
        let room = TOGETHER.fetch_add(bytes, Ordering::Relaxed);
        if room.saturating_add(bytes) > TOGETHER_MAX {
            TOGETHER.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.0 += bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        TOGETHER.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Reads to the end and keeps as much as is allowed.
async fn collect(mut output: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut kept, mut share) = (Vec::new(), Share(0));
    let mut buffer = vec![0; 16 * 1024];
    // An error is an end, too: the program's exit code is what counts.
    while let Ok(length @ 1..) = output.read(&mut buffer).await {
        let room = OUTPUT_MAX.saturating_sub(kept.len());
        let bytes = buffer.get(..length.min(room)).unwrap_or_default();
        let free = kept.len() + bytes.len() <= OUTPUT_FREE;
        if free || share.take(bytes.len()) {
            kept.extend_from_slice(bytes);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn cve_2022_1708_output_without_end_is_cut_and_still_read() {
        let endless = tokio::io::repeat(b'x').take(u64::try_from(OUTPUT_MAX * 2).unwrap());
        assert_eq!(collect(endless).await.len(), OUTPUT_MAX);
        assert_eq!(TOGETHER.load(Ordering::Relaxed), 0);
    }
}
