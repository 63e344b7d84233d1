//! Mounts: who sees which, who may write, what of an image; and devices that a vendor describes.

use anyhow::ensure;

use super::bench::{Bench, Refusal, Trial, mount, privileged_pod, rights, tools};
use crate::cri::{self, v1};
use crate::machine::Machine;
use crate::report::Report;

/// Made on the node before the tables are tried: a folder with a mount in it.
pub(super) const PREPARE: &str = "mkdir -p /node/var/isolation/tree/sub /node/var/isolation/tree/late && \
     mount -t tmpfs tree /node/var/isolation/tree/sub && \
     seen=$(grep -c ' /var/isolation/tree/sub ' /proc/1/mountinfo); \
     [ \"$seen\" = 1 ] || { echo \"a mount made in /node is $seen times on the node\"; false; }";

/// Where the node has descriptions of devices; /var/run may be a link.
const DESCRIBE: &str = r#"
folder=/node/var/run/cdi
[ ! -L /node/var/run ] || folder=/node/run/cdi
mkdir -p $folder
cat >$folder/test.json <<'END'
{"cdiVersion": "0.6.0", "kind": "example.com/disk", "containerEdits": {"env": ["KIND=disk"]}, "devices": [
  {"name": "first", "containerEdits": {"env": ["FIRST=yes"],
    "deviceNodes": [{"path": "/dev/described", "hostPath": "/dev/vda", "permissions": "r"}],
    "mounts": [{"hostPath": "/var/isolation/tree", "containerPath": "/described", "options": ["ro", "bind"]}],
    "additionalGids": [4321]}},
  {"name": "hooked", "containerEdits": {"hooks": [{"hookName": "createRuntime", "path": "/bin/touch"}]}}]}
END
"#;

fn tree() -> v1::Mount {
    mount("/var/isolation/tree", "/tree")
}

fn propagated(propagation: v1::MountPropagation) -> v1::Mount {
    v1::Mount { propagation: propagation.into(), ..tree() }
}

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        name: "a read-only mount leaves what is mounted in it as it is",
        pod: None,
        ask: |it| it.mounts = vec![v1::Mount { readonly: true, ..tree() }],
        script: "touch /tree/x; touch /tree/sub/x && echo written below",
        expect: "touch: /tree/x: Read-only file system\nwritten below",
    },
    Trial {
        name: "a recursively read-only mount takes no writes anywhere",
        pod: None,
        ask: |it| {
            it.mounts = vec![v1::Mount { readonly: true, recursive_read_only: true, ..tree() }];
        },
        script: "touch /tree/x; touch /tree/sub/x",
        expect: "touch: /tree/x: Read-only file system\ntouch: /tree/sub/x: Read-only file system",
    },
    Trial {
        name: "an image is mounted whole, for reading and executing",
        pod: None,
        ask: |it| it.mounts = vec![tools()],
        script: "/tools/workload effective-uid; touch /tools/x; ls /tools",
        expect: "Effective uid: 0\ntouch: /tools/x: Read-only file system\netc\nworkload",
    },
    Trial {
        name: "a part of an image is mounted",
        pod: None,
        ask: |it| it.mounts = vec![v1::Mount { image_sub_path: "etc".to_owned(), ..tools() }],
        script: "ls /tools",
        expect: "group\npasswd",
    },
];

pub(super) const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "recursively read-only without read-only is refused",
        pod: None,
        ask: |it| it.mounts = vec![v1::Mount { recursive_read_only: true, ..tree() }],
        says: "recursive",
    },
    Refusal {
        name: "recursively read-only with the node's later mounts is refused",
        pod: None,
        ask: |it| {
            let tree = propagated(v1::MountPropagation::PropagationHostToContainer);
            it.mounts = vec![v1::Mount { readonly: true, recursive_read_only: true, ..tree }];
        },
        says: "recursive",
    },
    Refusal {
        name: "mounts that appear on the node need a privileged container",
        pod: None,
        ask: |it| it.mounts = vec![propagated(v1::MountPropagation::PropagationBidirectional)],
        says: "privileged",
    },
    Refusal {
        name: "a part of an image cannot be outside it",
        pod: None,
        ask: |it| it.mounts = vec![v1::Mount { image_sub_path: "../..".to_owned(), ..tools() }],
        says: "..",
    },
    Refusal {
        name: "a part of an image that is not there is refused",
        pod: None,
        ask: |it| it.mounts = vec![v1::Mount { image_sub_path: "none".to_owned(), ..tools() }],
        says: "none",
    },
    Refusal {
        name: "an image cannot be mounted for writing",
        pod: None,
        ask: |it| it.mounts = vec![v1::Mount { readonly: false, ..tools() }],
        says: "read",
    },
];

/// Mounts that are made later.
pub(super) async fn travel(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    report
        .check("mounts travel as was asked, and no others", machine, async |_| {
            let pod = bench.pod(privileged_pod).await?;
            let mut made = Vec::new();
            for propagation in [
                v1::MountPropagation::PropagationPrivate,
                v1::MountPropagation::PropagationHostToContainer,
                v1::MountPropagation::PropagationBidirectional,
            ] {
                let ask = |it: &mut v1::ContainerConfig| {
                    rights(it).privileged = true;
                    it.mounts = vec![propagated(propagation)];
                };
                made.push(bench.run(&pod, ask).await?);
            }
            let late = "mount -t tmpfs late /node/var/isolation/tree/late && touch /node/var/isolation/tree/late/seen";
            bench.on_node(late).await?;
            for (id, seen) in made.iter().zip(["", "seen", "seen"]) {
                let found = bench.shell(id, "ls /tree/late").await?;
                ensure!(found == seen, "{id} sees {found:?}, not {seen:?}");
            }
            for (number, (id, seen)) in made.iter().zip(["0", "0", "1"]).enumerate() {
                let make = format!("mkdir /tree/own{number} && mount -t tmpfs own /tree/own{number}");
                bench.shell(id, &make).await?;
                let count = format!("grep -c ' /var/isolation/tree/own{number} ' /proc/1/mountinfo; true");
                let found = bench.on_node(&count).await?;
                ensure!(found == seen, "the node sees {found} mounts of {id}, not {seen}");
            }
            bench.cri.remove_sandbox(&pod.id).await?;
            bench.on_node("umount /node/var/isolation/tree/own2 /node/var/isolation/tree/late").await.map(drop)
        })
        .await;
}

fn described(name: &str) -> Vec<v1::CdiDevice> {
    vec![v1::CdiDevice { name: format!("example.com/disk={name}") }]
}

/// Devices that a vendor describes (CDI).
pub(super) async fn vendors(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    report
        .check("a device that is described is given with all that belongs to it", machine, async |_| {
            bench.on_node(DESCRIBE).await?;
            let pod = bench.pod(|_| {}).await?;
            let id = bench.run(&pod, |it| it.cdi_devices = described("first")).await?;
            let script = "tr '\\0' '\\n' </proc/1/environ | grep -E '^(KIND|FIRST)='; head -c 512 /dev/described | wc -c; \
                          (: >>/dev/described) 2>&1; touch /described/x 2>&1; id -G | tr ' ' '\\n' | grep 4321";
            let seen = bench.shell(&id, script).await?;
            let expect = "KIND=disk\nFIRST=yes\n512\nsh: can't create /dev/described: Operation not permitted\n\
                          touch: /described/x: Read-only file system\n4321";
            ensure!(seen == expect, "{seen:?}");
            bench.cri.remove_sandbox(&pod.id).await
        })
        .await;
    for (name, device, word) in [
        ("a device that nobody describes is named", "none", "example.com/disk=none"),
        (
            "cve_2026_53492 a description that runs programs of the node is refused",
            "hooked",
            "hooks",
        ),
    ] {
        report
            .check(name, machine, async |_| {
                let pod = bench.pod(|_| {}).await?;
                let error = bench.run(&pod, |it| it.cdi_devices = described(device)).await;
                let error =
                    format!("{:#}", error.err().unwrap_or_else(|| anyhow::anyhow!("it was made")));
                ensure!(error.contains(word), "{error}");
                bench.cri.remove_sandbox(&pod.id).await
            })
            .await;
    }
    report
        .check("a file of the node is mounted as it is", machine, async |_| {
            let pod = bench.pod(|_| {}).await?;
            bench.on_node("echo text >/node/var/isolation/tree/file").await?;
            let one = cri::node_path("/var/isolation/tree/file");
            let one = v1::Mount { propagation: 0, container_path: "/etc/one".to_owned(), ..one };
            let id = bench.run(&pod, |it| it.mounts = vec![one]).await?;
            let seen = bench.shell(&id, "cat /etc/one").await?;
            ensure!(seen == "text", "{seen:?}");
            bench.cri.remove_sandbox(&pod.id).await
        })
        .await;
}
