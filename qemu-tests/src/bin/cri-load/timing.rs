//! One thing after the other, each with a stopwatch.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ingot_qemu_tests::cri::{self, v1};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;

use crate::{Target, pods};

/// A container that ends at once has ended.
const EXIT_LIMIT: Duration = Duration::from_secs(60);
/// How long a container whose end is watched lives: long enough to begin watching.
const LIFE_MS: &str = "1500";

/// On the disk that images are unpacked to.
const DISK_FILE: &str = "/var/cri-load";
/// A database is not always writing.
const BETWEEN_WRITES: Duration = Duration::from_millis(10);
/// Pulls beside the writes.
const PULLS: usize = 2;

/// Times of every round in microseconds, by step.
#[derive(Debug, Default)]
pub(crate) struct Laps {
    steps: Vec<(&'static str, Vec<u128>)>,
}

impl Laps {
    pub(crate) fn add(&mut self, step: &'static str, time: Duration) {
        match self.steps.iter_mut().find(|(name, _)| *name == step) {
            Some((_, times)) => times.push(time.as_micros()),
            None => self.steps.push((step, vec![time.as_micros()])),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let steps = self.steps.iter().map(|(name, times)| ((*name).to_owned(), json!(times)));
        json!({"microseconds": steps.collect::<serde_json::Map<_, _>>()})
    }
}

/// Create, start, wait and remove of containers in one sandbox, by the event that a container ended.
pub(crate) async fn lifecycle(
    mut target: Target,
    count: usize,
) -> anyhow::Result<serde_json::Value> {
    let config = cri::sandbox("lifecycle");
    let sandbox = target.run_sandbox(&config).await?;
    let mut events = target.events().await?;
    let mut laps = Laps::default();
    for number in 0..=count {
        let main = pods::container(&format!("c{number}"), &["/workload", "exit", "0"]);
        let begin = Instant::now();
        let id = target.cri.create(&sandbox, &main, &config).await?;
        let created = Instant::now();
        target.cri.start(&id).await?;
        let started = Instant::now();
        stopped(&mut events, &id).await?;
        let ended = Instant::now();
        target.cri.remove(&id).await?;
        // The first round warms caches on either side.
        if number > 0 {
            laps.add("create", created - begin);
            laps.add("start", started - created);
            laps.add("wait", ended - started);
            laps.add("remove", ended.elapsed());
            laps.add("all", begin.elapsed());
        }
    }
    target.cri.remove_sandbox(&sandbox).await?;
    Ok(laps.json())
}

/// Run, and stop and remove of sandboxes, each with a network of its own.
pub(crate) async fn sandboxes(
    mut target: Target,
    count: usize,
) -> anyhow::Result<serde_json::Value> {
    let mut laps = Laps::default();
    for number in 0..=count {
        let config = cri::sandbox(&format!("sandbox-{number}"));
        let begin = Instant::now();
        let id = target.run_sandbox(&config).await?;
        let ran = Instant::now();
        target.cri.remove_sandbox(&id).await?;
        if number > 0 {
            laps.add("run", ran - begin);
            laps.add("stop and remove", ran.elapsed());
            laps.add("all", begin.elapsed());
        }
    }
    Ok(laps.json())
}

/// From the end of a container's process, as the kernel tells everybody, until the event arrives.
pub(crate) async fn exits(mut target: Target, count: usize) -> anyhow::Result<serde_json::Value> {
    let config = cri::sandbox("exits");
    let sandbox = target.run_sandbox(&config).await?;
    let mut events = target.events().await?;
    let mut laps = Laps::default();
    for number in 0..=count {
        let words = ["/workload", "exit", "0", LIFE_MS];
        let main = pods::container(&format!("e{number}"), &words);
        let id = target.cri.create(&sandbox, &main, &config).await?;
        target.cri.start(&id).await?;
        let process = target.process(&id).await?;
        let exit = std::thread::spawn(move || exit_of(&process));
        let arrived = stopped(&mut events, &id).await?;
        let Ok(exit) = exit.join() else { bail!("the watching thread ended early") };
        if number > 0 {
            laps.add("exit to event", arrived.saturating_duration_since(exit?));
        }
        target.cri.remove(&id).await?;
    }
    target.cri.remove_sandbox(&sandbox).await?;
    Ok(laps.json())
}

/// Pulls of one image that is removed in between.
pub(crate) async fn pull(
    mut target: Target,
    image: &str,
    count: usize,
) -> anyhow::Result<serde_json::Value> {
    let mut laps = Laps::default();
    for _ in 0..count {
        let begin = Instant::now();
        target.cri.pull(image).await?;
        laps.add("pull", begin.elapsed());
        let request = v1::RemoveImageRequest { image: Some(cri::image(image)) };
        target.cri.image.remove_image(request).await.context("RemoveImage")?;
    }
    Ok(laps.json())
}

/// Time to have 8 KiB on the disk, as a database would write them: alone, and beside pulls of an image.
pub(crate) async fn disk(
    target: Target,
    image: &str,
    count: usize,
) -> anyhow::Result<serde_json::Value> {
    let mut laps = Laps::default();
    writes(count, || true).await?.into_iter().for_each(|time| laps.add("idle", time));
    let pulling = Cell::new(true);
    let pulls = async {
        let mut pulled = Ok(serde_json::Value::Null);
        for _ in 0..PULLS {
            pulled = pull(target.clone(), image, 1).await;
        }
        pulling.set(false);
        pulled
    };
    let (pulled, beside) = tokio::join!(pulls, writes(usize::MAX, || pulling.get()));
    pulled?;
    beside?.into_iter().for_each(|time| laps.add("pulling", time));
    Ok(laps.json())
}

/// Times of writes to the disk, one after the other, as long as there are fewer than `count` and `goes_on`. This program has
/// nothing else to do meanwhile: the pull is another's work.
async fn writes(count: usize, goes_on: impl Fn() -> bool) -> anyhow::Result<Vec<Duration>> {
    let mut file = fs_err::File::create(DISK_FILE)?;
    let block = [0x5a; 8 * 1024];
    let mut times = Vec::new();
    while times.len() < count && goes_on() {
        let begin = Instant::now();
        std::io::Write::write_all(&mut file, &block).context("write")?;
        file.sync_data().context("sync")?;
        times.push(begin.elapsed());
        tokio::time::sleep(BETWEEN_WRITES).await;
    }
    fs_err::remove_file(DISK_FILE)?;
    Ok(times)
}

type Events = tonic::Streaming<v1::ContainerEventResponse>;

impl Target {
    /// A sandbox with the handler that is measured.
    pub(crate) async fn run_sandbox(
        &mut self,
        config: &v1::PodSandboxConfig,
    ) -> anyhow::Result<String> {
        self.cri.run_sandbox_with(config, &self.handler).await
    }

    async fn events(&mut self) -> anyhow::Result<Events> {
        let request = v1::GetEventsRequest {};
        let stream = self.cri.runtime.get_container_events(request).await;
        Ok(stream.context("GetContainerEvents")?.into_inner())
    }

    /// A handle for the first process of a container, whose id the runtime tells in what it adds when asked to be verbose.
    async fn process(&mut self, container: &str) -> anyhow::Result<OwnedFd> {
        let pid = self.cri.process_id(container).await?;
        let pid = Pid::from_raw(pid).context("not a process id")?;
        pidfd_open(pid, PidfdFlags::empty()).context("watch the container's process")
    }
}

/// Waits for the event that a container ended, and tells when it came.
async fn stopped(events: &mut Events, container: &str) -> anyhow::Result<Instant> {
    let wait = async {
        while let Some(event) = events.message().await? {
            let kind = event.container_event_type();
            if event.container_id == container
                && kind == v1::ContainerEventType::ContainerStoppedEvent
            {
                return Ok::<_, tonic::Status>(true);
            }
        }
        Ok(false)
    };
    let ended = tokio::time::timeout(EXIT_LIMIT, wait).await;
    let ended = ended.with_context(|| format!("no event that {container} ended"))?;
    ensure!(ended.context("read events")?, "the stream of events ended");
    Ok(Instant::now())
}

fn exit_of(process: &OwnedFd) -> anyhow::Result<Instant> {
    let limit = Timespec { tv_sec: i64::try_from(EXIT_LIMIT.as_secs())?, tv_nsec: 0 };
    let mut ready = [PollFd::new(process, PollFlags::IN)];
    let count = poll(&mut ready, Some(&limit)).context("watch the container's process")?;
    ensure!(count == 1, "the container's process did not end");
    Ok(Instant::now())
}
