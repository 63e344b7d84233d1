//! The QEMU Machine Protocol: JSON lines over a unix socket. Only what tests ask for.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::qemu::process::Process;
use crate::wait;

/// QEMU answers from its main loop; it is busy for seconds at most.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Messages kept for the evidence folder.
const TRACE_LIMIT: usize = 512;

/// A connection to one QEMU, past the handshake.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
    trace: VecDeque<String>,
}

impl Qmp {
    /// Connects to the socket at `path` as soon as `process` has made it.
    pub(crate) async fn connect(
        path: PathBuf,
        process: &mut Process,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let stream = wait::until("QEMU's control socket", limit, async || {
            if let Some(status) = process.ended()? {
                return Ok(Some(Err(status)));
            }
            // Absent or refused: QEMU is still starting.
            Ok(UnixStream::connect(&path).await.ok().map(Ok))
        })
        .await?;
        let stream = stream.map_err(|status| anyhow::anyhow!("it ended with {status}"))?;
        let mut qmp = Self { stream: BufReader::new(stream), trace: VecDeque::new() };
        let greeting = qmp.read().await.context("read the greeting of QEMU")?;
        if greeting.get("QMP").is_none() {
            bail!("the control socket of QEMU greeted with {greeting}");
        }
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Runs one command and returns its result; events that arrive meanwhile only go to the trace.
    pub async fn execute(&mut self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments }).to_string();
        self.remember(&request);
        let answer = async {
            self.stream.get_mut().write_all(format!("{request}\n").as_bytes()).await?;
            loop {
                let mut message = self.read().await?;
                if let Some(error) = message.get("error") {
                    bail!("QEMU refused: {error}");
                }
                if let Some(value) = message.get_mut("return") {
                    return Ok(value.take());
                }
            }
        };
        tokio::time::timeout(ANSWER_LIMIT, answer)
            .await
            .with_context(|| format!("QEMU did not answer `{command}` in time"))?
            .with_context(|| format!("QMP command `{command}`"))
    }

    /// Presses the ACPI power button.
    pub async fn power_button(&mut self) -> anyhow::Result<()> {
        self.execute("system_powerdown", json!({})).await.map(drop)
    }

    /// Presses reset.
    pub async fn reset(&mut self) -> anyhow::Result<()> {
        self.execute("system_reset", json!({})).await.map(drop)
    }

    /// Freezes the processors.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.execute("stop", json!({})).await.map(drop)
    }

    /// Lets frozen processors go on.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        self.execute("cont", json!({})).await.map(drop)
    }

    /// Whether the processors run, as QEMU names it: "running", "guest-panicked", "shutdown", ...
    pub async fn status(&mut self) -> anyhow::Result<String> {
        let answer = self.execute("query-status", json!({})).await?;
        Ok(answer.get("status").and_then(Value::as_str).unwrap_or("unknown").to_owned())
    }

    /// Ends QEMU after it flushed its disks.
    pub async fn quit(&mut self) -> anyhow::Result<()> {
        self.execute("quit", json!({})).await.map(drop)
    }

    /// The last messages of both sides, for the evidence folder.
    pub(crate) fn write_trace(&self, path: &Path) -> anyhow::Result<()> {
        let lines: Vec<&str> = self.trace.iter().map(String::as_str).collect();
        Ok(fs_err::write(path, lines.join("\n"))?)
    }

    async fn read(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        let length = tokio::time::timeout(ANSWER_LIMIT, self.stream.read_line(&mut line))
            .await
            .context("QEMU is silent")??;
        if length == 0 {
            bail!("QEMU closed its control socket");
        }
        self.remember(line.trim_end());
        serde_json::from_str(&line).context("parse a message of QEMU")
    }

    fn remember(&mut self, message: &str) {
        if self.trace.len() == TRACE_LIMIT {
            self.trace.pop_front();
        }
        self.trace.push_back(message.to_owned());
    }
}
