//! Limits whose effect needs more than one container, or something of the node: huge pages, swap, shares of the processor.

use std::time::Duration;

use anyhow::ensure;

use super::bench::{Bench, Pod, limits, mount, tools};
use crate::cri::v1;
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// Something becomes true, in emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(180);

const MIB: i64 = 1 << 20;

pub(super) async fn run(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    report
        .check("a container gets no more huge pages than it may have", machine, async |_| {
            huge_pages(bench).await
        })
        .await;
    report
        .check("a container swaps as much as it may, and no more", machine, async |_| {
            swap(bench).await
        })
        .await;
    report
        .check("containers share a processor as they were asked to", machine, async |_| {
            shares(bench).await
        })
        .await;
}

async fn huge_pages(bench: &mut Bench) -> anyhow::Result<()> {
    bench
        .on_node(
            "echo 8 >/proc/sys/vm/nr_hugepages && mkdir -p /node/var/isolation/huge && \
             mount -t hugetlbfs none /node/var/isolation/huge",
        )
        .await?;
    let pod = bench.pod(|_| {}).await?;
    let id = bench
        .run(&pod, |it| {
            let limit = v1::HugepageLimit { page_size: "2MB".to_owned(), limit: 4 << 20 };
            limits(it).hugepage_limits = vec![limit];
            it.mounts = vec![tools(), mount("/var/isolation/huge", "/huge")];
        })
        .await?;
    let script = "/tools/workload allocate /huge/four 4194304 && /tools/workload allocate /huge/more 2097152; \
                  awk '/^max/ {print ($2 > 0)}' /sys/fs/cgroup/hugetlb.2MB.events; rm /huge/*";
    let seen = bench.shell(&id, &format!("{{ {script}; }} 2>&1")).await?;
    let right = seen.starts_with("allocated 4194304\nworkload: ") && seen.ends_with("\n1");
    ensure!(right, "{seen:?}");
    bench.cri.remove_sandbox(&pod.id).await?;
    bench
        .on_node("umount /node/var/isolation/huge; echo 0 >/proc/sys/vm/nr_hugepages")
        .await
        .map(drop)
}

async fn swap(bench: &mut Bench) -> anyhow::Result<()> {
    bench
        .on_node(
            "cd /node/var/isolation && dd if=/dev/zero of=swap bs=1M count=64 2>/dev/null && chmod 600 swap && \
             mkswap swap >/dev/null && swapon swap",
        )
        .await?;
    let pod = bench.pod(|_| {}).await?;
    let seen = swaps(bench, &pod).await;
    // Whatever was seen: the checks after this one count what the node holds.
    bench.cri.remove_sandbox(&pod.id).await?;
    bench.on_node("swapoff /node/var/isolation/swap && rm /node/var/isolation/swap").await?;
    seen
}

/// Nothing here runs into a limit while it waits for the disk: a kernel whose swap is slow ends a program that it could have
/// swapped, so what happens then says more about the host than about us. The node asks for pages back instead.
async fn swaps(bench: &mut Bench, pod: &Pod) -> anyhow::Result<()> {
    let more = swapping(bench, pod, 24, 20).await?;
    reclaim(bench, &more, 16 * MIB).await?;
    // Together with what is swapped it now has more than its memory limit.
    bench.shell(&more, "/tools/workload hog 16 >/dev/null 2>&1 &").await?;
    wait::until("the container to have 36 MiB", LIMIT, async || {
        let (memory, swapped) = used(bench, &more).await?;
        Ok((memory + swapped >= 35 * MIB).then_some(()))
    })
    .await?;
    running(bench, &more).await?;
    let less = swapping(bench, pod, 8, 20).await?;
    reclaim(bench, &less, 7 * MIB).await?;
    for _ in 0..3 {
        let (_, swapped) = ask_back(bench, &less).await?;
        ensure!(swapped <= 8 * MIB, "{swapped} bytes are swapped, it may swap 8 MiB");
    }
    running(bench, &less).await?;
    let none = swapping(bench, pod, 0, 36).await?;
    let ended = wait::until("the container without swap to be ended", LIMIT, async || {
        let status = bench.cri.status(&none).await?;
        Ok((status.state() == v1::ContainerState::ContainerExited).then_some(status))
    })
    .await?;
    ensure!(ended.reason == "OOMKilled", "{ended:?}");
    running(bench, &more).await
}

/// A container with a memory limit of 24 MiB that may swap so many MiB, and wants so many.
async fn swapping(bench: &mut Bench, pod: &Pod, swap: i64, wants: i64) -> anyhow::Result<String> {
    let id = bench
        .run(pod, |it| {
            limits(it).memory_limit_in_bytes = 24 * MIB;
            limits(it).memory_swap_limit_in_bytes = (24 + swap) * MIB;
            it.mounts = vec![tools()];
            // The first process: the others of a container may go on without one that was killed for memory.
            let words = format!("exec /tools/workload hog {wants}");
            it.command = ["sh", "-c", &words].map(str::to_owned).to_vec();
        })
        .await?;
    if wants <= 24 {
        wait::until("the container to have its memory", LIMIT, async || {
            let (memory, _) = used(bench, &id).await?;
            Ok((memory >= wants * MIB).then_some(()))
        })
        .await?;
    }
    Ok(id)
}

/// Asks for pages back until so many bytes are swapped.
async fn reclaim(bench: &mut Bench, id: &str, bytes: i64) -> anyhow::Result<()> {
    wait::until(&format!("{bytes} bytes to be swapped"), LIMIT, async || {
        let (memory, swapped) = ask_back(bench, id).await?;
        ensure!(swapped >= bytes, "{swapped} bytes are swapped, {memory} are not");
        Ok(Some(()))
    })
    .await
}

/// Asks for some pages back; what the container has then, in memory and swapped.
async fn ask_back(bench: &mut Bench, id: &str) -> anyhow::Result<(i64, i64)> {
    // Refused when it gets fewer.
    let ask = format!("{{ echo 4M >$({})/memory.reclaim; }} 2>/dev/null; true", cgroup(id));
    bench.on_node(&ask).await?;
    used(bench, id).await
}

/// Bytes in memory and swapped. Read from outside: whoever comes into a full cgroup needs memory of it himself.
async fn used(bench: &mut Bench, id: &str) -> anyhow::Result<(i64, i64)> {
    let script = format!("cd $({}) && cat memory.current memory.swap.current", cgroup(id));
    let text = bench.on_node(&script).await?;
    let numbers: Vec<i64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let [memory, swapped] = numbers[..] else { anyhow::bail!("two numbers, not {text:?}") };
    Ok((memory, swapped))
}

/// What finds the cgroup of a container on the node.
fn cgroup(id: &str) -> String {
    format!("find /node/sys/fs/cgroup/pods -name {id}")
}

async fn running(bench: &mut Bench, id: &str) -> anyhow::Result<()> {
    let status = bench.cri.status(id).await?;
    ensure!(status.state() == v1::ContainerState::ContainerRunning, "{status:?}");
    Ok(())
}

/// Two containers that want all of one processor get it in the ratio of their shares.
async fn shares(bench: &mut Bench) -> anyhow::Result<()> {
    let pod = bench.pod(|_| {}).await?;
    let mut processes = Vec::new();
    for shares in [2048, 512] {
        let ask = |it: &mut v1::ContainerConfig| {
            limits(it).cpu_shares = shares;
            limits(it).cpuset_cpus = "0".to_owned();
            it.command = ["sh", "-c", "while :; do :; done"].map(str::to_owned).to_vec();
        };
        let id = bench.run(&pod, ask).await?;
        processes.push(bench.cri.process_id(&id).await?);
    }
    let [more, less] = processes.as_slice() else { anyhow::bail!("two containers") };
    let script = format!(
        // Its path in /proc is told from the cgroup of who asks.
        "use() {{ awk '/^usage_usec/ {{print $2}}' $(dirname $(find /node/sys/fs/cgroup/pods -name cgroup.procs | xargs grep -lx $1))/cpu.stat; }}; \
         a=$(use {more}); b=$(use {less}); sleep 8; echo $(($(use {more}) - a)) $(($(use {less}) - b))"
    );
    let seen = bench.on_node(&script).await?;
    let used: Vec<f64> = seen.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [more, less] = used.as_slice() else { anyhow::bail!("two numbers, not {seen:?}") };
    let ratio = more / less.max(1.0);
    ensure!((3.0..=5.0).contains(&ratio), "{more} to {less} us: {ratio:.2}, not 4");
    bench.cri.remove_sandbox(&pod.id).await
}
