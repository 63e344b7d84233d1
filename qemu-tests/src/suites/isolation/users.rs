//! Pods whose users are not the node's.

use anyhow::ensure;

use super::bench::{
    Bench, Pod, Refusal, Trial, mount, namespaces, privileged_pod, rights, sysctl, tools,
};
use crate::cri::v1;
use crate::machine::Machine;
use crate::report::Report;

/// First id on the node of the pods here.
const FIRST: u32 = 196_608;

/// How many ids they have.
const COUNT: u32 = 65_536;

fn ids() -> Vec<v1::IdMapping> {
    vec![v1::IdMapping { host_id: FIRST, container_id: 0, length: COUNT }]
}

/// User ids of its own for a pod.
pub(crate) fn own_users(config: &mut v1::PodSandboxConfig) {
    namespaces(config).userns_options =
        Some(v1::UserNamespace { mode: v1::NamespaceMode::Pod.into(), uids: ids(), gids: ids() });
}

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        name: "root of a pod with ids of its own owns its files and no others",
        pod: Some(own_users),
        ask: |_| {},
        script: "id -u; awk '{print $1, $2, $3}' /proc/self/uid_map; touch /f && stat -c '%u %g' /f /bin/busybox; \
                 chown 1000:1000 /f && stat -c %u /f; chown 70000 /f",
        expect: "0\n0 196608 65536\n0 0\n0 0\n1000\nchown: /f: Invalid argument",
    },
    Trial {
        name: "root of a pod with ids of its own makes no device nodes",
        pod: Some(own_users),
        ask: |_| {},
        script: "mknod /tmp/null c 1 3; echo x >/dev/null && head -c 1 /dev/zero | wc -c",
        expect: "mknod: /tmp/null: Operation not permitted\n1",
    },
    Trial {
        name: "a privileged container of a pod with ids of its own changes nothing of the node",
        pod: Some(|it| {
            own_users(it);
            privileged_pod(it);
        }),
        ask: |it| rights(it).privileged = true,
        script: "awk '/^CapEff/ {print $2}' /proc/1/status; (: >>/proc/sys/kernel/core_pattern); (: >>/proc/sysrq-trigger); \
                 mkdir -p /mnt; mount -t tmpfs none /mnt && echo its own mounts; date -s @1; hostname other && hostname",
        expect: "000001ffffffffff\nsh: can't create /proc/sys/kernel/core_pattern: Permission denied\n\
                 sh: can't create /proc/sysrq-trigger: Permission denied\nits own mounts\n\
                 date: can't set date: Operation not permitted\nThu Jan  1 00:00:01 UTC 1970\nother",
    },
    Trial {
        name: "kernel parameters are set in a pod with ids of its own",
        pod: Some(|it| {
            own_users(it);
            sysctl(it, "net.ipv4.ip_unprivileged_port_start", "0");
            sysctl(it, "kernel.shm_rmid_forced", "1");
        }),
        ask: |it| rights(it).run_as_user = Some(v1::Int64Value { value: 1000 }),
        script: "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced; id -u",
        expect: "0\n1\n1000",
    },
    Trial {
        name: "an image is mounted in a pod with ids of its own",
        pod: Some(own_users),
        ask: |it| it.mounts = vec![tools()],
        script: "/tools/workload effective-uid; touch /tools/x",
        expect: "Effective uid: 0\ntouch: /tools/x: Read-only file system",
    },
    Trial {
        name: "a device is given to a pod with ids of its own",
        pod: Some(own_users),
        ask: |it| {
            it.devices = vec![v1::Device {
                host_path: "/dev/full".to_owned(),
                container_path: "/dev/given".to_owned(),
                permissions: "rw".to_owned(),
            }];
        },
        script: "head -c 3 /dev/given | wc -c",
        expect: "3",
    },
    Trial {
        name: "containers of a pod with ids of its own share processes, and the first is nobody's",
        pod: Some(|it| {
            own_users(it);
            namespaces(it).pid = v1::NamespaceMode::Pod.into();
        }),
        ask: |it| {
            let options = rights(it).namespace_options.get_or_insert_default();
            options.pid = v1::NamespaceMode::Pod.into();
        },
        script: "cat /proc/1/comm; kill -9 1 2>/dev/null; ls /proc/1/fd /proc/1/root",
        expect: "pod-init\nls: /proc/1/root: Permission denied\n/proc/1/fd:\nls: can't open '/proc/1/fd': Permission denied",
    },
];

pub(super) const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "a user that the pod's ids do not have is refused",
        pod: Some(own_users),
        ask: |it| rights(it).run_as_user = Some(v1::Int64Value { value: 70_000 }),
        says: "70000 is not mapped",
    },
    Refusal {
        name: "two ranges of ids are refused",
        pod: Some(|it| {
            own_users(it);
            if let Some(options) = &mut namespaces(it).userns_options {
                options.uids.extend(ids());
            }
        }),
        ask: |_| {},
        says: "exactly one",
    },
    Refusal {
        name: "ids of its own and the node's network are refused",
        pod: Some(|it| {
            own_users(it);
            it.hostname = String::new();
            namespaces(it).network = v1::NamespaceMode::Node.into();
        }),
        ask: |_| {},
        says: "network",
    },
];

/// What only the node sees.
pub(super) async fn from_outside(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    report
        .check("on the node a pod with ids of its own is nobody", machine, async |_| {
            let pod = bench.pod(own_users).await?;
            let id = bench.run(&pod, |_| {}).await?;
            bench.shell(&id, "touch /made").await?;
            let process = bench.cri.process_id(&id).await?;
            let script = format!(
                "awk '/^(Uid|Gid)/ {{print $2, $3, $4, $5}}' /proc/{process}/status; stat -c '%u %g' /proc/{process}/root/made"
            );
            let seen = bench.on_node(&script).await?;
            let all = [FIRST; 4].map(|id| id.to_string()).join(" ");
            ensure!(seen == format!("{all}\n{all}\n{FIRST} {FIRST}"), "{seen}");
            bench.cri.remove_sandbox(&pod.id).await
        })
        .await;
    report
        .check("ids of files of the node are mapped where that was asked for", machine, async |_| {
            bench
                .on_node("mkdir -p /node/var/isolation/users && cd /node/var/isolation/users && chmod 755 . && echo own >file && chmod 600 file")
                .await?;
            let pod = bench.pod(own_users).await?;
            mapped(bench, &pod).await?;
            bench.cri.remove_sandbox(&pod.id).await
        })
        .await;
}

async fn mapped(bench: &mut Bench, pod: &Pod) -> anyhow::Result<()> {
    let id = bench
        .run(pod, |it| {
            let plain = mount("/var/isolation/users", "/plain");
            let mapped = mount("/var/isolation/users", "/mapped");
            let mapped = v1::Mount { uid_mappings: ids(), gid_mappings: ids(), ..mapped };
            it.mounts = vec![plain, mapped];
        })
        .await?;
    let script = "stat -c %u /plain/file /mapped/file; cat /plain/file 2>&1; cat /mapped/file; \
                  touch /plain/new 2>&1; touch /mapped/new && chown 1000 /mapped/new; stat -c %u /mapped/new";
    let seen = bench.shell(&id, script).await?;
    let expect = "65534\n0\ncat: can't open '/plain/file': Permission denied\nown\n\
                  touch: /plain/new: Permission denied\n1000";
    ensure!(seen == expect, "in the container: {seen:?}");
    let seen = bench.on_node("stat -c %u /node/var/isolation/users/new").await?;
    ensure!(seen == "1000", "on the node: {seen:?}");
    Ok(())
}
