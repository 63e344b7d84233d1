//! Suite `cri_limits`: every field of the CRI's `LinuxContainerResources` has an effect that is seen from inside the container, when it is
//! created with it, in every kind of pod, and when it is given to it later. The fields come from the protobuf: one that nobody tests is a failure.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::Context;
use super::isolation::bench::{namespaces, privileged_pod, rights};
use super::isolation::users::own_users;
use crate::cri::{self, Cri, RELAY_PORT, v1};
use crate::cri_node;
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// The protobuf that the node was built from.
const PROTO: &str = include_str!("../../../node-agent/cri/proto/runtime/v1/api.proto");
/// A shell and its applets.
const BUSYBOX: &str = "mirror.test/e2e-test-images/busybox:1.29-2";
/// What a container does that is only looked at.
const WAIT: &[&str] = &["sleep", "100000"];
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
    /// What a running container prints that is given it later: the same, but for what the CRI does not change.
    later: Later,
}

/// What becomes of a field that a running container is given.
enum Later {
    Holds,
    /// It stays what it was, which prints this.
    Stays(&'static str),
}

/// A kind of pod: what is different about it, and about containers in it.
struct Kind {
    name: &'static str,
    pod: fn(&mut v1::PodSandboxConfig),
    container: fn(&mut v1::ContainerConfig),
}

/// Every field is tried in each of them, beside the plain one.
const KINDS: &[Kind] = &[
    Kind { name: "with ids of its own", pod: own_users, container: |_| {} },
    Kind {
        name: "in the node's network",
        pod: |it| namespaces(it).network = v1::NamespaceMode::Node.into(),
        container: |it| options(it).network = v1::NamespaceMode::Node.into(),
    },
    Kind {
        name: "that is privileged",
        pod: privileged_pod,
        container: |it| rights(it).privileged = true,
    },
    Kind {
        name: "whose containers share processes",
        pod: |it| namespaces(it).pid = v1::NamespaceMode::Pod.into(),
        container: |it| options(it).pid = v1::NamespaceMode::Pod.into(),
    },
];

fn options(config: &mut v1::ContainerConfig) -> &mut v1::NamespaceOption {
    rights(config).namespace_options.get_or_insert_default()
}

/// One for each field. The commands look at what the kernel does where that takes a moment only, and at what it says otherwise.
const TRIALS: &[Trial] = &[
    Trial {
        field: "cpu_quota",
        ask: |it| (it.cpu_period, it.cpu_quota) = (100_000, 20_000),
        command: "cat /sys/fs/cgroup/cpu.max; timeout 2 sh -c 'while :; do :; done'; \
                  awk '/nr_throttled/ && $2 > 0 {print \"throttled\"}' /sys/fs/cgroup/cpu.stat",
        expect: "20000 100000\nthrottled",
        later: Later::Holds,
    },
    Trial {
        field: "cpu_period",
        ask: |it| (it.cpu_period, it.cpu_quota) = (50_000, 25_000),
        command: PERIODS,
        expect: "25000 50000\nperiods of 50 ms",
        later: Later::Holds,
    },
    Trial {
        field: "cpu_shares",
        ask: |it| it.cpu_shares = 512,
        command: "cat /sys/fs/cgroup/cpu.weight",
        expect: "20",
        later: Later::Holds,
    },
    Trial {
        field: "memory_limit_in_bytes",
        ask: |it| it.memory_limit_in_bytes = 64 << 20,
        command: "cat /sys/fs/cgroup/memory.max; \
                  head -c 150m /dev/zero | tail >/dev/null 2>&1; \
                  awk '/^oom_kill / && $2 > 0 {print \"killed\"}' /sys/fs/cgroup/memory.events",
        expect: "67108864\nkilled",
        later: Later::Holds,
    },
    Trial {
        field: "memory_swap_limit_in_bytes",
        ask: |it| {
            it.memory_limit_in_bytes = 64 << 20;
            it.memory_swap_limit_in_bytes = 96 << 20;
        },
        command: "cat /sys/fs/cgroup/memory.swap.max",
        expect: "33554432",
        later: Later::Holds,
    },
    Trial {
        field: "oom_score_adj",
        ask: |it| it.oom_score_adj = 321,
        // Not of process 1: that is the pod's where containers share processes.
        command: "cat /proc/$(pgrep sleep)/oom_score_adj",
        expect: "321",
        later: Later::Stays("0"),
    },
    Trial {
        field: "cpuset_cpus",
        ask: |it| it.cpuset_cpus = "1".to_owned(),
        command: "awk '/Cpus_allowed_list/ {print $2}' /proc/self/status; nproc",
        expect: "1\n1",
        later: Later::Holds,
    },
    Trial {
        field: "cpuset_mems",
        ask: |it| it.cpuset_mems = "0".to_owned(),
        command: "cat /sys/fs/cgroup/cpuset.mems",
        expect: "0",
        later: Later::Holds,
    },
    Trial {
        field: "hugepage_limits",
        ask: |it| {
            let limit = v1::HugepageLimit { page_size: "2MB".to_owned(), limit: 4 << 20 };
            it.hugepage_limits = vec![limit];
        },
        command: "cat /sys/fs/cgroup/hugetlb.2MB.max",
        expect: "4194304",
        later: Later::Holds,
    },
    Trial {
        field: "unified",
        ask: |it| it.unified = HashMap::from([("pids.max".to_owned(), "12".to_owned())]),
        command: "cat /sys/fs/cgroup/pids.max; \
                  (for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do sleep 1 & done) 2>&1 | grep -c fork >/dev/null; \
                  awk '/^max / && $2 > 0 {print \"refused\"}' /sys/fs/cgroup/pids.events",
        expect: "12\nrefused",
        later: Later::Holds,
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
                tried(&mut cri, &id, trial, trial.expect).await
            })
            .await;
    }
    given_later(machine, report, &mut cri, (&sandbox, &config)).await;
    for kind in KINDS {
        let name = format!("every field holds in a pod {}", kind.name);
        report.check(&name, machine, async |_| in_pod(&mut cri, kind).await).await;
    }
    of_pods(machine, report, &mut cri).await;
    report
        .check("a container that takes too much memory ends as OOMKilled", machine, async |_| {
            let ask = |it: &mut v1::LinuxContainerResources| {
                it.memory_limit_in_bytes = MEMORY_BYTES;
                it.memory_swap_limit_in_bytes = MEMORY_BYTES;
            };
            let id = hog(&mut cri, &sandbox, &config, ask).await?;
            out_of_memory(&mut cri, &id).await?;
            cri.remove(&id).await
        })
        .await;
}

/// A running container is given each field.
async fn given_later(
    machine: &mut Machine,
    report: &Report,
    cri: &mut Cri,
    (sandbox, config): (&str, &v1::PodSandboxConfig),
) {
    for trial in TRIALS {
        let (name, expect) = match trial.later {
            Later::Holds => (
                format!("{} holds for a container that is given it later", trial.field),
                trial.expect,
            ),
            Later::Stays(was) => (format!("{} of a running container stays", trial.field), was),
        };
        report
            .check(&name, machine, async |_| {
                let name = format!("{}-live", trial.field);
                let id = shell(cri, sandbox, config, &name, None).await?;
                update(cri, &id, trial.ask).await?;
                tried(cri, &id, trial, expect).await
            })
            .await;
    }
    report
        .check("a limit that is not given later stays as it was", machine, async |_| {
            let ask = |it: &mut v1::LinuxContainerResources| {
                (it.cpu_period, it.cpu_quota) = (100_000, 20_000);
                it.memory_limit_in_bytes = 64 << 20;
                it.memory_swap_limit_in_bytes = 96 << 20;
            };
            let id = shell(cri, sandbox, config, "halves", Some(ask)).await?;
            update(cri, &id, |it| it.cpu_period = 50_000).await?;
            update(cri, &id, |it| it.memory_limit_in_bytes = 80 << 20).await?;
            let read = "cd /sys/fs/cgroup; cat cpu.max memory.max memory.swap.max";
            let text = cri.exec(&id, &["sh", "-c", read]).await?;
            ensure!(text.trim() == "20000 50000\n83886080\n16777216", "{text:?}");
            cri.remove(&id).await
        })
        .await;
}

async fn update(
    cri: &mut Cri,
    id: &str,
    ask: fn(&mut v1::LinuxContainerResources),
) -> anyhow::Result<()> {
    let mut resources = v1::LinuxContainerResources::default();
    ask(&mut resources);
    let request = v1::UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(resources),
        ..Default::default()
    };
    let call = cri.runtime.update_container_resources(request).await;
    call.context("UpdateContainerResources").map(drop)
}

/// The whole table in a pod of this kind.
async fn in_pod(cri: &mut Cri, kind: &Kind) -> anyhow::Result<()> {
    let mut config = cri::sandbox("limits-kind");
    (kind.pod)(&mut config);
    let sandbox = cri.run_sandbox(&config).await?;
    let mut wrong = Vec::new();
    for trial in TRIALS {
        let mut container = cri::container(trial.field, BUSYBOX, WAIT);
        (trial.ask)(container.linux.get_or_insert_default().resources.get_or_insert_default());
        (kind.container)(&mut container);
        let tried = async {
            let id = cri.create(&sandbox, &container, &config).await?;
            cri.start(&id).await?;
            tried(cri, &id, trial, trial.expect).await
        };
        if let Err(error) = tried.await {
            wrong.push(format!("{}: {error:#}", trial.field));
        }
    }
    cri.remove_sandbox(&sandbox).await?;
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// Limits of a pod, for all its containers together.
async fn of_pods(machine: &mut Machine, report: &Report, cri: &mut Cri) {
    let limited =
        v1::LinuxContainerResources { memory_limit_in_bytes: MEMORY_BYTES, ..Default::default() };
    for later in [false, true] {
        let when = if later { "given to a running pod" } else { "that a pod is made with" };
        let name = format!("a memory limit {when} holds for its containers");
        let limited = limited.clone();
        report
            .check(&name, machine, async |_| {
                let mut config = cri::sandbox(if later { "pod-later" } else { "pod-limit" });
                if !later {
                    let linux = config.linux.get_or_insert_default();
                    linux.resources = Some(limited.clone());
                }
                let sandbox = cri.run_sandbox(&config).await?;
                let id = hog(cri, &sandbox, &config, |_| {}).await?;
                if later {
                    let request = v1::UpdatePodSandboxResourcesRequest {
                        pod_sandbox_id: sandbox.clone(),
                        resources: Some(limited),
                        ..Default::default()
                    };
                    let call = cri.runtime.update_pod_sandbox_resources(request).await;
                    call.context("UpdatePodSandboxResources")?;
                }
                out_of_memory(cri, &id).await?;
                cri.remove_sandbox(&sandbox).await
            })
            .await;
    }
    let name = "half of a limit that is given to a running pod leaves the other half";
    report.check(name, machine, async |_| half_of_a_pods_limit(cri).await).await;
}

async fn half_of_a_pods_limit(cri: &mut Cri) -> anyhow::Result<()> {
    let cpu = |period, quota| v1::LinuxContainerResources {
        cpu_period: period,
        cpu_quota: quota,
        ..Default::default()
    };
    let mut config = cri::sandbox("pod-half");
    config.linux.get_or_insert_default().resources = Some(cpu(100_000, 20_000));
    let sandbox = cri.run_sandbox(&config).await?;
    let mut container = cri::container("look", BUSYBOX, WAIT);
    container.mounts.push(v1::Mount {
        host_path: "/sys/fs/cgroup".into(),
        container_path: "/node".into(),
        readonly: true,
        ..Default::default()
    });
    let id = cri.create(&sandbox, &container, &config).await?;
    cri.start(&id).await?;
    let request = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: sandbox.clone(),
        resources: Some(cpu(50_000, 0)),
        ..Default::default()
    };
    let call = cri.runtime.update_pod_sandbox_resources(request).await;
    call.context("UpdatePodSandboxResources")?;
    let look = format!("cat /node/*/{sandbox}/cpu.max");
    let text = cri.exec(&id, &["sh", "-c", &look]).await?;
    ensure!(text.trim() == "20000 50000", "the pod's cpu.max is {text:?}");
    cri.remove_sandbox(&sandbox).await
}

/// A container with a shell in it that waits.
async fn shell(
    cri: &mut Cri,
    sandbox: &str,
    sandbox_config: &v1::PodSandboxConfig,
    name: &str,
    ask: Option<fn(&mut v1::LinuxContainerResources)>,
) -> anyhow::Result<String> {
    let mut config = cri::container(name, BUSYBOX, WAIT);
    if let Some(ask) = ask {
        ask(config.linux.get_or_insert_default().resources.get_or_insert_default());
    }
    let id = cri.create(sandbox, &config, sandbox_config).await?;
    cri.start(&id).await?;
    Ok(id)
}

async fn tried(cri: &mut Cri, id: &str, trial: &Trial, expect: &str) -> anyhow::Result<()> {
    let text = cri.exec(id, &["sh", "-c", &format!("{}; true", trial.command)]).await?;
    let right = text.trim().starts_with(expect);
    ensure!(right, "it printed {text:?}, not {expect:?}");
    cri.stop(id, 0).await?;
    cri.remove(id).await
}

/// A container that takes 200 MiB and keeps them.
async fn hog(
    cri: &mut Cri,
    sandbox: &str,
    sandbox_config: &v1::PodSandboxConfig,
    ask: impl FnOnce(&mut v1::LinuxContainerResources),
) -> anyhow::Result<String> {
    let mut config = cri::container("hog", WORKLOAD, &["/workload", "hog", "200"]);
    ask(config.linux.get_or_insert_default().resources.get_or_insert_default());
    let id = cri.create(sandbox, &config, sandbox_config).await?;
    cri.start(&id).await?;
    Ok(id)
}

async fn out_of_memory(cri: &mut Cri, id: &str) -> anyhow::Result<()> {
    let status = wait::until("the container to be ended", OOM_LIMIT, async || {
        let status = cri.status(id).await?;
        Ok((status.state() == v1::ContainerState::ContainerExited).then_some(status))
    })
    .await?;
    let right = status.reason == "OOMKilled" && status.exit_code == 137;
    ensure!(right, "it ended with {}, {:?}", status.exit_code, status.reason);
    Ok(())
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
