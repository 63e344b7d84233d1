//! Rights that a container gets without asking, or asks for in a way that must not count.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cri::v1;
use crate::machine::Machine;
use crate::report::Report;
use crate::suites::isolation::bench::{
    Bench, Refusal, Trial, limits, mount, namespaces, privileged_pod, profile, refuse_all, rights,
    sysctl, tools, try_all,
};
use crate::suites::isolation::users::own_users;
use crate::wait;
use v1::security_profile::ProfileType;

/// What makes a pod one of its kind.
type Kind = fn(&mut v1::PodSandboxConfig);

/// A container that takes more memory than it may has been ended.
const OOM_LIMIT: Duration = Duration::from_secs(120);

/// Annotations with which other runtimes can be told to give more.
const ANNOTATIONS: &[(&str, &str)] = &[
    ("io.kubernetes.cri-o.UnifiedCgroup.main", "memory.max=max"),
    ("io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw", "true"),
    ("io.kubernetes.cri-o.Devices", "/dev/vda:/dev/vda:rwm"),
    ("io.kubernetes.cri-o.userns-mode", "auto"),
    ("io.kubernetes.cri-o.seccompNotifierAction", "stop"),
    ("cpu-quota.crio.io", "disable"),
    ("org.systemd.property.MemoryMax", "uint64 9999999999"),
    ("run.oci.mount_context_type", "none"),
    ("run.oci.handler", "krun"),
    ("module.wasm.image/variant", "compat"),
    ("ingot.dev/privileged", "true"),
];

const TRIALS: &[Trial] = &[
    Trial {
        name: "cve_2022_29162 cve_2022_24769 cve_2022_27652 cve_2022_27650 root inherits no capability",
        pod: None,
        ask: |_| {},
        script: "awk '/^Cap(Inh|Amb)/ {print $2}' /proc/1/status /proc/self/status | sort -u",
        expect: "0000000000000000",
    },
    Trial {
        name: "cve_2022_29162 cve_2025_27612 another user has no capability at all",
        pod: None,
        ask: |it| rights(it).run_as_user = Some(v1::Int64Value { value: 1000 }),
        script: "awk '/^Cap(Inh|Amb|Eff|Prm)/ {print $2}' /proc/1/status /proc/self/status | sort -u",
        expect: "0000000000000000",
    },
    Trial {
        name: "cve_2022_2995 cve_2023_25173 the whole list of groups is set, the first too",
        pod: None,
        ask: |it| rights(it).run_as_user = Some(v1::Int64Value { value: 1000 }),
        script: "awk '/^Groups/ {$1 = \"\"; print}' /proc/1/status /proc/self/status | sort -u",
        expect: "1000 50000",
    },
    Trial {
        name: "cve_2023_25809 the cgroup of a pod with ids of its own cannot be written",
        pod: Some(own_users),
        ask: |_| {},
        script: "mkdir /sys/fs/cgroup/x; (: >>/sys/fs/cgroup/cgroup.procs); (: >>/sys/fs/cgroup/memory.max)",
        expect: "mkdir: can't create directory '/sys/fs/cgroup/x': Read-only file system\n\
                 sh: can't create /sys/fs/cgroup/cgroup.procs: Permission denied\n\
                 sh: can't create /sys/fs/cgroup/memory.max: Permission denied",
    },
    Trial {
        name: "go_2022_0396 devices are refused unless they are allowed",
        pod: None,
        ask: |_| {},
        script: "mknod /dev/messages c 1 11; head -c 1 /dev/messages; mknod /dev/memory c 1 1; head -c 1 /dev/memory",
        expect: "head: /dev/messages: Operation not permitted\nhead: /dev/memory: Operation not permitted",
    },
    Trial {
        name: "go_2023_2412 the meters of power show nothing",
        pod: None,
        ask: |_| {},
        script: "ls /sys/devices/virtual/powercap 2>/dev/null",
        expect: "",
    },
    Trial {
        name: "cve_2023_6476 cve_2024_3154 annotations change neither limits nor rights",
        pod: Some(|it| {
            it.annotations =
                ANNOTATIONS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        }),
        ask: |it| {
            it.annotations =
                ANNOTATIONS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            limits(it).memory_limit_in_bytes = 64 << 20;
            limits(it).cpu_period = 100_000;
            limits(it).cpu_quota = 50_000;
        },
        script: "cd /sys/fs/cgroup; cat memory.max cpu.max; touch x; ls /dev/vda; awk '/^CapEff/ {print $2}' /proc/1/status",
        expect: "67108864\n50000 100000\ntouch: x: Read-only file system\nls: /dev/vda: No such file or directory\n00000000a80425fb",
    },
    Trial {
        name: "cve_2020_10749 a pod believes no router that its neighbours play",
        pod: None,
        ask: |_| {},
        script: "for file in /proc/sys/net/ipv6/conf/*/accept_ra; do case $file in */lo/*|*/all/*|*/default/*) ;; *) [ ! -e $file ] || cat $file ;; esac; done",
        expect: "0",
    },
    Trial {
        name: "cve_2020_15257 no socket without a file is there for pods in the node's network",
        pod: Some(|it| {
            it.hostname = String::new();
            namespaces(it).network = v1::NamespaceMode::Node.into();
        }),
        ask: |_| {},
        script: "awk '$8 ~ /^@/ {print $8}' /proc/net/unix",
        expect: "",
    },
];

const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "cve_2022_0811 a value carries no second kernel parameter",
        pod: Some(|it| sysctl(it, "kernel.shm_rmid_forced", "1+kernel.core_pattern=|/bin/sh")),
        ask: |_| {},
        says: "kernel",
    },
    Refusal {
        name: "cve_2022_0811 a value has no second line",
        pod: Some(|it| {
            sysctl(it, "kernel.sem", "32000 1024000000 500 32000\nkernel.core_pattern=x")
        }),
        ask: |_| {},
        says: "kernel.sem",
    },
    Refusal {
        name: "cve_2022_0532 parameters of the node's IPC are refused",
        pod: Some(|it| {
            namespaces(it).ipc = v1::NamespaceMode::Node.into();
            sysctl(it, "kernel.shmmax", "1");
        }),
        ask: |_| {},
        says: "kernel.shmmax",
    },
    Refusal {
        name: "cve_2023_2431 a seccomp profile without a name is not none",
        pod: None,
        ask: |it| rights(it).seccomp = Some(profile(ProfileType::Localhost, "")),
        says: "seccomp",
    },
    Refusal {
        name: "cve_2023_2431 an empty seccomp profile is not none",
        pod: None,
        ask: |it| {
            rights(it).seccomp = Some(profile(ProfileType::Localhost, "/var/attacks/empty.json"))
        },
        says: "seccomp",
    },
];

pub(super) async fn run(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    try_all(machine, bench, report, TRIALS).await;
    report
        .check("files for the attacks with profiles are made", machine, async |_| {
            bench.on_node(": >/node/var/attacks/empty.json").await.map(drop)
        })
        .await;
    let pattern = bench.on_node("cat /proc/sys/kernel/core_pattern").await;
    refuse_all(machine, bench, report, REFUSALS).await;
    report
        .check("cve_2022_0811 the node's parameter is what it was", machine, async |_| {
            let before = pattern.context("before")?;
            let now = bench.on_node("cat /proc/sys/kernel/core_pattern").await?;
            ensure!(before == now, "{before} before, {now} now");
            Ok(())
        })
        .await;
    report
        .check("cve_2025_47291 limits hold in every kind of pod", machine, async |_| {
            limited(bench).await
        })
        .await;
    report
        .check(
            "cve_2021_41103 cve_2024_25621 nobody else walks in the runtime's folders",
            machine,
            async |_| folders(bench).await,
        )
        .await;
    report
        .check("cve_2021_43816 files of the node are mounted as they are", machine, async |_| {
            relabel(bench).await
        })
        .await;
}

/// A container that takes too much memory is ended, however its pod is made.
async fn limited(bench: &mut Bench) -> anyhow::Result<()> {
    let kinds: [(&str, Kind); 4] = [
        ("plain", |_| {}),
        ("ids of its own", own_users),
        ("shared processes", |it| namespaces(it).pid = v1::NamespaceMode::Pod.into()),
        ("privileged", privileged_pod),
    ];
    for (kind, ask) in kinds {
        let pod = bench.pod(ask).await?;
        let options = pod.config.linux.as_ref().and_then(|it| it.security_context.clone());
        let id = bench
            .run(&pod, |it| {
                let options = options.unwrap_or_default();
                rights(it).privileged = options.privileged;
                rights(it).namespace_options = options.namespace_options;
                limits(it).memory_limit_in_bytes = 24 << 20;
                limits(it).memory_swap_limit_in_bytes = 24 << 20;
                it.mounts = vec![tools()];
                it.command = ["/tools/workload", "hog", "60"].map(str::to_owned).to_vec();
            })
            .await?;
        let ended = wait::until("it to be ended", OOM_LIMIT, async || {
            let status = bench.cri.status(&id).await?;
            Ok((status.state() == v1::ContainerState::ContainerExited).then_some(status))
        })
        .await?;
        ensure!(ended.reason == "OOMKilled", "{kind}: {} {}", ended.reason, ended.exit_code);
        bench.cri.remove_sandbox(&pod.id).await?;
    }
    Ok(())
}

/// The whole node, seen by somebody who is not root: as by any process of the node that is not.
async fn folders(bench: &mut Bench) -> anyhow::Result<()> {
    let pod = bench.pod(|_| {}).await?;
    let other = bench.pod(own_users).await?;
    let victim = bench.run(&other, |_| {}).await?;
    bench.shell(&victim, "echo mine >/secret && chmod 644 /secret").await?;
    let id = bench
        .run(&pod, |it| {
            it.mounts = vec![v1::Mount { readonly: true, ..mount("/", "/host") }];
            rights(it).run_as_user = Some(v1::Int64Value { value: 12_345 });
        })
        .await?;
    let script = format!(
        "for folder in /host/var/lib/ingot /host/var/lib/ingot/containers /host/var/lib/ingot/images /host/var/lib/ingot/sandboxes \
         /host/run/ingot/containers /host/run/ingot/runc /host/run/ingot/pods; do \
         ls $folder >/dev/null 2>&1 && echo \"$folder can be listed\"; done; \
         for file in /host/var/lib/ingot/containers/{victim}/upper/secret /host/run/ingot/containers/{victim}/bundle/config.json \
         /host/run/ingot/containers/{victim}/bundle/env; do cat $file 2>/dev/null; done; \
         (echo x | nc local:/host/run/ingot/cri.sock) 2>/dev/null && echo \"the CRI can be called\"; true"
    );
    let seen = bench.shell(&id, &script).await?;
    ensure!(seen.is_empty(), "{seen}");
    bench.cri.remove_sandbox(&other.id).await?;
    bench.cri.remove_sandbox(&pod.id).await
}

async fn relabel(bench: &mut Bench) -> anyhow::Result<()> {
    let look = "cd /node/var/attacks && stat -c '%u %g %a %z' secret";
    let before = bench.on_node(look).await?;
    let pod = bench.pod(|_| {}).await?;
    let secret = v1::Mount { selinux_relabel: true, ..mount("/var/attacks/secret", "/secret") };
    let made = bench.run(&pod, |it| it.mounts = vec![secret]).await;
    drop(made);
    let after = bench.on_node(look).await?;
    ensure!(before == after, "{before} before, {after} now");
    bench.cri.remove_sandbox(&pod.id).await
}
