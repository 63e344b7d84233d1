//! Suite `cri_limits`: every field of the CRI's `LinuxContainerResources` has an effect that is seen from inside the container, when it is
//! created with it and when it is given to it later. The fields come from the protobuf: one that nobody tests is a failure.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::Context;
use crate::cri::{self, Cri, RELAY_PORT, v1};
use crate::cri_node;
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// The protobuf that the node was built from.
const PROTO: &str = include_str!("../../../node-agent/cri/proto/runtime/v1/api.proto");
/// A shell and its applets.
const BUSYBOX: &str = "mirror.test/e2e-test-images/busybox:1.29-2";
/// The program that takes memory.
const WORKLOAD: &str = "mirror.test/ingot/test-workload:latest";
/// A container that takes more memory than it may has been ended.
const OOM_LIMIT: Duration = Duration::from_secs(120);
/// Memory limit of the container that takes more.
const MEMORY_BYTES: i64 = 24 << 20;

/// How a field is tried: what is asked for, what the container does, and what it must print.
struct Trial {
    field: &'static str,
    ask: fn(&mut v1::LinuxContainerResources),
    command: &'static str,
    expect: &'static str,
    /// Whether a running container can be given it, too.
    live: bool,
}

/// One for each field. The commands look at what the kernel does where that takes a moment only, and at what it says otherwise.
const TRIALS: &[Trial] = &[
    Trial {
        field: "cpu_quota",
        ask: |it| (it.cpu_period, it.cpu_quota) = (100_000, 20_000),
        command: "cat /sys/fs/cgroup/cpu.max; timeout 2 sh -c 'while :; do :; done'; \
                  awk '/nr_throttled/ && $2 > 0 {print \"throttled\"}' /sys/fs/cgroup/cpu.stat",
        expect: "20000 100000\nthrottled",
        live: true,
    },
    Trial {
        field: "cpu_period",
        ask: |it| (it.cpu_period, it.cpu_quota) = (50_000, 25_000),
        command: PERIODS,
        expect: "25000 50000\nperiods of 50 ms",
        live: true,
    },
    Trial {
        field: "cpu_shares",
        ask: |it| it.cpu_shares = 512,
        command: "cat /sys/fs/cgroup/cpu.weight",
        expect: "20",
        live: true,
    },
    Trial {
        field: "memory_limit_in_bytes",
        ask: |it| it.memory_limit_in_bytes = 64 << 20,
        command: "cat /sys/fs/cgroup/memory.max; \
                  head -c 150m /dev/zero | tail >/dev/null 2>&1; \
                  awk '/^oom_kill / && $2 > 0 {print \"killed\"}' /sys/fs/cgroup/memory.events",
        expect: "67108864\nkilled",
        live: true,
    },
    Trial {
        field: "memory_swap_limit_in_bytes",
        ask: |it| {
            it.memory_limit_in_bytes = 64 << 20;
            it.memory_swap_limit_in_bytes = 96 << 20;
        },
        command: "cat /sys/fs/cgroup/memory.swap.max",
        expect: "33554432",
        live: true,
    },
    Trial {
        field: "oom_score_adj",
        ask: |it| it.oom_score_adj = 321,
        command: "cat /proc/1/oom_score_adj",
        expect: "321",
        live: false,
    },
    Trial {
        field: "cpuset_cpus",
        ask: |it| it.cpuset_cpus = "1".to_owned(),
        command: "awk '/Cpus_allowed_list/ {print $2}' /proc/self/status; nproc",
        expect: "1\n1",
        live: true,
    },
    Trial {
        field: "cpuset_mems",
        ask: |it| it.cpuset_mems = "0".to_owned(),
        command: "cat /sys/fs/cgroup/cpuset.mems",
        expect: "0",
        live: true,
    },
    Trial {
        field: "hugepage_limits",
        ask: |it| {
            let limit = v1::HugepageLimit { page_size: "2MB".to_owned(), limit: 4 << 20 };
            it.hugepage_limits = vec![limit];
        },
        command: "cat /sys/fs/cgroup/hugetlb.2MB.max",
        expect: "4194304",
        live: false,
    },
    Trial {
        field: "unified",
        ask: |it| it.unified = HashMap::from([("pids.max".to_owned(), "12".to_owned())]),
        command: "cat /sys/fs/cgroup/pids.max; \
                  (for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do sleep 1 & done) 2>&1 | grep -c fork >/dev/null; \
                  awk '/^max / && $2 > 0 {print \"refused\"}' /sys/fs/cgroup/pids.events",
        expect: "12\nrefused",
        live: true,
    },
];

/// Counts the periods that the kernel gives out while one processor is wanted all the time, by its own clock: with the usual period
/// there would be half as many.
const PERIODS: &str = "cd /sys/fs/cgroup; cat cpu.max; \
    now() { awk '/^nr_periods/ {print $2}' cpu.stat; awk '{print $1 * 1000}' /proc/uptime; }; \
    before=$(now); timeout 3 sh -c 'while :; do :; done'; after=$(now); \
    echo $before $after | awk '{ms = ($4 - $2) / ($3 - $1); \
        if (ms > 40 && ms < 66) print \"periods of 50 ms\"; else print \"periods of\", ms, \"ms\"}'";

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.cri else { return };
    let (mut machine, _registry) =
        match cri_node::boot(&context.artifacts, &kit.images, "cri_limits", 768).await {
            Ok(booted) => booted,
            Err(error) => {
                return report.check_alone("a node with a CRI boots", async { Err(error) }).await;
            }
        };
    against(&mut machine, report).await;
}

/// The whole table against the CRI of a machine with a relay.
pub(super) async fn against(machine: &mut Machine, report: &Report) {
    report
        .check_alone("every field of the protobuf is in the table", async {
            let untested: Vec<&str> =
                fields(PROTO).into_iter().filter(|field| !is_tried(field)).collect();
            ensure!(untested.is_empty(), "no test for {untested:?}");
            Ok(())
        })
        .await;
    let mut started = None;
    report
        .check("the images are pulled and a sandbox runs", machine, async |machine| {
            let mut cri = Cri::wait_at(machine.forwarded(RELAY_PORT)?).await?;
            for image in [BUSYBOX, WORKLOAD] {
                cri.pull(image).await?;
            }
            let config = cri::sandbox("limits");
            let sandbox = cri.run_sandbox(&config).await?;
            started = Some((cri, config, sandbox));
            Ok(())
        })
        .await;
    let Some((mut cri, config, sandbox)) = started else { return };
    for trial in TRIALS {
        let name = format!("{} holds for a container made with it", trial.field);
        report
            .check(&name, machine, async |_| {
                let id = shell(&mut cri, &sandbox, &config, trial.field, Some(trial.ask)).await?;
                tried(&mut cri, &id, trial).await
            })
            .await;
    }
    for trial in TRIALS.iter().filter(|trial| trial.live) {
        let name = format!("{} holds for a container that is given it later", trial.field);
        report
            .check(&name, machine, async |_| {
                let name = format!("{}-live", trial.field);
                let id = shell(&mut cri, &sandbox, &config, &name, None).await?;
                let mut resources = v1::LinuxContainerResources::default();
                (trial.ask)(&mut resources);
                let request = v1::UpdateContainerResourcesRequest {
                    container_id: id.clone(),
                    linux: Some(resources),
                    ..Default::default()
                };
                let call = cri.runtime.update_container_resources(request).await;
                call.context("UpdateContainerResources")?;
                tried(&mut cri, &id, trial).await
            })
            .await;
    }
    report
        .check("a container that takes too much memory ends as OOMKilled", machine, async |_| {
            out_of_memory(&mut cri, &sandbox, &config).await
        })
        .await;
}

/// A container with a shell in it that waits.
async fn shell(
    cri: &mut Cri,
    sandbox: &str,
    sandbox_config: &v1::PodSandboxConfig,
    name: &str,
    ask: Option<fn(&mut v1::LinuxContainerResources)>,
) -> anyhow::Result<String> {
    let mut config = cri::container(name, BUSYBOX, &["sleep", "100000"]);
    if let Some(ask) = ask {
        ask(config.linux.get_or_insert_default().resources.get_or_insert_default());
    }
    let id = cri.create(sandbox, &config, sandbox_config).await?;
    cri.start(&id).await?;
    Ok(id)
}

async fn tried(cri: &mut Cri, id: &str, trial: &Trial) -> anyhow::Result<()> {
    let text = cri.exec(id, &["sh", "-c", &format!("{}; true", trial.command)]).await?;
    let right = text.trim().starts_with(trial.expect);
    ensure!(right, "it printed {text:?}, not {:?}", trial.expect);
    cri.stop(id, 0).await?;
    cri.remove(id).await
}

async fn out_of_memory(
    cri: &mut Cri,
    sandbox: &str,
    sandbox_config: &v1::PodSandboxConfig,
) -> anyhow::Result<()> {
    let mut config = cri::container("hog", WORKLOAD, &["/workload", "hog", "200"]);
    let linux = config.linux.get_or_insert_default();
    let resources = linux.resources.get_or_insert_default();
    resources.memory_limit_in_bytes = MEMORY_BYTES;
    resources.memory_swap_limit_in_bytes = MEMORY_BYTES;
    let id = cri.create(sandbox, &config, sandbox_config).await?;
    cri.start(&id).await?;
    let status = wait::until("the container to be ended", OOM_LIMIT, async || {
        let status = cri.status(&id).await?;
        Ok((status.state() == v1::ContainerState::ContainerExited).then_some(status))
    })
    .await?;
    let right = status.reason == "OOMKilled" && status.exit_code == 137;
    ensure!(right, "it ended with {}, {:?}", status.exit_code, status.reason);
    cri.remove(&id).await
}

fn is_tried(field: &str) -> bool {
    TRIALS.iter().any(|trial| trial.field == field)
}

/// The names of the fields of `LinuxContainerResources`.
fn fields(proto: &str) -> Vec<&str> {
    let after = proto.split("message LinuxContainerResources {").nth(1).unwrap_or_default();
    let body = after.split("\n}").next().unwrap_or_default();
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    lines.filter_map(|line| line.split('=').next()?.split_whitespace().last()).collect::<Vec<_>>()
}

#[cfg(test)]
mod tests {
    use super::{PROTO, fields, is_tried};

    #[test]
    fn no_field_of_the_protobuf_is_without_a_trial() {
        let fields = fields(PROTO);
        assert!(fields.contains(&"unified") && fields.len() >= 10, "{fields:?}");
        let untested: Vec<_> = fields.iter().filter(|field| !is_tried(field)).collect();
        assert!(untested.is_empty(), "{untested:?}");
    }
}
