//! `cri-load`: drives a CRI from inside the machine and measures with the machine's own clock, so that a host's load and a network
//! do not count. The same program for every runtime that is compared. Prints one JSON object; the caller makes tables of it.
//!
//! It asserts nothing, and it stops at the first call that fails.
#![forbid(unsafe_code)]

#[path = "cri-load/left.rs"]
mod left;
#[path = "cri-load/memory.rs"]
mod memory;
#[path = "cri-load/pods.rs"]
mod pods;
#[path = "cri-load/timing.rs"]
mod timing;

use anyhow::{Context as _, bail};
use ingot_qemu_tests::cri::Cri;

const USAGE: &str = "usage: cri-load SOCKET HANDLER COMMAND
  lifecycle COUNT             create, start, wait for and remove containers that end at once
  sandboxes COUNT             run, stop and remove sandboxes
  burst COUNT                 start COUNT pods at once
  idle COUNT[,COUNT...]       memory with so many idle pods
  exits COUNT                 time from a process's end to the CRI's event
  pull IMAGE COUNT            pull an image and remove it
  disk IMAGE COUNT            time to write 8 KiB to the disk COUNT times, idle and while an image is pulled
  lists PODS COUNT            time of list and status calls with so many pods
  churn COUNT                 what is left behind of so many pods
HANDLER is the runtime handler; '-' for the default.";

/// Image of every container: one static program that does as its words say.
pub(crate) const IMAGE: &str = "mirror.test/ingot/test-workload:latest";

/// Whom to measure.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) cri: Cri,
    /// Runtime handler; empty for the default.
    pub(crate) handler: String,
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(run(&words))?;
    println!("{result}");
    Ok(())
}

async fn run(words: &[&str]) -> anyhow::Result<serde_json::Value> {
    let [socket, handler, command, rest @ ..] = words else { bail!("{USAGE}") };
    let cri = Cri::on(socket)?;
    let handler = if *handler == "-" { String::new() } else { (*handler).to_owned() };
    let mut target = Target { cri, handler };
    if !matches!(*command, "pull" | "disk") {
        target.cri.pull(IMAGE).await?;
    }
    match (*command, rest) {
        ("lifecycle", [count]) => timing::lifecycle(target, number(count)?).await,
        ("sandboxes", [count]) => timing::sandboxes(target, number(count)?).await,
        ("exits", [count]) => timing::exits(target, number(count)?).await,
        ("pull", [image, count]) => timing::pull(target, image, number(count)?).await,
        ("disk", [image, count]) => timing::disk(target, image, number(count)?).await,
        ("lists", [pods, count]) => pods::lists(target, number(pods)?, number(count)?).await,
        ("churn", [count]) => left::churn(target, number(count)?).await,
        ("burst", [count]) => pods::burst(target, number(count)?).await,
        ("idle", [counts]) => {
            let counts: Result<Vec<usize>, _> = counts.split(',').map(number).collect();
            memory::idle(target, &counts?).await
        }
        _ => bail!("{USAGE}"),
    }
}

fn number(word: &str) -> anyhow::Result<usize> {
    word.parse().with_context(|| format!("{word:?} is not a number"))
}
