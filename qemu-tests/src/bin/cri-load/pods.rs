//! Many pods at once.

use std::time::Instant;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use ingot_qemu_tests::cri;
use serde_json::json;

use crate::{IMAGE, Target};

/// Starts `count` pods at once and waits until each of them runs; removes them again.
pub(crate) async fn burst(target: Target, count: usize) -> anyhow::Result<serde_json::Value> {
    let begin = Instant::now();
    let pods: Vec<(String, u128)> = stream::iter(0..count)
        .map(|number| {
            let target = target.clone();
            async move {
                let sandbox = start(target, &format!("burst-{number}")).await?;
                anyhow::Ok((sandbox, begin.elapsed().as_micros()))
            }
        })
        .buffer_unordered(count)
        .try_collect()
        .await?;
    let all = begin.elapsed().as_micros();
    let times: Vec<u128> = pods.iter().map(|(_, time)| *time).collect();
    remove(&target, pods.into_iter().map(|(sandbox, _)| sandbox)).await?;
    Ok(json!({"microseconds": {"pod": times, "all": [all]}}))
}

/// One pod with one container that sleeps.
pub(crate) async fn start(mut target: Target, name: &str) -> anyhow::Result<String> {
    let config = cri::sandbox(name);
    let sandbox = target.run_sandbox(&config).await?;
    let main = cri::container("main", IMAGE, &["/workload", "sleep"]);
    let id = target.cri.create(&sandbox, &main, &config).await?;
    target.cri.start(&id).await?;
    Ok(sandbox)
}

/// Removes sandboxes, a few at once.
pub(crate) async fn remove(
    target: &Target,
    sandboxes: impl Iterator<Item = String>,
) -> anyhow::Result<()> {
    stream::iter(sandboxes)
        .map(|sandbox| {
            let mut cri = target.cri.clone();
            async move { cri.remove_sandbox(&sandbox).await }
        })
        .buffer_unordered(8)
        .try_collect()
        .await
}
