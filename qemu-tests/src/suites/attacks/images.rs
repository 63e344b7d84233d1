//! Images that attack with what they say and where their links lead (`attacks/*` of the test images).

use anyhow::{Context as _, ensure};

use crate::cri::{self, v1};
use crate::machine::Machine;
use crate::report::Report;
use crate::suites::isolation::bench::{Bench, Pod, mount, rights};

/// What a container sees of the node when it got out: the agent's program.
const OUTSIDE: &str = "[ ! -e /usr/bin/ingotd ] && [ ! -e ./usr/bin/ingotd ] && [ ! -e ../../../../../../usr/bin/ingotd ] && echo inside";

async fn pulled(bench: &mut Bench, name: &str) -> anyhow::Result<String> {
    let image = format!("mirror.test/attacks/{name}:1");
    bench.cri.pull(&image).await?;
    Ok(image)
}

/// A container of the image; `Err` is why it was refused.
async fn try_image(
    bench: &mut Bench,
    pod: &Pod,
    image: &str,
    ask: impl FnOnce(&mut v1::ContainerConfig),
) -> Result<String, String> {
    let image = image.to_owned();
    let made = bench.run(pod, |it| {
        it.image = Some(cri::image(&image));
        ask(it);
    });
    made.await.map_err(|error| format!("{error:#}"))
}

pub(super) async fn run(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    for (name, image) in [
        (
            "cve_2019_19921 cve_2023_27561 cve_2023_28642 an image whose /proc is a link",
            "proc-link",
        ),
        ("cve_2023_28642 an image whose /sys is a link", "sys-link"),
        ("cve_2026_41579 cve_2019_18837 cve_2026_47766 an image whose /dev is a link", "dev-link"),
    ] {
        report.check(name, machine, async |_| kernel_link(bench, image).await).await;
    }
    report
        .check(
            "cve_2024_21626 an image that starts in a descriptor of the runtime",
            machine,
            async |_| {
                let image = pulled(bench, "workdir").await?;
                let pod = bench.pod(|_| {}).await?;
                let error =
                    try_image(bench, &pod, &image, |_| {}).await.err().context("it runs")?;
                ensure!(error.contains("/proc/self/fd/7"), "{error}");
                bench.cri.remove_sandbox(&pod.id).await
            },
        )
        .await;
    report
        .check(
            "cve_2024_21626 links to descriptors of the runtime lead nowhere",
            machine,
            async |_| descriptors(bench).await,
        )
        .await;
    report
        .check("cve_2024_5154 cve_2022_4318 files of the pod are not written through links of the image", machine, async |_| {
            account_files(bench).await
        })
        .await;
    report
        .check("cve_2024_40635 a user id that does not fit is never root", machine, async |_| {
            users(bench).await
        })
        .await;
    report
        .check(
            "cve_2026_53488 cve_2022_23648 labels and volumes of an image are only data",
            machine,
            async |_| config(bench).await,
        )
        .await;
    report
        .check("cve_2019_5736 an image that executes the runtime again", machine, async |_| {
            self_exe(bench).await
        })
        .await;
}

/// The container is refused, or has the kernel's own folder where the link was; the node has nothing new.
async fn kernel_link(bench: &mut Bench, name: &str) -> anyhow::Result<()> {
    let image = pulled(bench, name).await?;
    let pod = bench.pod(|_| {}).await?;
    let folder = name.trim_end_matches("-link");
    match try_image(bench, &pod, &image, |_| {}).await {
        Err(error) => ensure!(
            error.contains(folder) || error.contains("prepare rootfs"),
            "refused for another reason: {error}"
        ),
        Ok(id) => {
            let script = "awk '$2 == \"/proc\" || $2 == \"/sys\" || $2 == \"/dev\" {print $2, $3}' /proc/mounts | sort; \
                          head -c 1 /proc/keys; (: >>/proc/sysrq-trigger) 2>&1";
            let seen = bench.shell(&id, script).await?;
            let expect = "/dev tmpfs\n/proc proc\n/sys sysfs\nsh: can't create /proc/sysrq-trigger: Read-only file system";
            ensure!(seen == expect, "{seen:?}");
        }
    }
    bench.cri.remove_sandbox(&pod.id).await?;
    let made = bench.on_node(&format!("ls -d /node/run/ingot/attack-{folder} 2>&1; true")).await?;
    ensure!(made.contains("No such file"), "the node has {made}");
    Ok(())
}

/// Starts in each link; what runs is inside.
async fn descriptors(bench: &mut Bench) -> anyhow::Result<()> {
    let image = pulled(bench, "links").await?;
    let pod = bench.pod(|_| {}).await?;
    for number in 3..=20 {
        let folder = format!("/fd{number}");
        let ask = |it: &mut v1::ContainerConfig| it.working_dir.clone_from(&folder);
        match try_image(bench, &pod, &image, ask).await {
            Err(error) => ensure!(
                error.contains(&folder) || error.contains("prepare rootfs"),
                "refused for another reason: {error}"
            ),
            Ok(id) => {
                let script = format!("cd /proc/1/cwd 2>/dev/null; {OUTSIDE}");
                let seen = bench.shell(&id, &script).await.unwrap_or_default();
                // A program started in it begins in the same folder: it ends at once, or is inside as well.
                let running =
                    bench.cri.status(&id).await?.state() == v1::ContainerState::ContainerRunning;
                ensure!(seen == "inside" || !running, "{folder} leads out: {seen:?}");
                bench.cri.remove(&id).await?;
            }
        }
    }
    bench.cri.remove_sandbox(&pod.id).await
}

/// /etc/hosts and others are links to the node; /etc/passwd is not added to.
async fn account_files(bench: &mut Bench) -> anyhow::Result<()> {
    let image = pulled(bench, "links").await?;
    let pod = bench.pod(|_| {}).await?;
    let ask = |it: &mut v1::ContainerConfig| {
        let value = b"/root\nintruder:x:0:0::/:/bin/sh".to_vec();
        it.envs = vec![v1::KeyValue { key: "HOME".to_owned(), value }];
    };
    if let Ok(id) = try_image(bench, &pod, &image, ask).await {
        let seen = bench.shell(&id, "grep -c intruder /etc/passwd; true").await?;
        ensure!(seen == "0", "/etc/passwd was written: {seen}");
    }
    bench.cri.remove_sandbox(&pod.id).await?;
    let made = bench.on_node("ls /node/run/ingot | grep attack; true").await?;
    ensure!(made.is_empty(), "the node has {made}");
    Ok(())
}

async fn users(bench: &mut Bench) -> anyhow::Result<()> {
    let pod = bench.pod(|_| {}).await?;
    let image = pulled(bench, "user-wrap").await?;
    let made = try_image(bench, &pod, &image, |_| {}).await;
    ensure!(made.is_err(), "user 4294967296 runs");
    let image = pulled(bench, "user-large").await?;
    match try_image(bench, &pod, &image, |_| {}).await {
        Err(error) => ensure!(error.contains("2147483648"), "{error}"),
        Ok(id) => {
            let seen = bench.shell(&id, "id -u; id -g").await?;
            ensure!(seen == "2147483648\n2147483648", "user 2147483648 is {seen:?}");
        }
    }
    let large = |it: &mut v1::ContainerConfig| {
        rights(it).run_as_user = Some(v1::Int64Value { value: 1 << 32 });
    };
    let made = bench.run(&pod, large).await;
    ensure!(made.is_err(), "a caller's user 4294967296 runs");
    bench.cri.remove_sandbox(&pod.id).await
}

async fn config(bench: &mut Bench) -> anyhow::Result<()> {
    let image = pulled(bench, "config").await?;
    let pod = bench.pod(|_| {}).await?;
    let id = try_image(bench, &pod, &image, |_| {}).await.map_err(anyhow::Error::msg)?;
    let script = format!(
        "{OUTSIDE}; awk '/^CapEff/ {{print $2}}' /proc/1/status; ls -d /etc/ingot* 2>/dev/null; [ -c /dev/null ] && awk '$2 == \"/proc\" {{print $3}}' /proc/mounts"
    );
    let seen = bench.shell(&id, &script).await?;
    ensure!(seen == "inside\n00000000a80425fb\nproc", "{seen:?}");
    bench.cri.remove_sandbox(&pod.id).await
}

/// Entry point and interpreter are the runtime's own program; it cannot be written either.
async fn self_exe(bench: &mut Bench) -> anyhow::Result<()> {
    let image = pulled(bench, "links").await?;
    let digest = "sha256sum /node/usr/bin/ingotd /node/usr/bin/ingot-runc 2>/dev/null; true";
    let before = bench.on_node(digest).await?;
    let pod = bench.pod(|_| {}).await?;
    let mut seen = Vec::new();
    for program in ["/proc/self/exe", "/run-me"] {
        let ask = |it: &mut v1::ContainerConfig| {
            it.command = vec![program.to_owned()];
            it.mounts = vec![mount("/var/attacks", "/attacks")];
        };
        if let Ok(id) = try_image(bench, &pod, &image, ask).await {
            let status =
                crate::wait::until("it to end", std::time::Duration::from_secs(60), async || {
                    let status = bench.cri.status(&id).await?;
                    Ok((status.state() == v1::ContainerState::ContainerExited).then_some(status))
                })
                .await?;
            ensure!(status.exit_code != 0, "{program} did something");
        }
        seen.push(program);
    }
    let id = bench.run(&pod, |_| {}).await?;
    // While the helper is inside it would be written through this.
    let written =
        bench.shell(&id, "for i in 1 2 3 4 5; do (: >>/proc/1/exe) 2>&1; done | sort -u").await?;
    ensure!(!written.is_empty(), "a program that runs can be written");
    let after = bench.on_node(digest).await?;
    ensure!(before == after, "{before} before, {after} after");
    bench.cri.remove_sandbox(&pod.id).await
}
