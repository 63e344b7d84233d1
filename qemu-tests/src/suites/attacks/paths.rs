//! Paths that change while they are used, and links in what pods share with the node.

use anyhow::{Context as _, ensure};

use crate::cri::{self, v1};
use crate::machine::Machine;
use crate::report::Report;
use crate::suites::isolation::bench::{Bench, Pod, mount};

/// Rounds of a race: each makes a container while another exchanges names.
const ROUNDS: usize = 12;

/// A volume of the pods here, as the node and as containers name it.
const VOLUME: &str = "/var/attacks/volume";

fn volume(at: &str) -> v1::Mount {
    mount(VOLUME, at)
}

async fn fresh_volume(bench: &mut Bench, more: &str) -> anyhow::Result<()> {
    let script =
        format!("rm -rf /node{VOLUME} && mkdir -p /node{VOLUME} && cd /node{VOLUME} && {more}");
    bench.on_node(&script).await.map(drop)
}

pub(super) async fn run(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    report
        .check(
            "cve_2021_30465 a place for a mount that is exchanged for a link",
            machine,
            async |_| exchanged(bench).await,
        )
        .await;
    report
        .check(
            "cve_2024_45310 no folder is made on the node through a link of a volume",
            machine,
            async |_| {
                fresh_volume(bench, "ln -s ../../../../../../var/attacks link").await?;
                let pod = bench.pod(|_| {}).await?;
                let made = bench
                    .run(&pod, |it| {
                        it.mounts =
                            vec![volume("/volume"), mount("/var/attacks", "/volume/link/made")]
                    })
                    .await;
                drop(made);
                let seen = bench.on_node("ls /node/var/attacks").await?;
                ensure!(seen == "secret\nvolume", "{seen:?}");
                bench.cri.remove_sandbox(&pod.id).await
            },
        )
        .await;
    report
        .check(
            "cve_2025_31133 cve_2025_52565 a volume as /dev whose files are links",
            machine,
            async |_| own_dev(bench).await,
        )
        .await;
    report
        .check(
            "cve_2025_52881 cve_2019_16884 nothing is mounted over what the kernel shows",
            machine,
            async |_| over_proc(bench).await,
        )
        .await;
    report
        .check("cve_2025_52565 a terminal is a terminal", machine, async |_| terminal(bench).await)
        .await;
    report
        .check(
            "cve_2026_53489 cve_2025_0750 a log that is a link, or elsewhere",
            machine,
            async |_| logs(bench).await,
        )
        .await;
}

/// One container exchanges a folder for a link to the root while others are made with a mount in it.
async fn exchanged(bench: &mut Bench) -> anyhow::Result<()> {
    fresh_volume(bench, "mkdir -p a/target && ln -s / b").await?;
    let pod = bench.pod(|_| {}).await?;
    let flips = |it: &mut v1::ContainerConfig| {
        it.image = Some(cri::image(crate::suites::isolation::bench::WORKLOAD));
        it.command =
            ["/workload", "exchange", "/volume/a", "/volume/b"].map(str::to_owned).to_vec();
        it.mounts = vec![volume("/volume")];
    };
    bench.run(&pod, flips).await?;
    let (mut made, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let ask = |it: &mut v1::ContainerConfig| {
            it.mounts = vec![volume("/volume"), mount("/var/attacks", "/volume/a/target")];
        };
        match bench.run(&pod, ask).await {
            Ok(id) => {
                made += 1;
                // The mount is in the container, under one name or the other; the container's root is its own.
                let script = "[ ! -e /usr/bin/ingotd ] && [ ! -e /volume/a/usr/bin/ingotd ] && \
                              [ ! -e /volume/b/usr/bin/ingotd ] && grep -c ' /attacks ' /proc/self/mountinfo";
                let seen = bench.shell(&id, script).await?;
                ensure!(seen == "1", "{seen:?}");
                bench.cri.remove(&id).await?;
            }
            Err(_) => refused += 1,
        }
    }
    ensure!(made > 0, "all {refused} were refused: nothing was tried");
    let leaked =
        bench.on_node("grep -c 'attacks.*target\\|/target ' /proc/1/mountinfo; true").await?;
    ensure!(leaked == "0", "{leaked} mounts are on the node");
    bench.cri.remove_sandbox(&pod.id).await
}

/// The volume becomes /dev; what is to be hidden is hidden with the real null device all the same.
async fn own_dev(bench: &mut Bench) -> anyhow::Result<()> {
    fresh_volume(
        bench,
        "ln -s /proc/sys/kernel/core_pattern null && ln -s /proc/sysrq-trigger console && mkdir pts && ln -s / pts/0",
    )
    .await?;
    for tty in [false, true] {
        let pod = bench.pod(|_| {}).await?;
        let made = bench
            .run(&pod, |it| {
                it.mounts = vec![volume("/dev")];
                it.tty = tty;
            })
            .await;
        if let Ok(id) = made {
            let script = "for f in /proc/keys /proc/timer_list /proc/kcore; do [ ! -e $f ] || stat -c '%t:%T' $f; done | sort -u; \
                          (: >>/proc/sys/kernel/core_pattern) 2>&1; awk '$5 ~ /core_pattern/ || ($5 ~ /sysrq-trigger/ && $6 ~ /^rw/) {print $4, $5, $6}' /proc/self/mountinfo";
            let seen = bench.shell(&id, &format!("{script}; true")).await?;
            let expect =
                "1:3\nsh: can't create /proc/sys/kernel/core_pattern: Read-only file system";
            ensure!(seen == expect, "terminal {tty}: {seen:?}");
        }
        bench.cri.remove_sandbox(&pod.id).await?;
    }
    Ok(())
}

async fn over_proc(bench: &mut Bench) -> anyhow::Result<()> {
    let pod = bench.pod(|_| {}).await?;
    for at in ["/proc", "/proc/self/attr", "/proc/sys/kernel", "/", "/tmp/../proc"] {
        let made = bench.run(&pod, |it| it.mounts = vec![mount("/var/attacks", at)]).await;
        ensure!(made.is_err(), "something is mounted on {at}");
    }
    // A folder for the whole /sys is the caller's affair, as with runc; what is below stays the kernel's otherwise.
    let id = bench.run(&pod, |_| {}).await?;
    let seen = bench.shell(&id, "awk '$2 ~ \"^/proc$\" {print $3}' /proc/mounts").await?;
    ensure!(seen == "proc", "{seen:?}");
    bench.cri.remove_sandbox(&pod.id).await
}

async fn terminal(bench: &mut Bench) -> anyhow::Result<()> {
    let pod = bench.pod(|_| {}).await?;
    let id = bench.run(&pod, |it| it.tty = true).await?;
    // Pseudo terminals have major numbers from 136.
    let seen = bench
        .shell(&id, "stat -L -c %t /proc/1/fd/0 /dev/console; stat -c %t /dev/ptmx /dev/pts/ptmx")
        .await?;
    ensure!(seen.starts_with("88\n88\n"), "{seen:?}");
    bench.cri.remove_sandbox(&pod.id).await
}

async fn logs(bench: &mut Bench) -> anyhow::Result<()> {
    let pod = bench.pod(|_| {}).await?;
    for path in ["../../../attacks/log", "/var/attacks/log", "a/../../../x"] {
        let made = bench.run(&pod, |it| it.log_path = path.to_owned()).await;
        let error = format!("{:#}", made.err().context(format!("the log {path} is written"))?);
        ensure!(error.contains("log"), "{error}");
    }
    linked_log(bench, &pod).await?;
    let secret = bench.on_node("cat /node/var/attacks/secret").await?;
    ensure!(secret == "of the node", "it was written: {secret:?}");
    bench.cri.remove_sandbox(&pod.id).await
}

/// The log is a link to a file of the node before the container is made.
async fn linked_log(bench: &mut Bench, pod: &Pod) -> anyhow::Result<()> {
    let folder = &pod.config.log_directory;
    bench
        .on_node(&format!(
            "mkdir -p /node{folder} && ln -s /var/attacks/secret /node{folder}/linked.log"
        ))
        .await?;
    let made = bench
        .run(pod, |it| {
            it.log_path = "linked.log".to_owned();
            it.command = ["sh", "-c", "echo overwritten; sleep 100000"].map(str::to_owned).to_vec();
        })
        .await;
    if let Ok(id) = made {
        let request = v1::ReopenContainerLogRequest { container_id: id.clone() };
        // Refused or not: the secret tells.
        drop(bench.cri.runtime.reopen_container_log(request).await);
        bench.cri.stop(&id, 0).await?;
    }
    Ok(())
}
